"""The thread bridge: the event loop of one thread, which blocking threads call into.

The standard library carries the calls; see ADR 13 for what was weighed against it.
Under gevent the thread is one of the operating system, and greenlets wait for it as
greenlets do.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import Generic, TypeVar

from streams.common import native
from streams.common.forking import at_fork
from streams.errors import BrokerUnavailable, ConfigurationError, StreamsError
from streams.pipeline import Pipeline

R = TypeVar("R")

_MOST_ITEMS = 256
_PATIENCE = 10.0
"""Seconds that calls under way get to finish when the thread bridge closes."""
_PATIENCE_AT_EXIT = 1.0
"""The same at the end of the interpreter, when only daemon threads can have any."""


class _Call(Generic[R]):
    """A call that one thread makes and another one answers."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._bell = native.new_bell()
        self._task: asyncio.Task[R] | None = None
        self._is_cancelled = False
        self._result: R | None = None
        self._error: BaseException | None = None

    def begin(self, make: Callable[[], Coroutine[None, None, R]]) -> None:
        """Start it; in the loop's thread, so that nothing is made that would never be awaited."""
        if self._is_cancelled:
            return
        self._task = self._loop.create_task(make())
        self._task.add_done_callback(self._end)

    def cancel(self) -> None:
        """No thread waits for it any more."""
        self._is_cancelled = True
        # The loop has ended, and the call with it.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._drop)

    def result(self) -> R:
        """Wait for the end; raises what the call raised."""
        self._bell.wait()
        try:
            if self._error is not None:
                raise self._error
            return self._result  # type: ignore[return-value]  # there is one, if there is no error
        finally:
            self._error = None  # Its traceback holds this frame.

    def _drop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _end(self, task: asyncio.Task[R]) -> None:
        # Read in any case: the interpreter would report an error that no code reads.
        self._error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if self._error is None:
            self._result = task.result()
        self._task = None
        self._bell.ring()


