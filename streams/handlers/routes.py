"""Routes: the function and the rules for the event types of a group."""

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
"""Fewer, because each takes a thread and often one of a database's few connections."""

_threads = Threads()


class Route:
    """A handler with the rules of its attempts.

    ``prepare`` applies upcasters to an event, converts its body to the type in
    ``Event[T]``, and raises ``InvalidData``. It is None if both are not needed.

    Args:
        function: ``async def`` runs in the event loop, ``def`` in a thread. If its
            parameter is annotated with ``Event[T]``, the body is validated.
        types: its event types; None: every type without another handler.
        retry: when a failed event is tried again: a ``Retry``, or another policy.
        timeout: seconds, or a ``timedelta``, after which an attempt is cancelled and
            fails; None: never. A plain function cannot be cancelled: its thread runs on,
            and its result is dropped.
        limits: how often events of one key may start.

    Raises:
        ConfigurationError: the function cannot be called with one event, its annotation
            cannot be resolved, or a value is out of range.
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
        self.types = None if types is None else _checked_types(types)
        self.timeout = None if timeout is None else _checked_timeout(timeout)
        self.retry: RetryPolicy = Retry() if retry is None else retry
        if inspect.isclass(self.retry) or not isinstance(self.retry, RetryPolicy):
            raise ConfigurationError(
                "retry is a Retry, e.g. retry=Retry(max_retries=5), "
                f"or a RetryPolicy, not {retry!r}"
            )

        _check_callable(function)
        self.function = function
        self.limits = checked_limits(limits)
        is_async = _is_async(function)
        self.call: AsyncHandler = function if is_async else ThreadCall(function)
        self._body = body = body_of(function)
        self.prepare: Prepare | None = None
        if body is not None:
            read = body.read

            def fit(event: Event[Any]) -> None:
                event.data = read(event)

            self.prepare = fit

    def limited(self, seconds: float | None) -> Route:
        """The same route with a timeout, if it has none and one is given."""
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
            ConfigurationError: another handler of the group has one of its types, or
                another limit of the same name.
        """
        known = {limit.name: limit for limit in self.limits()}
        for limit in route.limits:
            other = known.get(limit.name, limit)
            if _rule_of(limit) != _rule_of(other):
                raise ConfigurationError(
                    f"this group has another limit named {limit.name!r} already: "
                    "give one of them another name=, "
                    f"e.g. Limit(..., name='{limit.name}-of-orders'). "
                    "A function has no name of its own, "
                    "so its limit is called by its place in the list"
                )

        if route.types is None:
            if self._default is not None:
                raise ConfigurationError(
                    "this group has a handler for every type already: "
                    "give types=[...] to one of the two"
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
        named: dict[str, Limit] = {}
        for route in self.routes():
            named |= {limit.name: limit for limit in route.limits}

        return tuple(named.values())

    def find(self, kind: str) -> Route | None:
        """The route for an event type, or None."""
        return self._by_type.get(kind, self._default)

    def retry_for(self, kind: str) -> RetryPolicy:
        """The retry policy for an event type; the default one for a type without handler."""
        route = self.find(kind)
        return route.retry if route is not None else Retry()

    def with_upcasters(self, upcasters: Upcasters) -> Router:
        """A router that applies upcasters to its events; itself if none apply."""
        routes: dict[str, Route] = {}
        for kind, upcast in upcasters.chains().items():
            route = self.find(kind)
            if route is not None:
                routes[kind] = route.after(upcast)

        if not routes:
            return self
        router = Router()
        router._default = self._default
        router._by_type = self._by_type | routes
        return router

    def with_timeouts(self, seconds: Mapping[str | None, float]) -> Router:
        """A router with timeouts by event type for routes without one; None: other types."""
        if not seconds:
            return self
        router = Router()
        others = seconds.get(None)
        for kind in {*self._by_type, *seconds}:
            route = None if kind is None else self.find(kind)
            if kind is not None and route is not None:
                router._by_type[kind] = route.limited(seconds.get(kind, others))

        if self._default is not None:
            router._default = self._default.limited(others)
        return router

    @property
    def slots(self) -> int:
        """The default concurrency, which is lower if a handler needs threads."""
        needs_threads = any(
            isinstance(route.call, ThreadCall) for route in self.routes()
        )
        return PLAIN_SLOTS if needs_threads else ASYNC_SLOTS

    def routes(self) -> list[Route]:
        """Every route once."""
        found = list(dict.fromkeys(self._by_type.values()))
        return [*found, self._default] if self._default is not None else found


def as_router(handler: Router | Route | HandlerFunction) -> Router:
    """A router with this route or function; a router stays as it is."""
    if isinstance(handler, Router):
        return handler
    return Router([handler if isinstance(handler, Route) else Route(handler)])


def _checked_types(types: Iterable[str]) -> frozenset[str]:
    example = types if isinstance(types, str) else "order.created"
    listed = checked_items("types", types, f"types=[{example!r}]")
    if not listed or not all(isinstance(kind, str) for kind in listed):
        raise ConfigurationError(
            "types is a list of one or more event types, or None for every type"
        )

    return frozenset(listed)


def _rule_of(limit: Limit) -> tuple[object, ...]:
    return limit.parsed, limit.concurrency, limit.by


def _inner(function: Any) -> tuple[Any, Any]:
    """A function without its partials, and the ``__call__`` of its class."""
    while isinstance(function, partial):
        function = function.func

    return function, type(function).__call__


def _is_async(function: Callable[..., Any]) -> bool:
    return any(map(inspect.iscoroutinefunction, _inner(function)))


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
        """Call it inside context managers that its thread creates and enters in order."""

        def inside() -> Any:
            with ExitStack() as stack:
                for around in arounds:
                    entered = around()
                    if entered is not None:
                        stack.enter_context(entered)

                return self._function(event)

        return await _finished(await _threads.run(inside))


async def end_threads() -> None:
    """End the threads of plain handlers, each of them after its present call.

    Another worker of this process gets new threads.
    """
    await _threads.end()


def busy_threads() -> int:
    """The number of running plain handlers of this process, abandoned ones included."""
    return _threads.busy


async def _finished(result: Any) -> Any:
    # A plain function may wrap an async one, which only its result shows.
    return await result if inspect.isawaitable(result) else result


def _checked_timeout(seconds: object) -> float:
    return checked_seconds("timeout", seconds, 0, 999_999_999, above=True)


def _check_callable(function: Any) -> None:
    if not callable(function):
        raise ConfigurationError(
            "a handler is a function that takes one event, "
            f"not {type(function).__name__}"
        )

    name = getattr(function, "__qualname__", repr(function))
    for inner in _inner(function):
        if inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner):
            raise ConfigurationError(
                f"handler {name} is a generator: its body would never run; "
                "remove 'yield'"
            )

    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return

    try:
        signature.bind(object())
    except TypeError:
        raise ConfigurationError(
            f"handler {name}{signature} cannot be called with one event: {_WRITE}"
        ) from None

    for parameter in signature.parameters.values():
        if _is_injected(parameter):
            raise ConfigurationError(
                f"handler {name}: nothing fills its parameter {parameter.name!r}, "
                f"as another framework does: {_WRITE}"
            )


_WRITE = (
    "it is given one Event and nothing else. "
    "Write async def handle(event: Event[Order]), read the body from event.data, "
    "and make what else it needs once per process (docs/how-to/resources.md)"
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
"""Classes of other frameworks that mark a parameter for dependency injection."""


def _is_injected(parameter: inspect.Parameter) -> bool:
    noted = parameter.annotation
    if isinstance(noted, str) and any(f"{name}(" in noted for name in _INJECTING):
        return True

    for mark in (parameter.default, *getattr(noted, "__metadata__", ())):
        if any(kind.__name__ in _INJECTING for kind in type(mark).__mro__):
            return True

    return False
