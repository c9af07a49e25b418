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
from streams.middleware.base import Attempt, Middleware, Place

logger = logger_of("middleware")

Before = Callable[[Attempt], Any]
Call = Callable[[Event[Any]], Awaitable[Any]]


class Chain:
    """Hooks in the order in which they run; those that nobody overrides are not in it.

    Args:
        middleware: the list, outermost first.

    Raises:
        ConfigurationError: an item is no middleware.

    Attributes:
        entering: the ``before`` hooks, where nothing else is overridden: they can be called without a chain.
        wraps: whether there is any other hook of attempts, so that they must go through ``run``.
    """

    def __init__(self, middleware: Sequence[Middleware]) -> None:
        for item in checked_items("middleware", middleware, "middleware=[Context()]"):
            if not isinstance(item, Middleware):
                hint = (
                    f"; write {item.__name__}()"
                    if inspect.isclass(item) and issubclass(item, Middleware)
                    else ""
                )
                raise ConfigurationError(
                    f"middleware is a list of objects derived from streams.middleware.Middleware, not {item!r}{hint}"
                )
        self._middleware = list(middleware)
        self._count = len(self._middleware)
        self._befores = [
            (at, m.before)
            for at, m in enumerate(self._middleware)
            if _overrides(m, "before")
        ]
        self._endings = [
            (
                at,
                m.after if _overrides(m, "after") else None,
                m.failed if _overrides(m, "failed") else None,
            )
            for at, m in reversed(list(enumerate(self._middleware)))
            if _overrides(m, "after") or _overrides(m, "failed")
        ]
        self._arounds = tuple(
            m.around for m in self._middleware if _overrides(m, "around")
        )
        self.wraps = bool(self._endings or self._arounds)
        self.entering: tuple[Before, ...] = (
            () if self.wraps else tuple(before for _, before in self._befores)
        )

    def timeouts(self) -> dict[str | None, float]:
        """Seconds by event type, None for the others; where two set one, the outer wins.

        Raises:
            ConfigurationError: a middleware gives something else.
        """
        found: dict[str | None, float] = {}
        for middleware in reversed(self._middleware):
            what = f"timeouts() of the middleware {type(middleware).__name__}"
            limits = checked_mapping(
                what, middleware.timeouts(), "{'order.paid': 5.0, None: 30.0}"
            )
            for kind, limit in limits.items():
                found[kind] = checked_seconds(
                    f"{what} for {kind!r}", limit, 0, 999_999_999, above=True
                )
        return found

    async def start(self, place: Place) -> None:
        """Start every middleware in order; if one cannot, those before it are stopped."""
        started: list[Middleware] = []
        try:
            for middleware in self._middleware:
                await finished(middleware.start(place))
                started.append(middleware)
        except BaseException as error:
            name = type(self._middleware[len(started)]).__name__
            say_what_ends(
                error,
                f"the middleware {name} cannot start for {place.stream}/{place.group}",
            )
            await self._stop(started, place)
            raise

    async def stop(self, place: Place) -> None:
        """Stop every middleware, in reverse; one that cannot does not keep the others from it."""
        await self._stop(self._middleware, place)

    async def _stop(self, started: Sequence[Middleware], place: Place) -> None:
        for middleware in reversed(started):
            try:
                await finished(middleware.stop(place))
            except Exception as error:  # noqa: BLE001 - it is logged, and the others have their turn
                _log(
                    "a middleware cannot stop",
                    error,
                    middleware,
                    f"{place.stream}/{place.group}",
                )

    async def run(self, attempt: Attempt, call: Call) -> None:
        """Run ``call`` with the hooks around it.

        Raises:
            BaseException: what the attempt failed with, after the ``failed`` hooks.
        """
        entered, failure = await self._enter(attempt, call)
        for at, after, failed in self._endings:
            if at >= entered:
                continue  # Its own before, or one further out, did not come to its end.
            if failure is not None:
                if failed is not None:
                    failure = await self._told(at, attempt, failure)
            elif after is not None:
                try:
                    result = after(attempt)
                    if result is not None:
                        await finished(result)
                except BaseException as error:  # noqa: BLE001 - whatever it is, the attempt has failed with it
                    failure = attempt.explained(error)
        if failure is not None:
            raise failure

    async def _enter(
        self, attempt: Attempt, call: Call
    ) -> tuple[int, BaseException | None]:
        """Run the ``before`` hooks and the handler; returns how many were entered, and what went wrong."""
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
        except BaseException as error:  # noqa: BLE001 - whatever it is, the hooks are told and it goes on
            return entered, attempt.explained(error)
        return entered, None

    async def _surrounded(self, attempt: Attempt, call: Call) -> None:
        """Call the handler with what surrounds it, in the thread where it runs."""
        if isinstance(call, ThreadCall):
            await call.surrounded(
                attempt.event, [partial(around, attempt) for around in self._arounds]
            )
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
        """Call one ``failed`` hook; returns what the attempt fails with from here on."""
        middleware = self._middleware[at]
        try:
            answer = await finished(middleware.failed(attempt, failure))
        except HandlerSignal as signal:
            answer = signal
        except BaseException as error:  # noqa: BLE001 - the attempt has failed already: its own error stays
            attempt.explained(error)
            where = f"{attempt.event.stream}/{attempt.event.group}"
            _log("a middleware's failed hook raised", error, middleware, where)
            return failure
        decided = isinstance(failure, asyncio.CancelledError) and attempt.cancelled
        return answer if isinstance(answer, BaseException) and not decided else failure


async def finished(result: Any) -> Any:
    """What a hook gives in the end, whether it is plain or not."""
    return await result if inspect.isawaitable(result) else result


def _overrides(middleware: Middleware, hook: str) -> bool:
    found = getattr(middleware, hook)
    return getattr(found, "__func__", found) is not getattr(Middleware, hook)


def _log(what: str, error: BaseException, middleware: Middleware, where: str) -> None:
    logger.error(
        what,
        extra={
            "where": where,
            "middleware": type(middleware).__name__,
            **failure_facts(error),
        },
    )
