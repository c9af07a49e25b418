"""Threads for handlers that are plain functions: daemons, so that one that never returns cannot hang the exit."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from streams.forks import Origin, end_copy

_IDLE_SECONDS = 30.0


class _Job(NamedTuple):
    function: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]
    origin: Origin


class Threads:
    """A pool that grows with the calls under way. Idle threads end by themselves.

    The standard library's pool joins its threads at exit, which a stuck handler would never allow.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._idle = 0
        self._lock = threading.Lock()
        self._origin = Origin()

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``function`` in a thread, in a copy of the caller's context.

        Cancelling the call abandons the thread: Python cannot stop it, its result is dropped.
        """
        if not self._origin.is_here:
            self._begin()  # Idle threads of the process that forked this one are none of it.
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        answer: asyncio.Future[Any] = loop.create_future()
        self._jobs.put(_Job(lambda: context.run(function, *arguments), loop, answer, self._origin))
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
            else:
                threading.Thread(target=self._serve, name="streams-handler", daemon=True).start()
        return await answer

    def _serve(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._idle > 0:
                        self._idle -= 1
                        return
                continue
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
                end_copy(error)  # A child that was forked in there; its parent has this job, too.
            with self._lock:
                self._idle += 1
            with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits for this any more.
                job.loop.call_soon_threadsafe(_deliver, job.answer, result, error)
            del job, result, error


def _deliver(answer: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)
