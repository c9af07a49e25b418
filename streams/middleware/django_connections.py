"""Maintenance of Django's database connections in handlers.

Django closes an old or broken connection at the end of a request. A handler is not a
request: after a restart of the database, its thread would keep the broken connection and
fail with it for ever.
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
"""Seconds after which connections are checked again. A check is a round trip to each."""
_loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
"""Event loops of ``async def`` handlers, which may have left connections open."""


class DjangoConnections(Middleware):
    """Checks the database connections of a handler's thread around each attempt.

    After an attempt, a connection is closed if it is broken or older than
    ``CONN_MAX_AGE``, as after a request. Before an attempt, an idle connection is tested,
    so that the attempt does not fail because of a restart of the database. If one
    connection is broken, every thread tests its own before its next attempt. The
    connections of a handler's thread are closed when the thread ends.

    A worker adds this middleware itself if Django is loaded and configured at its start.
    """

    def __init__(self) -> None:
        self._own = threading.local()
        self._broken = 0
        self._asked_at = 0.0
        self._asked_for = 0

    def around(self, attempt: Attempt) -> _Looked:
        """Check before and after. Django runs the queries of ``async def`` in one thread."""
        return _Looked(self)

    def before_attempt(self) -> None:
        """Close broken connections of the handler's thread."""
        at_thread_end(_close_all)
        now = time.monotonic()
        broken = self._broken
        is_old = now - getattr(self._own, "at", 0.0) > _UNASKED_SECONDS
        tests = is_old or getattr(self._own, "broken", 0) != broken
        for connection in _connections():
            connection.close_if_unusable_or_obsolete()
            if not tests or connection.connection is None or connection.in_atomic_block:
                continue

            if not connection.is_usable():
                connection.close()

        if tests:
            self._own.at = now
            self._own.broken = broken

    def after_attempt(self) -> None:
        """Close old and broken connections of the handler's thread."""
        for connection in _connections():
            failed = connection.errors_occurred and connection.connection is not None
            connection.close_if_unusable_or_obsolete()
            if failed and connection.connection is None:
                self._broken += 1

        self._own.at = time.monotonic()

    @property
    def wants_look(self) -> bool:
        """Whether to check the shared thread of ``async def`` handlers before an attempt."""
        now = time.monotonic()
        if self._asked_for == self._broken and now - self._asked_at <= _UNASKED_SECONDS:
            return False

        self._asked_at, self._asked_for = now, self._broken
        return True


class _Looked:
    """The checks around one attempt, in its thread or in the event loop."""

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
    """``DjangoConnections``, if Django is configured and the list has none."""
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    if settings is None or not settings.configured or not settings.DATABASES:
        return ()
    if any(isinstance(one, DjangoConnections) for one in given):
        return ()
    return (DjangoConnections(),)


async def let_go() -> None:
    """Close the connections that ``async def`` handlers of this event loop left open.

    Django's thread for them may be the program's own. Therefore a connection inside a
    transaction, which is not a handler's, stays open.
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
