"""Daemon threads for plain handlers: a stuck handler cannot block the exit."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from streams.common.forks import Origin, end_copy
from streams.common.log_facts import logger_of

logger = logger_of("worker")

_IDLE_SECONDS = 30.0
_own = threading.local()
"""A thread of a pool has ``acts`` here: the functions to call at its end."""


def at_thread_end(act: Callable[[], None]) -> None:
    """Call ``act`` once when this thread of a pool ends.

    A library's resource per thread, such as a connection, would otherwise be closed late
    or never. Other threads ignore the call, because their end is not observed.
    """
    acts: dict[Callable[[], None], None] | None = getattr(_own, "acts", None)
    if acts is not None:
        acts[act] = None


class _Job(NamedTuple):
    function: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]
    origin: Origin


class _End(NamedTuple):
    """A job that ends the idle thread that takes it."""

    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]


_Jobs = queue.SimpleQueue[_Job | _End]


class Threads:
    """A pool with a thread for every running call. Idle threads end after a while.

    The pool of the standard library joins its threads at exit, and a stuck handler would
    block that.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._jobs: _Jobs = queue.SimpleQueue()
        self._idle = 0
        self._busy = 0
        self._lock = threading.Lock()
        self._origin = Origin()

    @property
    def busy(self) -> int:
        """The number of running calls, cancelled ones included."""
        return self._busy if self._origin.is_here else 0

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``function`` in a thread, in a copy of the caller's context.

        If the call is cancelled, the thread runs on and its result is dropped, because
        Python cannot stop a thread.
        """
        if not self._origin.is_here:
            # A fork does not inherit the threads of its parent.
            self._begin()

        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        answer: asyncio.Future[Any] = loop.create_future()

        def call() -> Any:
            return context.run(function, *arguments)

        with self._lock:
            self._busy += 1
            self._jobs.put(_Job(call, loop, answer, self._origin))
            if self._idle > 0:
                self._idle -= 1
            else:
                name = "streams-handler"
                threading.Thread(
                    target=self._live, args=(self._jobs,), name=name, daemon=True
                ).start()

        return await answer

    async def end(self) -> None:
        """End the threads: idle ones now, the others after their calls.

        Later calls get new threads. Returns when the idle threads have called the
        functions of ``at_thread_end``.
        """
        if not self._origin.is_here:
            return

        loop = asyncio.get_running_loop()
        with self._lock:
            jobs, self._jobs = self._jobs, queue.SimpleQueue()
            ends = [_End(loop, loop.create_future()) for _ in range(self._idle)]
            self._idle = 0
            for end in ends:
                jobs.put(end)

        await asyncio.gather(*(end.answer for end in ends))

    def _live(self, jobs: _Jobs) -> None:
        acts: dict[Callable[[], None], None] = {}
        _own.acts = acts
        end = self._serve(jobs)
        for act in acts:
            try:
                act()
            except Exception as error:  # noqa: BLE001 - the other functions still run
                logger.warning(
                    "a handler's thread ended and could not close what it had open",
                    extra={"error": type(error).__name__},
                )

        if end is not None:
            with contextlib.suppress(RuntimeError):  # The loop is closed, as below.
                end.loop.call_soon_threadsafe(_deliver, end.answer, None, None)

    def _serve(self, jobs: _Jobs) -> _End | None:
        while True:
            try:
                job = jobs.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    # After ``end`` every idle thread has an ``_End`` to take.
                    if jobs is self._jobs and self._idle > 0:
                        self._idle -= 1
                        return None

                continue

            if isinstance(job, _End):
                return job

            result: Any = None
            error: BaseException | None = None
            try:
                result = job.function()
            except (StopIteration, GeneratorExit) as caught:
                # A future refuses StopIteration; GeneratorExit closes its awaiters.
                error = RuntimeError(f"the handler raised {type(caught).__name__}")
            except BaseException as caught:  # noqa: BLE001 - the caller gets SystemExit, too
                error = caught

            if not job.origin.is_here:
                # The handler forked this child, whose parent has the job, too.
                end_copy(error)

            with self._lock:
                self._busy -= 1
                goes_on = jobs is self._jobs
                self._idle += goes_on

            # A closed loop raises, and no caller waits any more.
            with contextlib.suppress(RuntimeError):
                job.loop.call_soon_threadsafe(_deliver, job.answer, result, error)

            del job, result, error
            if not goes_on:
                return None


def _deliver(
    answer: asyncio.Future[Any], result: Any, error: BaseException | None
) -> None:
    if answer.done():
        return

    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)
