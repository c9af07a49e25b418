"""Check the arguments of public methods against their annotations. Pure.

A wrong argument is refused by name before the method runs. The check is too slow for
methods that are called for every event.
"""

from __future__ import annotations

import contextlib
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
    """Let every public method of a class check its arguments first."""
    for name, member in list(vars(kind).items()):
        if inspect.isfunction(member) and not name.startswith("_"):
            setattr(kind, name, _checking(member))

    return kind


def _checking(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def called(*given: Any, **named: Any) -> Any:
        _check(function, given, named)
        return function(*given, **named)

    @functools.wraps(function)
    async def awaited(*given: Any, **named: Any) -> Any:
        return await called(*given, **named)

    @functools.wraps(function)
    async def iterated(*given: Any, **named: Any) -> AsyncIterator[Any]:
        async with contextlib.aclosing(called(*given, **named)) as items:
            async for item in items:
                yield item

    if inspect.iscoroutinefunction(function):
        return awaited
    return iterated if inspect.isasyncgenfunction(function) else called


def _check(
    function: Callable[..., Any], given: tuple[Any, ...], named: Mapping[str, Any]
) -> None:
    signature, hints = _known(function)
    try:
        bound = signature.bind(*given, **named)
    except TypeError:
        return  # The call itself raises a better error.

    for name, value in bound.arguments.items():
        if name in hints and not _fits(value, hints[name]):
            raise ConfigurationError(f"{name} is {_spoken(hints[name])}, not {value!r}")


@functools.cache
def _known(function: Callable[..., Any]) -> tuple[inspect.Signature, dict[str, Any]]:
    signature = inspect.signature(function)
    hints = typing.get_type_hints(function)
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            hints.pop(parameter.name, None)

    return signature, hints


def _fits(value: object, hint: Any) -> bool:
    origin, of = typing.get_origin(hint), typing.get_args(hint)
    if hint in (Any, object):
        return True
    if origin in _UNIONS:
        return any(_fits(value, part) for part in of)
    if origin is Literal:
        return isinstance(value, str) and value in of

    if hint is float or hint is int:
        kinds = (int, float) if hint is float else int
        return isinstance(value, kinds) and not isinstance(value, bool)

    kind = origin or hint
    if not isinstance(kind, type):
        return True
    if not isinstance(value, kind):
        return False
    if origin is None:
        return True
    return not isinstance(value, _TEXTS) and _items_fit(value, of)


def _items_fit(value: object, of: tuple[Any, ...]) -> bool:
    """Whether the items fit. Those of an iterator are not looked at: they would be gone."""
    if isinstance(value, Mapping) and len(of) == 2:
        return _items_fit(value.keys(), of[:1]) and _items_fit(value.values(), of[1:])
    if not isinstance(value, Collection) or not of:
        return True
    return all(_fits(item, of[0]) for item in value)


_ONE = {
    str: "a text",
    int: "an integer",
    float: "a number",
    bool: "True or False",
    type(None): "None",
}
_MANY = {str: "texts", int: "integers", float: "numbers"}


def _spoken(hint: Any) -> str:
    """An annotation in words."""
    origin, of = typing.get_origin(hint), typing.get_args(hint)
    if origin in _UNIONS:
        return " or ".join(dict.fromkeys(map(_spoken, of)))
    if origin is Literal:
        return " or ".join(map(repr, of))
    if origin is None:
        return _ONE.get(hint, f"a {getattr(hint, '__name__', hint)}")

    several = [
        _MANY.get(kind, f"{getattr(kind, '__name__', 'anything')}s") for kind in of
    ]
    if len(several) == 2:
        return f"a dictionary of {several[0]} to {several[1]}"
    return f"a list of {several[0]}"
