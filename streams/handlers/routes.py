"""Handlers and routes: which function serves which event types of a group."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from streams.common.arguments import checked_items, checked_seconds
from streams.errors import ConfigurationError
from streams.events.event import Event
from streams.handlers.threads import Threads
from streams.handlers.typed import body_of
from streams.handlers.upcasters import Upcasters
from streams.policy.limit import Limit, checked_limits
from streams.policy.retry import Retry, RetryPolicy
from streams.quantities import Seconds

HandlerFunction = Callable[[Event[Any]], Awaitable[Any]] | Callable[[Event[Any]], Any]
AsyncHandler = Callable[[Event[Any]], Awaitable[Any]]
Prepare = Callable[[Event[Any]], None]

ASYNC_SLOTS = 100
PLAIN_SLOTS = 32
"""Each takes a thread, and mostly a connection of a database that has a hundred for everybody."""

_threads = Threads()


class Route:
    """A handler with the rules of its attempts.

    ``prepare`` makes the event what the handler takes (upcasters, then the type in ``Event[T]``) and raises
    ``InvalidData``; None where there is nothing to do.

    Args:
        function: ``async def`` runs in the event loop, ``def`` in a thread. Its parameter may be annotated with
            ``Event[T]``; then the body is validated.
        types: event types that it serves; None: every type without a handler of its own.
        retry: when a failed event is tried again: a ``Retry``, or a policy of one's own.
        timeout: seconds, or a ``timedelta``, after which an attempt is cancelled and counts as failed; None: no limit.
            A plain function cannot be cancelled: its thread runs on, its result is dropped.
        limits: how often events of one key may start.

    Raises:
        ConfigurationError: the function cannot be called with one event, its annotation cannot be resolved, or a value
            is out of range.
    """

    __slots__ = (
        "_body",
        "call",
        "function",
        "limits",
        "prepare",
        "retry",
        "timeout",
        "types",
    )

    def __init__(
        self,
        function: HandlerFunction,
        *,
        types: Iterable[str] | None = None,
        retry: RetryPolicy | None = None,
        timeout: Seconds | None = None,
        limits: Iterable[Limit] = (),
    ) -> None:
        listed = (
            None
            if types is None
            else checked_items("types", types, f"types=[{_example(types)!r}]")
        )
        if listed is not None and not (
            listed and all(isinstance(kind, str) for kind in listed)
        ):
            raise ConfigurationError(
                "types is a list of one or more event types, or None for every type"
            )
        seconds = None if timeout is None else _checked_timeout(timeout)
        if retry is not None and (
            inspect.isclass(retry) or not isinstance(retry, RetryPolicy)
        ):
            raise ConfigurationError(
                f"retry is a Retry, e.g. retry=Retry(max_retries=5), or a RetryPolicy, not {retry!r}"
            )
        _check_callable(function)
        self.function = function
        self.types = None if listed is None else frozenset(listed)
        self.retry: RetryPolicy = Retry() if retry is None else retry
        self.timeout = seconds
        self.limits = checked_limits(limits)
        self.call: AsyncHandler = (
            function if _is_async(function) else ThreadCall(function)
        )
        self._body = body = body_of(function)
        self.prepare: Prepare | None = None
        if body is not None:
            read = body.read

            def fit(event: Event[Any]) -> None:
                event.data = read(event)

            self.prepare = fit

    def limited(self, seconds: float | None) -> Route:
        """The same route with a timeout; itself if it has one of its own, or none is given."""
        if seconds is None or self.timeout is not None:
            return self
        route = copy.copy(self)
        route.timeout = _checked_timeout(seconds)
        return route

    def after(self, upcast: Callable[[Event[Any]], bool]) -> Route:
        """The same route for events that pass upcasters first."""
        route = copy.copy(self)
        body = self._body

        def fit(event: Event[Any]) -> None:
            changed = upcast(event)
            if body is not None:
                event.data = (
                    body.convert(event.data, event) if changed else body.read(event)
                )

        route.prepare = fit
        return route


class Router:
    """The routes of one group: event type to handler."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self._by_type: dict[str, Route] = {}
        self._default: Route | None = None
        for route in routes:
            self.add(route)

    def add(self, route: Route) -> None:
        """Add a route.

        Raises:
            ConfigurationError: another handler of the group serves one of its types already, or has another limit of
                the same name.
        """
        known = {limit.name: limit for limit in self.limits()}
        for limit in route.limits:
            other = known.get(limit.name, limit)
            if (limit.parsed, limit.concurrency, limit.by) != (
                other.parsed,
                other.concurrency,
                other.by,
            ):
                raise ConfigurationError(
                    f"this group has another limit named {limit.name!r} already: give one of them another name=, e.g. "
                    f"Limit(..., name='{limit.name}-of-orders'). A function has no name of its own, so its limit is "
                    "called by its place in the list"
                )
        if route.types is None:
            if self._default is not None:
                raise ConfigurationError(
                    "this group has a handler for every type already: give types=[...] to one of the two"
                )
            self._default = route
            return
        for kind in route.types:
            if kind in self._by_type:
                raise ConfigurationError(
                    f"this group has a handler for type {kind!r} already"
                )
        self._by_type |= dict.fromkeys(route.types, route)

    def limits(self) -> tuple[Limit, ...]:
        """The limits of all routes, one of each name."""
        routes = [
            *self._by_type.values(),
            *([self._default] if self._default is not None else []),
        ]
        return tuple(
            {limit.name: limit for route in routes for limit in route.limits}.values()
        )

    def find(self, kind: str) -> Route | None:
        """The route for an event type, or None if nobody serves it."""
        return self._by_type.get(kind, self._default)

    def retry_for(self, kind: str) -> RetryPolicy:
        """The retry policy for an event type; the default one where no handler serves it."""
        route = self.find(kind)
        return route.retry if route is not None else Retry()

    def with_upcasters(self, upcasters: Upcasters) -> Router:
        """A router whose events pass the upcasters of their types; this one if there are none for it."""
        chains = {
            kind: upcast
            for kind, upcast in upcasters.chains().items()
            if self.find(kind) is not None
        }
        if not chains:
            return self
        router = Router()
        router._default, router._by_type = self._default, dict(self._by_type)
        for kind, upcast in chains.items():
            route = self.find(kind)
            if route is not None:
                router._by_type[kind] = route.after(upcast)
        return router

    def with_timeouts(self, seconds: Mapping[str | None, float]) -> Router:
        """A router whose routes without a timeout get one, by event type, else that of None."""
        if not seconds:
            return self
        router, others = Router(), seconds.get(None)
        for kind in {*self._by_type, *seconds}:
            route = None if kind is None else self.find(kind)
            if kind is not None and route is not None:
                router._by_type[kind] = route.limited(seconds.get(kind, others))
        router._default = (
            None if self._default is None else self._default.limited(others)
        )
        return router

    @property
    def slots(self) -> int:
        """How many handlers run at once where nobody says a number: fewer, if one of them takes a thread each time."""
        return (
            PLAIN_SLOTS
            if any(isinstance(route.call, ThreadCall) for route in self.routes())
            else ASYNC_SLOTS
        )

    def routes(self) -> list[Route]:
        """Every route once."""
        found = list(dict.fromkeys(self._by_type.values()))
        return [*found, self._default] if self._default is not None else found


