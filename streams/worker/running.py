"""One call of ``Pipeline.run``, from the call on: its coroutine may begin much later."""

from __future__ import annotations

from streams.worker.service import Service


class Run:
    """What ``Pipeline.stop`` tells to end: a run that is scheduled, one that opens connections, or one that serves.

    It lives as long as its coroutine, so one that nobody ever awaits leaves nothing behind.

    Attributes:
        is_begun: whether its coroutine was entered.
        is_stopped: whether it was told to end.
    """

    def __init__(self) -> None:
        self.is_begun = False
        self.is_stopped = False
        self._service: Service | None = None

    def stop(self) -> None:
        """End in order; called again: now. Before there is anything to end, nothing begins."""
        # In this order, and the other one in ``serve``: a thread may call this while the run begins.
        self.is_stopped = True
        if self._service is not None:
            self._service.stop()

    def serve(self, service: Service) -> bool:
        """Hand orders to this service from now on; False if it need not begin."""
        self._service = service
        return not self.is_stopped
