"""One call of ``Pipeline.run``, whose coroutine may begin much later."""

from __future__ import annotations

from streams.worker.service import Service


class WorkerRun:
    """A run that ``Pipeline.stop`` can end: before it begins, while it opens, or later.

    It lives as long as its coroutine, so that a coroutine without an await leaves nothing
    behind.

    Attributes:
        is_begun: whether its coroutine has started.
        is_stopped: whether ``stop`` was called.
    """

    def __init__(self) -> None:
        self.is_begun = False
        self.is_stopped = False
        self._service: Service | None = None

    def stop(self) -> None:
        """End after the handlers; a second call cancels them. A run may not have begun."""
        # ``serve`` has the reverse order, because another thread may call this meanwhile.
        self.is_stopped = True
        if self._service is not None:
            self._service.stop()

    def serve(self, service: Service) -> bool:
        """Pass stops to this service from now on; False if the run is stopped already."""
        self._service = service
        return not self.is_stopped