def as_router(handler: Router | Route | HandlerFunction) -> Router:
    """A router around whatever stands for one."""
    if isinstance(handler, Router):
        return handler
    return Router([handler if isinstance(handler, Route) else Route(handler)])


def _example(types: object) -> str:
    return types if isinstance(types, str) else "order.created"


def _is_async(function: Callable[..., Any]) -> bool:
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        type(function).__call__
    )


class ThreadCall:
    """The call of a plain function, in a thread."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[Event[Any]], Any]) -> None:
        self._function = function

    async def __call__(self, event: Event[Any]) -> Any:
        """Call it."""
        return await _finished(await _threads.run(self._function, event))

    async def surrounded(
        self, event: Event[Any], arounds: Sequence[Callable[[], Any]]
    ) -> Any:
        """Call it with context managers around it, made and entered in its thread; outermost first."""

        def inside() -> Any:
            with ExitStack() as stack:
                for around in arounds:
                    entered = around()
                    if entered is not None:
                        stack.enter_context(entered)
                return self._function(event)

        return await _finished(await _threads.run(inside))


async def end_threads() -> None:
    """End the threads of plain handlers, and what they keep open; those of handlers that run yet after them.

    Another worker of this process gets new ones.
    """
    await _threads.end()


def busy_threads() -> int:
    """How many plain handlers run in this process, those that were given up included."""
    return _threads.busy


async def _finished(result: Any) -> Any:
    # A callable object or partial around an async function is only seen by what it returns.
    return await result if inspect.isawaitable(result) else result


def _checked_timeout(seconds: object) -> float:
    return checked_seconds("timeout", seconds, 0, 999_999_999, above=True)


def _check_callable(function: Any) -> None:
    if not callable(function):
        raise ConfigurationError(
            f"a handler is a function that takes one event, not {type(function).__name__}"
        )
    inner = function
    while isinstance(inner, partial):
        inner = inner.func
    if any(
        inspect.isasyncgenfunction(f) or inspect.isgeneratorfunction(f)
        for f in (inner, type(inner).__call__)
    ):
        name = getattr(function, "__qualname__", repr(function))
        raise ConfigurationError(
            f"handler {name} is a generator: its body would never run; remove 'yield'"
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    name = getattr(function, "__qualname__", repr(function))
    try:
        signature.bind(object())
    except TypeError:
        raise ConfigurationError(
            f"handler {name}{signature} cannot be called with one event: {_WRITE}"
        ) from None
    injected = [
        each.name for each in signature.parameters.values() if _is_injected(each)
    ]
    if injected:
        raise ConfigurationError(
            f"handler {name}: nothing fills its parameter {injected[0]!r}, as another framework does: {_WRITE}"
        )


_WRITE = (
    "it is given one Event and nothing else. Write async def handle(event: Event[Order]), read the body from "
    "event.data, and make what else it needs once per process (docs/how-to/resources.md)"
)
_INJECTING = frozenset(
    {
        "Depends",
        "Security",
        "Dependency",
        "TaskiqDepends",
        "Context",
        "Provide",
        "FromDishka",
        "Inject",
    }
)
"""Classes, of other frameworks, whose objects stand for what is put in their place."""


def _is_injected(parameter: inspect.Parameter) -> bool:
    noted = parameter.annotation
    if isinstance(noted, str) and any(f"{name}(" in noted for name in _INJECTING):
        return True
    marks = (parameter.default, *getattr(noted, "__metadata__", ()))
    return any(
        kind.__name__ in _INJECTING for mark in marks for kind in type(mark).__mro__
    )
