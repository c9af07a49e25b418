"""The blocking producer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Unpack

from streams import pipeline as asynchronous
from streams.errors import ConfigurationError, PublishUnknown, StreamFull, StreamsError
from streams.events.event import EventAttributes
from streams.events.names import checked_name
from streams.events.receipt import BatchOutcome, Receipt
from streams.publishing.batcher import BATCH_EVENTS
from streams.publishing.source import check_events
from streams.sync.portal import Portal

_AT_ONCE = 8 * BATCH_EVENTS
"""Events per crossing into the portal: there, one request is prepared while another is under way."""


class Producer:
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
        """Publish one event; when this returns, the server has stored it. See ``streams.Producer.publish``."""
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
        """Publish every event of an iterable, which is read in this thread; see ``streams.Producer.publish_many``."""
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
        """As ``publish_many``, giving the receipts batch by batch; see ``streams.Producer.publish_batches``."""
        check_events(events)
        if not isinstance(events, Iterable):
            raise ConfigurationError(
                f"streams.sync publishes what a for loop can read, not {events.__class__.__name__}; "
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
