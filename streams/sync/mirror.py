"""Blocking classes, made from the asynchronous ones.

They have the same methods, each of which waits for its result.

The classes made here at import stand, for type checkers and editors, in ``made.pyi``,
which ``python docs/tooling/blocking.py`` writes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from types import FunctionType
from typing import Any

from streams.events.names import checked_name
from streams.pipeline import Pipeline
from streams.quantities import Seconds
from streams.sync.portal import Portal


class Mirror:
    """Something of a pipeline, as its asynchronous class sees it, for programs that block.

    Args:
        portal: into the pipeline.
    """

    twin: Any

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._given: tuple[Any, ...] = ()
        self._options: dict[str, Any] = {}

    def _of(self, pipeline: Pipeline) -> Any:
        return self.twin(pipeline.broker, *self._given, **self._options)


class StreamMirror(Mirror):
    """A view of one stream.

    Args:
        portal: into the pipeline.
        stream: the stream's name.
        by: the name of the operator, for the audit record.
        partition: the number of one partition; None: all.
    """

    def __init__(
        self, portal: Portal, stream: str, *, by: str = "", partition: int | None = None
    ) -> None:
        super().__init__(portal)
        self.stream = checked_name(stream, "stream")
        self._given = (self.stream,)
        self._options = {"by": by, "partition": partition}


class GroupMirror(StreamMirror):
    """A view of one group of a stream.

    Args:
        portal: into the pipeline.
        stream, group: names.
        by: the name of the operator, for the audit record.
        partition: the number of one partition; None: all.
    """

    def __init__(
        self,
        portal: Portal,
        stream: str,
        group: str,
        *,
        by: str = "",
        partition: int | None = None,
    ) -> None:
        super().__init__(portal, stream, by=by, partition=partition)
        self.group = checked_name(group, "group")
        self._given = (self.stream, self.group)


class TrackingMirror(Mirror):
    """A view of the tracked events of one stream.

    Args:
        portal: into the pipeline.
        stream: the stream's name.
        ranks: the states, with their ranks.
        retention: seconds after the latest note.
    """

    def __init__(
        self, portal: Portal, stream: str, ranks: Mapping[str, int], retention: Seconds
    ) -> None:
        super().__init__(portal)
        self._given = (checked_name(stream, "stream"), ranks, retention)


def mirror(
    twin: type, base: type, without: Collection[str], views: Mapping[str, type]
) -> type:
    """The blocking class for ``twin``.

    It has what ``base`` does by hand, and the rest of the public methods of ``twin``.

    Args:
        twin: the asynchronous class, which gives the name.
        base: the class with the blocking methods written by hand.
        without: names that have no blocking form.
        views: by name, classes that the methods of ``twin`` hand out, in their blocking
            form.
    """
    members: dict[str, Any] = {
        name: _blocking(name, member, views)
        for name, member in mirrored(twin, base, without).items()
    }
    members["__module__"] = "streams.sync"
    members["__doc__"] = class_text(twin, base)
    if issubclass(base, Mirror):
        members["twin"] = twin
    return type(twin.__name__, (base,), members)


def mirrored(twin: type, base: type, without: Collection[str] = ()) -> dict[str, Any]:
    """The public methods of ``twin`` that ``base`` lacks, those of its own bases first."""
    found: dict[str, Any] = {}
    for kind in reversed(twin.__mro__[:-1]):
        found |= vars(kind)
    return {
        name: member
        for name, member in found.items()
        if (inspect.isfunction(member) or isinstance(member, property))
        and not (name.startswith("_") or name in without or hasattr(base, name))
    }


def class_text(twin: type, base: type) -> str | None:
    """The docstring of the blocking class."""
    if not issubclass(base, Mirror):
        return base.__doc__
    return (twin.__doc__ or "").replace(
        "broker: an open broker.", "portal: into the pipeline."
    )


def _blocking(name: str, member: Any, views: Mapping[str, type]) -> Any:
    if isinstance(member, property):
        getter: Any = member.fget
        return property(_like(getter, lambda self: getattr(self.asynchronous, name)))
    result = member.__annotations__["return"]

    def call(self: Any, /, *given: Any, **named: Any) -> Any:
        return self._portal.call(
            lambda pipeline: getattr(self._of(pipeline), name)(*given, **named)
        )

    def iterate(self: Any, /, *given: Any, **named: Any) -> Any:
        return self._portal.iterate(
            lambda pipeline: getattr(self._of(pipeline), name)(*given, **named)
        )

    def view(self: Any, /, *given: Any, **named: Any) -> Any:
        return views[result](self._portal, *given, **named)

    def declare(self: Any, /, *given: Any, **named: Any) -> Any:
        return getattr(self.asynchronous, name)(*given, **named)

    if result.startswith("AsyncIterator"):
        return _like(_iterating(member), iterate)
    if inspect.iscoroutinefunction(member):
        return _like(member, call)
    return _like(member, view if result in views else declare)


def _like(member: Callable[..., Any], made: Callable[..., Any]) -> Callable[..., Any]:
    """Give the made method name, docstring and signature of the member.

    Its module is where the class stands.
    """
    functools.update_wrapper(made, member).__module__ = "streams.sync"
    return made


def _iterating(member: Callable[..., Any]) -> Callable[..., Any]:
    """A method with the signature of ``member``, whose result a plain ``for`` reads.

    It is never called.
    """
    inner = inspect.unwrap(member)
    if not isinstance(inner, FunctionType):
        raise TypeError(f"{member} is no method")
    like = FunctionType(
        inner.__code__, inner.__globals__, inner.__name__, inner.__defaults__
    )
    like.__kwdefaults__ = inner.__kwdefaults__
    like.__doc__ = inner.__doc__
    like.__qualname__ = inner.__qualname__
    like.__annotations__ = inner.__annotations__ | {
        "return": inner.__annotations__["return"].removeprefix("Async")
    }
    return like
