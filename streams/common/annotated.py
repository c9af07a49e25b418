"""Methods that hold callers to their annotations: a wrong kind of argument is refused by name, before anything is done.

For what operators and programs call now and then, not for what is called for every event. Pure.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Any, Literal, TypeVar

from streams.errors import ConfigurationError

C = TypeVar("C", bound=type)
_UNIONS = (typing.Union, types.UnionType)
_TEXTS = (str, bytes)


def holds_to_annotations(kind: C) -> C:
    """Let every public method of a class look at its arguments first."""
    for name, member in list(vars(kind).items()):
        if inspect.isfunction(member) and not name.startswith("_"):
            setattr(kind, name, _holding(member))
    return kind


def _holding(function: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*given: Any, **named: Any) -> Any:
            _look(function, given, named)
            return await function(*given, **named)

        return awaited
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def iterated(*given: Any, **named: Any) -> AsyncIterator[Any]:
            _look(function, given, named)
            items = function(*given, **named)
            try:
                async for item in items:
                    yield item
            finally:
                await items.aclose()

        return iterated

    @functools.wraps(function)
    def called(*given: Any, **named: Any) -> Any:
        _look(function, given, named)
        return function(*given, **named)

    return called


def _look(
    function: Callable[..., Any], given: tuple[Any, ...], named: Mapping[str, Any]
) -> None:
    signature, hints = _known(function)
    try:
        bound = signature.bind(*given, **named)
    except TypeError:
        return  # The call itself says it better.
    for name, value in bound.arguments.items():
        if name in hints and not _fits(value, hints[name]):
            raise ConfigurationError(f"{name} is {_spoken(hints[name])}, not {value!r}")


@functools.cache
def _known(function: Callable[..., Any]) -> tuple[inspect.Signature, dict[str, Any]]:
    signature = inspect.signature(function)
    plain = {
        p.name
        for p in signature.parameters.values()
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }
    return signature, {
        name: hint
        for name, hint in typing.get_type_hints(function).items()
        if name in plain
    }


def _fits(value: object, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if hint in (Any, object):
        return True
    if origin in _UNIONS:
        return any(_fits(value, part) for part in typing.get_args(hint))
    if origin is Literal:
        return isinstance(value, str) and value in typing.get_args(hint)
    if hint is float or hint is int:
        return not isinstance(value, bool) and isinstance(
            value, (int, float) if hint is float else int
        )
    kind = origin or hint
    if kind is None or not isinstance(kind, type):
        return True
    if not isinstance(value, kind) or (
        origin is not None and isinstance(value, _TEXTS)
    ):
        return False
    return origin is None or _holds(value, typing.get_args(hint))


def _holds(value: object, of: tuple[Any, ...]) -> bool:
    """Whether what is in it fits, as far as it can be looked at without taking it out."""
    if isinstance(value, Mapping) and len(of) == 2:
        return all(
            _fits(key, of[0]) and _fits(item, of[1]) for key, item in value.items()
        )
    return not (isinstance(value, Collection) and of) or all(
        _fits(item, of[0]) for item in value
    )


def _spoken(hint: Any) -> str:
    """An annotation in words."""
    origin, of = typing.get_origin(hint), typing.get_args(hint)
    if origin in _UNIONS:
        return " or ".join(dict.fromkeys(map(_spoken, of)))
    if origin is Literal:
        return " or ".join(map(repr, of))
    if origin is not None:
        return (
            f"a dictionary of {_many(of[0])} to {_many(of[1])}"
            if len(of) == 2
            else f"a list of {_many(of[0])}"
        )
    words = {
        str: "a text",
        int: "an integer",
        float: "a number",
        bool: "True or False",
        type(None): "None",
    }
    return words.get(hint, f"a {getattr(hint, '__name__', hint)}")


def _many(hint: Any) -> str:
    return {str: "texts", int: "integers", float: "numbers"}.get(
        hint, f"{getattr(hint, '__name__', 'anything')}s"
    )
