"""Django's database connections, kept fit for use in handlers as Django keeps them in requests.

Django closes a connection that is old or broken at the end of a request. A handler is no request: its thread would keep
a connection that a restart of the database has ended, and fail with it for ever.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import weakref
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from streams.handlers.threads import at_thread_end
from streams.middleware.base import Attempt, Middleware

_UNASKED_SECONDS = 1.0
"""How old the last look at a thread's connections may be; looking costs one round trip to each database."""
_loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
"""Event loops whose ``async def`` handlers may have left connections in the thread of their queries."""


class DjangoConnections(Middleware):
    """Looks after the connections of the thread that a handler runs in, before and after each attempt.

    After an attempt a connection is closed when it is older than ``CONN_MAX_AGE`` or broken, as after a request. Before
    one, a connection that was idle is asked whether it still works, so that no attempt fails because the database was
    restarted meanwhile; where one was found broken, every thread asks before its next attempt. When a handler's thread
    ends, its connections are closed.

    It is found by itself where Django is loaded and configured when the worker starts.
    """

    def __init__(self) -> None:
        self._own = threading.local()
        self._broken = 0
        self._asked_at = 0.0
        self._asked_for = 0

    def around(self, attempt: Attempt) -> _Looked:
        """Look before and after; ``async def`` handlers have the one thread in which Django runs their queries."""
        return _Looked(self)

    def before_attempt(self) -> None:
        """In the handler's thread: no connection that it will find here is broken."""
        at_thread_end(_close_all)
        now, broken = time.monotonic(), self._broken
        asks = (
            now - getattr(self._own, "at", 0.0) > _UNASKED_SECONDS
            or getattr(self._own, "broken", 0) != broken
        )
        for connection in _connections():
            connection.close_if_unusable_or_obsolete()
            is_idle = (
                connection.connection is not None and not connection.in_atomic_block
            )
            if asks and is_idle and not connection.is_usable():
                connection.close()
        if asks:
            self._own.at, self._own.broken = now, broken

    def after_attempt(self) -> None:
        """In the handler's thread: nothing is kept that is old or broken."""
        for connection in _connections():
            failed = connection.errors_occurred and connection.connection is not None
            connection.close_if_unusable_or_obsolete()
            if failed and connection.connection is None:
                self._broken += 1
        self._own.at = time.monotonic()

    @property
    def wants_look(self) -> bool:
        """Whether the thread of ``async def`` handlers is to be looked at: not for every attempt, it is shared."""
        now = time.monotonic()
        if self._asked_for == self._broken and now - self._asked_at <= _UNASKED_SECONDS:
            return False
        self._asked_at, self._asked_for = now, self._broken
        return True


class _Looked:
    """Around one attempt. A plain handler's is entered in its thread, an asynchronous one's in the event loop."""

    def __init__(self, keeper: DjangoConnections) -> None:
        self._keeper = keeper

    def __enter__(self) -> None:
        self._keeper.before_attempt()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._keeper.after_attempt()

    async def __aenter__(self) -> None:
        _loops.add(asyncio.get_running_loop())
        if self._keeper.wants_look:
            await _in_its_thread(self._keeper.before_attempt)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception):
            await _in_its_thread(self._keeper.after_attempt)


def found(given: Iterable[Middleware]) -> tuple[Middleware, ...]:
    """What this program needs and does not name: the connections of Django, where Django is there and set up."""
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    if settings is None or not settings.configured or not settings.DATABASES:
        return ()
    return (
        ()
        if any(isinstance(one, DjangoConnections) for one in given)
        else (DjangoConnections(),)
    )


async def let_go() -> None:
    """Close what ``async def`` handlers of this event loop have left in the thread of their queries.

    That thread is Django's, and may be the program's own: what is amid a transaction there is no handler's, and stays.
    """
    loop = asyncio.get_running_loop()
    if loop in _loops:
        _loops.discard(loop)
        await _in_its_thread(_close_unused)


def _close_all() -> None:
    for connection in _connections():
        connection.close()


def _close_unused() -> None:
    for connection in _connections():
        if not connection.in_atomic_block:
            connection.close()


def _connections() -> list[Any]:
    from django.db import connections

    return list(connections.all(initialized_only=True))


async def _in_its_thread(look: Any) -> None:
    from asgiref.sync import sync_to_async

    await sync_to_async(look, thread_sensitive=True)()
