"""Groups of options that commands share: a frozen dataclass with a field for each option.

A command that is decorated with ``with_options`` takes such objects beside plain parameters. To typer, and so in the
help, it has every field as a parameter of its own, in the place of the object.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar

from streams.admin.actions import Target
from streams.cli.common import (
    AsJson,
    GroupName,
    Namespace,
    PartitionNumber,
    StreamName,
    Url,
    connected,
    person,
    run,
)
from streams.pipeline import Pipeline

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Server:
    """The server that a command talks to."""

    url: Url = None
    namespace: Namespace = None

    def ask(self, act: Callable[[Pipeline], Awaitable[T]]) -> T:
        """Open a pipeline without handlers, and run a coroutine function with it."""

        async def main() -> T:
            async with connected(self.url, self.namespace) as pipeline:
                return await act(pipeline)

        return run(main)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnServer(Server):
    """A server, and how the answer is written."""

    as_json: AsJson = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnPartition(OnServer):
    """All partitions of a stream or one, on a server, and how the answer is written."""

    partition: PartitionNumber = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneGroup:
    """A group of a stream."""

    stream: StreamName
    group: GroupName

    def on(self, pipeline: Pipeline, at: OnPartition) -> Target:
        """The group as the target of the caller."""
        return Target(
            pipeline=pipeline,
            stream=self.stream,
            group=self.group,
            by=person(),
            partition=at.partition,
        )

    def __str__(self) -> str:
        """Name both, as ``orders/billing``."""
        return f"{self.stream}/{self.group}"


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Let typer see the fields of the dataclasses that a command takes."""
    hints = typing.get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if _is_group(kind)}
    shown: list[inspect.Parameter] = []
    for name, given in inspect.signature(command).parameters.items():
        if name in groups:
            shown += _fields(groups[name])
        else:
            shown.append(
                given.replace(
                    kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name]
                )
            )

    @functools.wraps(command)
    def called(**given: Any) -> None:
        objects = {name: _object(kind, given) for name, kind in groups.items()}
        command(**given, **objects)

    called.__dict__["__signature__"] = inspect.Signature(shown)
    called.__annotations__ = {one.name: one.annotation for one in shown}
    return called


def _is_group(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _fields(kind: type) -> Iterator[inspect.Parameter]:
    """The fields as parameters: those of the class itself, then those of its bases."""
    hints = typing.get_type_hints(kind, include_extras=True)
    declared: Mapping[str, dataclasses.Field[Any]] = kind.__dict__[
        "__dataclass_fields__"
    ]
    for owner in kind.__mro__[:-1]:
        for name in vars(owner).get("__annotations__", ()):
            default = declared[name].default
            yield inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=(
                    inspect.Parameter.empty
                    if default is dataclasses.MISSING
                    else default
                ),
                annotation=hints[name],
            )


def _object(kind: type, given: dict[str, Any]) -> Any:
    """The object, of what is taken out of the values that typer gives."""
    fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(kind)
    return kind(**{one.name: given.pop(one.name) for one in fields})
