"""The blocking pipeline and producer, as written by hand; ``made`` adds the rest.

Each has its class of the asynchronous side inside, or reaches it through the thread
bridge.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Self, Unpack

from streams import pipeline as asynchronous
from streams.common.blocks import Blocking
from streams.common.hints import PIPELINE, missing
from streams.errors import ConfigurationError, PublishUnknown, StreamFull, StreamsError
from streams.events.event import EventAttributes
from streams.events.names import checked_name
from streams.events.receipt import BatchOutcome, Receipt
from streams.middleware.base import Middleware
from streams.publishing.batcher import BATCH_EVENTS
from streams.publishing.source import check_events
from streams.settings import Settings
from streams.sync.portal import Portal, refuse_in_event_loop

_AT_ONCE = 8 * BATCH_EVENTS
"""Events per crossing into the thread bridge.

There, one request is prepared while another is under way.
"""


class BlockingProducer:
    """Publishes events on one stream; threads that publish at the same time share round trips.

    Args:
        portal: into the pipeline.
        stream: the stream's name.
    """

    def __init__(self, portal: Portal, stream: str) -> None:
        self.stream = checked_name(stream, "stream")
        self._portal = portal

    def publish(
        self,
        data: Any,
        *,
        type: str | None = None,
        **attributes: Unpack[EventAttributes],
    ) -> Receipt:
        """Publish one event; when this returns, the server has stored it.

        See ``streams.Producer.publish``.
        """
        return self._portal.call(
            lambda p: p.producer(self.stream).publish(data, type=type, **attributes)
        )

    def publish_many(
        self,
        events: Iterable[Any],
        *,
        type: str | None = None,
        **attributes: Unpack[EventAttributes],
    ) -> list[Receipt]:
        """Publish every event of an iterable, which is read in this thread.

        See ``streams.Producer.publish_many``.
        """
        receipts: list[Receipt] = []
        try:
            for batch in self.publish_batches(events, type=type, **attributes):
                receipts += batch
        except StreamsError as error:
            if error.outcome is not None:
                error.outcome.complete(receipts, events)
            raise
        return receipts

    def publish_batches(
        self,
        events: Iterable[Any],
        *,
        type: str | None = None,
        **attributes: Unpack[EventAttributes],
    ) -> Iterator[list[Receipt]]:
        """As ``publish_many``, giving the receipts batch by batch.

        See ``streams.Producer.publish_batches``.
        """
        check_events(events)
        if not isinstance(events, Iterable):
            raise ConfigurationError(
                "streams.sync publishes what a for loop can read, not "
                f"{events.__class__.__name__}; "
                "asynchronous iterables are for streams.Pipeline"
            )
        source = iter(events)
        accepted = 0
        while batch := list(islice(source, _AT_ONCE)):
            stored: list[list[Receipt]] = []

            async def send(
                pipeline: asynchronous.Pipeline,
                batch: list[Any] = batch,
                stored: list[list[Receipt]] = stored,
            ) -> None:
                producer = pipeline.producer(self.stream)
                async for receipts in producer.publish_batches(
                    batch, type=type, **attributes
                ):
                    stored.append(receipts)

            try:
                self._portal.call(send)
            except StreamsError as error:
                if isinstance(error, (StreamFull, PublishUnknown)):
                    error.accepted += accepted
                error.outcome = (error.outcome or BatchOutcome()).behind(accepted)
                error.outcome.extend(accepted + len(batch))
                yield from stored
                raise
            accepted += sum(map(len, stored))
            yield from stored


class BlockingPipeline(Blocking):
    """Streams on one server, with their handlers, for programs that block.

    See ``streams.Pipeline``.

    Every method does what its namesake there does, and returns when that is done.
    Connections open with the first call and close at the end of the program, or, with
    ``with pipeline:``, at the end of the outermost block. Any number of threads may
    share one object; after a fork the child opens connections of its own.

    Args:
        url: the server; see ``streams.Broker``. None: the embedded server that keeps
            nothing.
        settings: everything else; ``Settings()`` if None.
        middleware: the middleware around every attempt, outermost first; see
            ``streams.middleware``.

    Attributes:
        asynchronous: the pipeline with the declarations. A worker runs it, and
            ``async def`` handlers await its methods.

    Raises:
        ConfigurationError: the URL cannot be used, or, by any blocking method, an event
            loop runs in this thread.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        settings: Settings | None = None,
        middleware: Iterable[Middleware] | None = None,
    ) -> None:
        self.asynchronous = asynchronous.Pipeline(
            url, settings=settings, middleware=middleware
        )
        self._portal = Portal(self.asynchronous.twin)
        self._running: asyncio.AbstractEventLoop | None = None

    @classmethod
    def from_env(cls) -> Self:
        """A pipeline with the settings of the environment; see ``streams.Pipeline.from_env``."""
        pipeline = cls(settings=Settings.from_env())
        pipeline.asynchronous.is_from_env = True
        return pipeline

    if not TYPE_CHECKING:  # For a type checker, a name that is missing is missing.

        def __getattr__(self, name: str) -> Any:
            raise missing("Pipeline", name, PIPELINE)

    def __repr__(self) -> str:
        """Show the server without credentials."""
        return repr(self.asynchronous).replace("<Pipeline", "<sync.Pipeline", 1)

    @property
    def settings(self) -> Settings:
        """The settings; new ones are used from the next opening on."""
        return self.asynchronous.settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self.asynchronous.settings = settings

    @property
    def middleware(self) -> list[Middleware]:
        """The middleware around every attempt, outermost first."""
        return self.asynchronous.middleware

    @property
    def portal(self) -> Portal:
        """The way into the pipeline's event loop, for what has no blocking method."""
        return self._portal

    def __enter__(self) -> Self:
        self._portal.enter()
        return self

    def __exit__(self, *_: object) -> None:
        self._portal.leave()

    def close(self) -> None:
        """Close the connections; calls under way may finish. The next call opens new ones."""
        self._portal.close()

    def publish(
        self,
        stream: str,
        data: Any,
        *,
        type: str | None = None,
        **attributes: Unpack[EventAttributes],
    ) -> Receipt:
        """Publish one event; see ``streams.Producer.publish``."""
        return BlockingProducer(self._portal, stream).publish(
            data, type=type, **attributes
        )

    def publish_many(
        self,
        stream: str,
        events: Iterable[Any],
        *,
        type: str | None = None,
        **attributes: Unpack[EventAttributes],
    ) -> list[Receipt]:
        """Publish many events; see ``streams.Producer.publish_many``."""
        return BlockingProducer(self._portal, stream).publish_many(
            events, type=type, **attributes
        )

    def run(self, *, signals: bool = True) -> None:
        """Run every declared group until ``stop`` or SIGTERM or SIGINT.

        See ``streams.Pipeline.run``.
        """
        refuse_in_event_loop(even_in_notebook=True)
        asyncio.run(self._run(self.asynchronous.run(signals=signals)))

    def stop(self) -> None:
        """Let ``run`` end in order; called again: now. May be called by any thread."""
        loop = self._running
        if loop is None:
            self.asynchronous.stop()  # A thread may be about to run it.
            return
        with contextlib.suppress(RuntimeError):  # It has ended in the meantime.
            loop.call_soon_threadsafe(self.asynchronous.stop)

    def _of(self, pipeline: asynchronous.Pipeline) -> asynchronous.Pipeline:
        return pipeline

    async def _run(self, running: Coroutine[Any, Any, None]) -> None:
        own = asyncio.get_running_loop()
        # Else a second run, which is refused: the first one can still be stopped.
        if self._running is None:
            self._running = own
        try:
            await running
        finally:
            if self._running is own:
                self._running = None
