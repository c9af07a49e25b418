"""Metrics of the conventions, and own ones for everything else.

Labels are streams, groups, levels and stable words.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics
from opentelemetry.metrics import MeterProvider

from streams.broker.entries.observing import ConsumerId, Observer, Settled
from streams.errors import HandlerSignal
from streams.middleware.base import Attempt, Middleware
from streams.telemetry import names
from streams.telemetry.sending import MeasuredSend
from streams.version import __version__

if TYPE_CHECKING:
    from streams.broker.admin.dead_letters import StoredLetter
    from streams.broker.entries.delivery import Delivery

_BATCHES = (1, 2, 5, 10, 20, 50, 100, 200, 500)


class Metrics(Middleware, Observer):
    """Counts and measures what consumers and producers do.

    Args:
        provider: the provider of the meter; None: the one of the process.

    Attributes:
        meter: the meter of the instruments.
    """

    def __init__(self, provider: MeterProvider | None = None) -> None:
        self.meter = meter = metrics.get_meter("streams", __version__, provider)
        self._sent = meter.create_counter(
            "messaging.client.sent.messages", "{message}", "Events that were published."
        )
        self._operation = meter.create_histogram(
            "messaging.client.operation.duration",
            "s",
            "Of trips to the server.",
            explicit_bucket_boundaries_advisory=names.BUCKETS,
        )
        self._consumed = meter.create_counter(
            "messaging.client.consumed.messages",
            "{message}",
            "Deliveries to consumers, retries included.",
        )
        self._process = meter.create_histogram(
            "messaging.process.duration",
            "s",
            "Of attempts.",
            explicit_bucket_boundaries_advisory=names.BUCKETS,
        )
        self._settled = meter.create_counter(
            "streams.settled", "{message}", "Outcomes of deliveries, as written."
        )
        self._dead = meter.create_counter(
            "streams.dead_letters", "{message}", "Events that died, by reason."
        )
        self._lost = meter.create_counter(
            "streams.lease.losses", "{message}", "Deliveries whose lease was lost."
        )
        self._replayed = meter.create_counter(
            "streams.replays", "{message}", "Dead letters that were put back."
        )
        self._batch = meter.create_histogram(
            "streams.settle.batch_size",
            "{message}",
            "Outcomes that share a trip.",
            explicit_bucket_boundaries_advisory=_BATCHES,
        )
        self._delay = meter.create_histogram(
            "streams.limit.delay",
            "s",
            "For how long limits put events off.",
            explicit_bucket_boundaries_advisory=(
                *names.BUCKETS,
                30.0,
                60.0,
                300.0,
                3600.0,
            ),
        )

    # --- attempts

    def before(self, attempt: Attempt) -> None:
        """Note the time."""
        attempt.state[self] = time.perf_counter()

    def after(self, attempt: Attempt) -> None:
        """Measure an attempt that succeeded."""
        self._measure(attempt, {})

    def failed(self, attempt: Attempt, error: BaseException) -> None:
        """Measure an attempt that failed, or whose handler chose another outcome."""
        more = {}
        is_chosen = isinstance(error, HandlerSignal)
        if not is_chosen and attempt.cancelled not in ("lost", "shutdown"):
            more[names.ERROR] = names.error_type(error)

        self._measure(attempt, more)

    def _measure(self, attempt: Attempt, more: dict[str, Any]) -> None:
        event = attempt.event
        place = (event.stream, event.group)
        facts = names.attributes("process", "process", *place, **more)
        self._process.record(time.perf_counter() - attempt.state[self], facts)

    # --- trips

    def sending(self, stream: str, *, is_batch: bool) -> MeasuredSend:
        """Measure a call that publishes; a batch is one measurement."""
        return MeasuredSend(self._sent, self._operation, stream)

    def received(
        self, consumer: ConsumerId, deliveries: Sequence[Delivery], began: int
    ) -> None:
        """Count the deliveries of a read. Its duration, mostly a wait, is not measured."""
        facts = names.attributes("receive", "receive", consumer.stream, consumer.group)
        self._consumed.add(len(deliveries), facts)

    def settled(self, consumer: ConsumerId, settled: Settled) -> None:
        """Count outcomes that were stored, and measure the round trip."""
        place = {names.DESTINATION: consumer.stream, names.GROUP: consumer.group}
        counts: Counter[str] = Counter()
        if settled.done:
            counts["done"] = len(settled.done)

        for row, why in settled.postponed:
            counts[why] += 1
            if why == "limited":
                self._delay.record(row.delay_ms / 1000, place)

        for letter in settled.buried:
            counts["dead"] += 1
            self._dead.add(1, place | {names.REASON: letter.reason})

        for outcome, count in counts.items():
            self._settled.add(count, place | {names.OUTCOME: outcome})

        if settled.lost:
            self._lost.add(settled.lost, place)

        if counts:
            self._batch.record(counts.total(), place)
            took = (time.time_ns() - settled.began) / 1e9
            facts = names.attributes(
                "settle", "settle", consumer.stream, consumer.group
            )
            self._operation.record(max(0.0, took), facts)

    def replayed(
        self,
        stream: str,
        group: str,
        letters: Sequence[StoredLetter],
        places: Sequence[str],
    ) -> None:
        """Count replayed dead letters."""
        count = sum(map(bool, places))
        if count:
            self._replayed.add(count, {names.DESTINATION: stream, names.GROUP: group})
