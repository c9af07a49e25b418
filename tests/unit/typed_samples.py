"""Handlers whose annotations are texts, as ``from __future__ import annotations`` makes them."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Annotated, Any, Optional

import streams
from streams import Event as Happening

if TYPE_CHECKING:
    from streams.nowhere import Missing

    from streams import Event


@dataclasses.dataclass
class Order:
    id: int
    note: str = ""


async def asynchronous(event: Happening[Order]) -> None: ...


def plain(event: streams.Event[Order]) -> None: ...


def quoted(event: Happening["Order"]) -> None: ...  # noqa: UP037


def in_annotated(event: Annotated[Happening[Order], "a remark"]) -> None: ...


def nested(event: Happening[list["Order"]]) -> None: ...  # noqa: UP037


class Handling:
    async def __call__(self, event: Happening[Order]) -> None: ...

    def method(self, event: Happening[Order]) -> None: ...

    @classmethod
    def of_class(cls, event: Happening[Order]) -> None: ...

    @staticmethod
    def static(event: Happening[Order]) -> None: ...


def two(extra: int, event: Happening[Order]) -> None: ...


def decorated_by(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return function(*arguments)

    return wrapper


@decorated_by
def decorated(event: Happening[Order]) -> None: ...


def any_data(event: Happening[Any]) -> None: ...


def bare(event: Happening) -> None: ...


def for_the_checker(event: Event) -> None: ...


def missing(event: Happening[Missing]) -> None: ...


def for_the_checker_typed(event: Event[Order]) -> None: ...


def broken(event: "Happening[") -> None: ...  # noqa: F722


def optional(event: Optional[Happening[Order]]) -> None: ...  # noqa: UP045


def return_is_unknown(event: Happening[Order]) -> Missing: ...


TYPED = {
    "async def": asynchronous,
    "def": plain,
    "quoted": quoted,
    "annotated": in_annotated,
    "object": Handling(),
    "method": Handling().method,
    "class method": Handling.of_class,
    "static method": Handling.static,
    "partial": functools.partial(two, 1),
    "partial of partial": functools.partial(functools.partial(two), 1),
    "decorated": decorated,
}
UNTYPED = (any_data, bare, for_the_checker)
