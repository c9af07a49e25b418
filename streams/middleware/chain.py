"""The chain: the middleware of one group, composed once when its consumer starts."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import Any

from streams.common.arguments import checked_items, checked_mapping, checked_seconds
from streams.common.log_facts import logger_of
from streams.errors import ConfigurationError, HandlerSignal, Skip
from streams.events.event import Event
from streams.handlers.routes import ThreadCall
from streams.logs import failure_facts, say_what_ends
from streams.middleware.base import Around, Attempt, Middleware, Place

logger = logger_of("middleware")

Before = Callable[[Attempt], Any]
Call = Callable[[Event[Any]], Awaitable[Any]]


class Chain:
    """The overridden hooks of a list of middleware, in the order of their calls.

    Args:
        middleware: the list, outermost first.

    Raises:
        ConfigurationError: an item is not a middleware.

    Attributes:
        entering: the ``before`` hooks, if there are no other hooks. They can be called
            without ``run``.
        wraps: whether there are other hooks of attempts, which need ``run``.
    """

    def __init__(self, middleware: Sequence[Middleware]) -> None:
        for item in checked_items("middleware", middleware, "middleware=[Context()]"):
            if not isinstance(item, Middleware):
                raise _not_middleware(item)

        self._middleware = list(middleware)
        self._count = len(self._middleware)
        self._befores: list[tuple[int, Before]] = []
        self._endings: list[tuple[int, Before | None, bool]] = []
        self._arounds: list[Callable[[Attempt], Around | None]] = []
        for position, one in enumerate(self._middleware):
            if _overrides(one, "before"):
                self._befores.append((position, one.before))

            if _overrides(one, "around"):
                self._arounds.append(one.around)

            after = one.after if _overrides(one, "after") else None
            fails = _overrides(one, "failed")
            if after is not None or fails:
                self._endings.insert(0, (position, after, fails))

        self.wraps = bool(self._endings or self._arounds)
        self.entering: tuple[Before, ...] = ()
        if not self.wraps:
            self.entering = tuple(before for _, before in self._befores)

    def timeouts(self) -> dict[str | None, float]:
        """The timeout of each event type in seconds, None for other types.

        If two middlewares set the same one, the outer one wins.

        Raises:
            ConfigurationError: a middleware returns an invalid value.
        """
        found: dict[str | None, float] = {}
        for middleware in reversed(self._middleware):
            what = f"timeouts() of the middleware {type(middleware).__name__}"
            given = middleware.timeouts()
            limits = checked_mapping(what, given, "{'order.paid': 5.0, None: 30.0}")
            for kind, limit in limits.items():
                name = f"{what} for {kind!r}"
                found[kind] = checked_seconds(name, limit, 0, 999_999_999, above=True)

        return found

    async def start(self, place: Place) -> None:
        """Start every middleware in order; if one fails, stop the started ones."""
        started: list[Middleware] = []
        try:
            for middleware in self._middleware:
                await finished(middleware.start(place))
                started.append(middleware)
        except BaseException as error:
            name = type(self._middleware[len(started)]).__name__
            where = f"{place.stream}/{place.group}"
            say_what_ends(error, f"the middleware {name} cannot start for {where}")
            await self._stop(started, place)
            raise

    async def stop(self, place: Place) -> None:
        """Stop every middleware in reverse order, also if one fails."""
        await self._stop(self._middleware, place)

    async def _stop(self, started: Sequence[Middleware], place: Place) -> None:
        for middleware in reversed(started):
            try:
                await finished(middleware.stop(place))
            except Exception as error:  # noqa: BLE001 - the others still stop
                where = f"{place.stream}/{place.group}"
                _log("a middleware cannot stop", error, middleware, where)

    async def run(self, attempt: Attempt, call: Call) -> None:
        """Run ``call`` with the hooks around it.

        Raises:
            BaseException: the failure of the attempt after the ``failed`` hooks.
        """
        entered, failure = await self._enter(attempt, call)
        for at, after, failed in self._endings:
            if at >= entered:
                continue  # Its own ``before`` hook, or an outer one, did not return.

            if failure is not None:
                if failed:
                    failure = await self._told(at, attempt, failure)
            elif after is not None:
                try:
                    result = after(attempt)
                    if result is not None:
                        await finished(result)
                except BaseException as error:  # noqa: BLE001 - it fails the attempt
                    failure = attempt.explained(error)

        if failure is not None:
            raise failure

    async def _enter(
        self, attempt: Attempt, call: Call
    ) -> tuple[int, BaseException | None]:
        """Run the ``before`` hooks and the handler.

        Returns the number of entered middlewares, and the failure.
        """
        attempt.skipped = False
        entered = 0
        try:
            for at, before in self._befores:
                entered = at
                result = before(attempt)
                if result is not None:
                    await finished(result)

            entered = self._count
            if self._arounds:
                await self._surrounded(attempt, call)
            else:
                await call(attempt.event)
        except Skip:
            attempt.skipped = True
        except BaseException as error:  # noqa: BLE001 - it fails the attempt
            return entered, attempt.explained(error)

        return entered, None

    async def _surrounded(self, attempt: Attempt, call: Call) -> None:
        """Call the handler inside the ``around`` hooks, in the thread where it runs."""
        if isinstance(call, ThreadCall):
            arounds = [partial(around, attempt) for around in self._arounds]
            await call.surrounded(attempt.event, arounds)
            return

        async with AsyncExitStack() as stack:
            for around in self._arounds:
                entered = around(attempt)
                if isinstance(entered, AbstractAsyncContextManager):
                    await stack.enter_async_context(entered)
                elif entered is not None:
                    stack.enter_context(entered)

            await call(attempt.event)

    async def _told(
        self, at: int, attempt: Attempt, failure: BaseException
    ) -> BaseException:
        """Call one ``failed`` hook; returns the failure from here on."""
        middleware = self._middleware[at]
        try:
            answer = await finished(middleware.failed(attempt, failure))
        except HandlerSignal as signal:
            answer = signal
        except BaseException as error:  # noqa: BLE001 - the attempt keeps its own failure
            attempt.explained(error)
            where = f"{attempt.event.stream}/{attempt.event.group}"
            _log("a middleware's failed hook raised", error, middleware, where)
            return failure

        if isinstance(failure, asyncio.CancelledError) and attempt.cancelled:
            return failure
        return answer if isinstance(answer, BaseException) else failure


async def finished(result: Any) -> Any:
    """The result of a hook, plain or asynchronous."""
    return await result if inspect.isawaitable(result) else result


def _not_middleware(item: object) -> ConfigurationError:
    text = "middleware is a list of objects derived from streams.middleware.Middleware"
    hint = ""
    if inspect.isclass(item) and issubclass(item, Middleware):
        hint = f"; write {item.__name__}()"

    return ConfigurationError(f"{text}, not {item!r}{hint}")


def _overrides(middleware: Middleware, hook: str) -> bool:
    found = getattr(middleware, hook)
    return getattr(found, "__func__", found) is not getattr(Middleware, hook)


def _log(what: str, error: BaseException, middleware: Middleware, where: str) -> None:
    facts = {"where": where, "middleware": type(middleware).__name__}
    logger.error(what, extra=facts | failure_facts(error))
