"""The harness for tests that block."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar

from streams import sync
from streams.admin.dead_letter import DeadLetter
from streams.common.arguments import checked_kind
from streams.common.blocks import Blocking
from streams.events.event import Event
from streams.quantities import Seconds
from streams.testing.harness import Harness, Left
from streams.testing.recording import Failure

R = TypeVar("R")


class BlockingHarness(Blocking):
    """Binds a blocking pipeline to a test; see ``Harness``.

    Use it as ``with BlockingHarness(pipeline) as harness:``.

    ``def`` handlers run in their own threads, and may use the pipeline. ``async def``
    handlers run in the thread of the pipeline's blocking calls, and await
    ``pipeline.asynchronous``.

    Args:
        pipeline: a ``streams.sync.Pipeline``; its connections are closed first.
        url, namespace, raise_errors: see ``Harness``.
    """

    def __init__(
        self,
        pipeline: sync.Pipeline,
        *,
        url: str | None = None,
        namespace: str = "",
        raise_errors: bool = False,
    ) -> None:
        checked_kind("pipeline", pipeline, sync.Pipeline, "a streams.sync.Pipeline")
        self.pipeline = pipeline
        self._harness = Harness(
            pipeline.asynchronous,
            url=url,
            namespace=namespace,
            raise_errors=raise_errors,
        )

    def __enter__(self) -> Self:
        self.pipeline.close()
        self._harness.bind()
        # The blocking calls use the same pipeline, so that they are recorded and travel.
        portal = self.pipeline.portal
        self._make = portal.make
        portal.make = lambda: self.pipeline.asynchronous
        try:
            self._call(self._harness.open)
        except BaseException:
            self._leave()
            raise

        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._call(self._harness.close)
        finally:
            self._leave()

    def _leave(self) -> None:
        self.pipeline.close()
        self.pipeline.portal.make = self._make
        self._harness.unbind()

    @property
    def namespace(self) -> str:
        """The first part of the keys of this test."""
        return self._harness.namespace

    def drain(self, *, within: float = 10.0) -> int:
        """Run the handlers until nothing is left to do now; see ``Harness.drain``."""
        return self._call(lambda: self._harness.drain(within=within))

    def travel(self, seconds: Seconds) -> None:
        """Let time pass; see ``Harness.travel``."""
        self._call(lambda: self._harness.travel(seconds))

    def unfinished(self) -> list[Left]:
        """The unfinished events of each group with a handler; see ``Harness.unfinished``."""
        return self._call(self._harness.unfinished)

    def published(self, stream: str, *, type: str | None = None) -> list[Event[Any]]:
        """The published events of a stream; see ``Harness.published``."""
        return self._harness.published(stream, type=type)

    def done(
        self, stream: str, group: str, *, type: str | None = None
    ) -> list[Event[Any]]:
        """Events whose handler returned, in that order."""
        return self._harness.done(stream, group, type=type)

    def failures(
        self, stream: str, group: str, *, type: str | None = None
    ) -> list[Failure]:
        """Attempts that raised, in that order."""
        return self._harness.failures(stream, group, type=type)

    def dead(self, stream: str, group: str) -> list[DeadLetter]:
        """The dead letters of a group, oldest first."""
        return self._call(lambda: self._harness.dead(stream, group))

    def _call(self, function: Callable[[], Awaitable[R]]) -> R:
        return self.pipeline.portal.call(lambda _: function())