class _Session:
    """One event loop in one thread, and the pipeline that is open in it.

    It serves until ``close``; then it is used up.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        # Reentrant: a signal handler or a finalizer may call while this thread is about
        # to.
        self._lock = threading.RLock()
        self._closing = False
        self._patience = _PATIENCE
        self._end = asyncio.Event()
        self._opening = asyncio.Lock()
        self._is_open = False
        self._loop: asyncio.AbstractEventLoop
        has_loop = native.new_bell()
        self._thread = native.start(partial(self._main, has_loop), "streams-sync")
        has_loop.wait()

    def submit(self, function: Callable[[Pipeline], Awaitable[R]]) -> _Call[R] | None:
        """Start a call in the thread; None if the session takes no more calls."""
        with self._lock:
            if self._closing:
                return None
            call: _Call[R] = _Call(self._loop)
            self._loop.call_soon_threadsafe(call.begin, partial(self._call, function))
            return call

    def close(self, patience: float) -> None:
        """End the session, and close the connections.

        Calls under way get ``patience`` seconds before that.
        """
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self._patience = patience
        # After everything submitted: the loop keeps the order.
        self._loop.call_soon_threadsafe(self._end.set)
        if not self._thread.is_current():
            self._thread.join(patience + _PATIENCE_AT_EXIT)

    async def _call(self, function: Callable[[Pipeline], Awaitable[R]]) -> R:
        if not self._is_open:
            async with self._opening:
                if not self._is_open:
                    await self.pipeline.__aenter__()
                    self._is_open = True
        return await function(self.pipeline)

    def _main(self, has_loop: native.Bell) -> None:
        # Not asyncio.run: at its end it starts a thread, which an interpreter that is
        # ending refuses.
        self._loop = native.new_event_loop()
        has_loop.ring()
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        await self._end.wait()
        calls = asyncio.all_tasks() - {asyncio.current_task()}
        if calls:
            _, late = await asyncio.wait(calls, timeout=self._patience)
            for call in late:
                call.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._is_open:
            # At the end of the interpreter no thread can be started any more; the
            # embedded server then closes itself.
            with contextlib.suppress(RuntimeError, StreamsError):
                await self.pipeline.__aexit__(None, None, None)


class Portal:
    """Blocking calls into a pipeline that lives in a thread of its own.

    The thread starts and the pipeline opens with the first call. After a fork the child
    begins anew, with a thread and connections of its own. At the end of the interpreter
    everything is closed; the thread is a daemon, so it can not hold up the exit.

    Args:
        make: makes the pipeline that is opened, once per session.
    """

    def __init__(self, make: Callable[[], Pipeline]) -> None:
        self.make = make
        self._lock = threading.RLock()
        self._session: _Session | None = None
        self._users = 0
        _portals.add(self)

    def enter(self) -> None:
        """Open now, for a ``with`` block; raises what opening a pipeline raises."""
        self.call(_nothing)
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """The end of a ``with`` block; that of the last one closes."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            self.close()

    def call(self, function: Callable[[Pipeline], Awaitable[R]]) -> R:
        """Call a coroutine function with the open pipeline, and wait for its result.

        Whatever interrupts the waiting thread (Ctrl-C, an exception of a signal
        handler) cancels the call.

        Raises:
            ConfigurationError: an event loop runs in this thread, or eventlet has
                replaced threads.
            BrokerUnavailable: the pipeline was closed during the call.
        """
        refuse_in_event_loop()
        native.refuse_eventlet()
        call = self._submit(function)
        try:
            return call.result()
        except asyncio.CancelledError:
            raise BrokerUnavailable(
                "the pipeline was closed during the call", sent=True
            ) from None
        except BaseException:
            call.cancel()
            raise

    def iterate(self, make: Callable[[Pipeline], AsyncIterator[R]]) -> Iterator[R]:
        """The items of an asynchronous iterator, moved over in batches.

        The batches grow: 1, 2, 4 and so on.

        Raises:
            ConfigurationError: an event loop runs in this thread, or the pipeline was
                closed meanwhile.
        """
        found: list[tuple[Pipeline, AsyncIterator[R]]] = []
        size = 1
        while True:
            items: list[R] = []

            async def pull(
                pipeline: Pipeline, items: list[R] = items, size: int = size
            ) -> bool:
                if not found:
                    found.append((pipeline, make(pipeline)))
                owner, source = found[0]
                if owner is not pipeline:
                    raise ConfigurationError(
                        "the pipeline was closed, or the process forked, during this "
                        "iteration"
                    )
                while len(items) < size:
                    try:
                        items.append(await anext(source))
                    except StopAsyncIteration:
                        return False
                return True

            try:
                more = self.call(pull)
            except StreamsError:
                yield from items
                raise
            yield from items
            if not more:
                return
            size = min(2 * size, _MOST_ITEMS)

    def close(self, patience: float = _PATIENCE) -> None:
        """End the thread and close the connections; calls under way get ``patience`` seconds.

        The next call opens new ones.
        """
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close(patience)

    def _submit(self, function: Callable[[Pipeline], Awaitable[R]]) -> _Call[R]:
        while True:
            with self._lock:
                session = self._session
                if session is None:
                    session = self._session = _Session(self.make())
            call = session.submit(function)
            if call is not None:
                return call
            with self._lock:
                if self._session is session:
                    self._session = None

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        if self._session is not None:
            # Kept for ever: its end would close what this process shares with the
            # parent, an epoll among it.
            _inherited.append(self._session)
            self._session = None


async def _nothing(_: Pipeline) -> None:
    """Open, and no more."""


def refuse_in_event_loop(*, even_in_notebook: bool = False) -> None:
    """Refuse to block in a thread that runs an event loop.

    Blocking would stop the loop, and everything that runs in it. A cell of a notebook
    stops its loop anyway.

    Raises:
        ConfigurationError: an event loop runs in this thread, and it is not a
            notebook's.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if _is_notebook() and not even_in_notebook:
        return
    raise ConfigurationError(
        "streams.sync blocks, which would stop the event loop that runs in this "
        "thread: "
        "use streams.Pipeline here and await its methods"
    )


def _is_notebook() -> bool:
    """Whether this process is the kernel of a notebook, whose event loop waits for each cell."""
    shell = sys.modules.get("IPython")
    return (
        "ipykernel" in sys.modules
        and shell is not None
        and hasattr(shell.get_ipython(), "kernel")
    )


_portals: weakref.WeakSet[Portal] = weakref.WeakSet()
_inherited: list[_Session] = []


def _in_child() -> None:
    for portal in list(_portals):
        portal._after_fork()  # noqa: SLF001 - of this module


def _at_exit() -> None:
    for portal in list(_portals):
        portal.close(_PATIENCE_AT_EXIT)


at_fork(after_in_child=_in_child)
atexit.register(_at_exit)
