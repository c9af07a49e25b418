"""Threads for handlers that are plain functions: daemons, so that one that never returns cannot hang the exit."""

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
"""What a thread of a pool does at its end; no other thread has ``acts``."""


def at_thread_end(act: Callable[[], None]) -> None:
    """Call ``act`` in this thread when it ends: once, however often it is given.

    What a library keeps for each thread, such as a connection, is else closed when garbage is collected, or never.
    In threads that are of no pool it does nothing: their ends are not seen.
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
    """Tells the idle thread that takes it to end."""

    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]


_Jobs = queue.SimpleQueue[_Job | _End]


class Threads:
    """A pool that grows with the calls under way. Idle threads end by themselves.

    The standard library's pool joins its threads at exit, which a stuck handler would never allow.
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
        """How many calls are under way, those that were cancelled included."""
        return self._busy if self._origin.is_here else 0

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``function`` in a thread, in a copy of the caller's context.

        Cancelling the call abandons the thread: Python cannot stop it, its result is dropped.
        """
        if not self._origin.is_here:
            # Idle threads of the process that forked this one are none of it.
            self._begin()
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        answer: asyncio.Future[Any] = loop.create_future()
        with self._lock:
            self._busy += 1
            self._jobs.put(
                _Job(
                    lambda: context.run(function, *arguments),
                    loop,
                    answer,
                    self._origin,
                )
            )
            if self._idle > 0:
                self._idle -= 1
            else:
                name = "streams-handler"
                threading.Thread(
                    target=self._live, args=(self._jobs,), name=name, daemon=True
                ).start()
        return await answer

    async def end(self) -> None:
        """End the threads: idle ones now, the others after their calls. Calls that come later get new threads.

        Returns when the idle ones have done what ``at_thread_end`` was given.
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
            except Exception as error:  # noqa: BLE001 - the next one is to be called all the same
                told = {"error": type(error).__name__}
                logger.warning(
                    "a handler's thread ended and could not close what it had open",
                    extra=told,
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
                    # Of a pool that was told to end every idle thread has something to take.
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
                # A future cannot carry the first, and the second would close the coroutines that wait for it.
                error = RuntimeError(f"the handler raised {type(caught).__name__}")
            except BaseException as caught:  # noqa: BLE001 - SystemExit and the like belong to the caller too
                error = caught
            if not job.origin.is_here:
                # A child that was forked in there; its parent has this job, too.
                end_copy(error)
            with self._lock:
                self._busy -= 1
                goes_on = jobs is self._jobs
                self._idle += goes_on
            # The loop is closed: nobody waits for this any more.
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
