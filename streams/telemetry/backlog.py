"""Gauges of the backlog, which are read at a scrape, at most every few seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from streams.admin.status import GroupRow, Status, StreamRow
from streams.broker import Broker
from streams.broker.server.shards import each
from streams.errors import BrokerError, NotFound
from streams.telemetry import names

_FRESH = 5.0
_PATIENCE = 2.0
Value = Callable[[GroupRow], Iterable[tuple[float, dict[str, int]]]]


class Backlog:
    """The gauges of some streams, or of all.

    Args:
        meter: the meter of the gauges.
        broker: an open broker of the running event loop.
        streams: the names of the streams; None: every stream.
    """

    def __init__(
        self, meter: Meter, broker: Broker, streams: Sequence[str] | None = None
    ) -> None:
        self._broker = broker
        self._streams = streams
        self._loop = asyncio.get_running_loop()
        self._rows: list[StreamRow] = []
        self._at = float("-inf")
        self._is_up = False
        gauges: dict[str, tuple[str, str, Value]] = {
            "streams.backlog.waiting": (
                "{message}",
                "Entries that nobody of the group has fetched.",
                _levels("waiting"),
            ),
            "streams.backlog.processing": (
                "{message}",
                "Entries with consumers.",
                _levels("processing"),
            ),
            "streams.backlog.retrying": (
                "{message}",
                "Entries that wait for their time.",
                _levels("retrying"),
            ),
            "streams.backlog.lag": (
                "{message}",
                "The server's own count of what is not delivered.",
                _levels("lag"),
            ),
            "streams.backlog.oldest_age": (
                "s",
                "Age of the oldest unfinished entry.",
                _levels("oldest_age"),
            ),
            "streams.backlog.paused": (
                "",
                "1 where a pause holds a level for the group.",
                _levels("paused"),
            ),
            "streams.backlog.dead_letters": (
                "{message}",
                "Dead letters that are stored.",
                lambda g: [(g.dead, {})],
            ),
            "streams.consumers": (
                "{consumer}",
                "Consumers that the server knows.",
                lambda g: [(g.consumers, {})],
            ),
        }

        for name, (unit, text, value) in gauges.items():
            meter.create_observable_gauge(name, [self._observer(value)], unit, text)

        meter.create_observable_gauge(
            "streams.backlog.scheduled",
            [self._observe_scheduled],
            "{message}",
            "Events that are not due yet.",
        )
        meter.create_observable_gauge(
            "streams.connection.up",
            [self._observe_connection],
            "",
            "1 while the server answers.",
        )

    async def refresh(self) -> None:
        """Read the backlog, unless it is fresh. Any event loop may call this."""
        if time.monotonic() - self._at < _FRESH:
            return

        if asyncio.get_running_loop() is self._loop:
            await self._look()
            return

        future = asyncio.run_coroutine_threadsafe(self._look(), self._loop)
        await asyncio.wrap_future(future)

    async def _look(self) -> None:
        self._at = time.monotonic()
        try:
            async with asyncio.timeout(_PATIENCE):
                status = Status(self._broker)
                if self._streams is None:
                    self._rows = (await status.survey()).rows
                else:
                    found, _ = await each(
                        self._broker, self._streams, lambda name: _row_of(status, name)
                    )
                    self._rows = [row for row in found if row is not None]

            self._is_up = True
        except (BrokerError, TimeoutError, NotFound):
            # Old values would look like present ones. Alert on streams.connection.up.
            self._rows, self._is_up = [], False

    def _observer(
        self, value: Value
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for row in self._rows:
                for group in row.groups:
                    place: dict[str, str | int] = {
                        names.DESTINATION: row.stream,
                        names.GROUP: group.group,
                    }

                    for found, more in value(group):
                        yield Observation(found, {**place, **more})

        return observe

    def _observe_scheduled(self, _: CallbackOptions) -> Iterable[Observation]:
        for row in self._rows:
            yield Observation(row.scheduled, {names.DESTINATION: row.stream})

    def _observe_connection(self, _: CallbackOptions) -> Iterable[Observation]:
        yield Observation(int(self._is_up))


async def _row_of(status: Status, stream: str) -> StreamRow | None:
    try:
        return await status.stream(stream, partition=0)
    except NotFound:
        return None


def _levels(what: str) -> Value:
    def values(group: GroupRow) -> Iterable[tuple[float, dict[str, int]]]:
        for level in group.levels:
            found = getattr(level, what)
            if what == "oldest_age" and found is None:
                found = 0.0

            if found is not None:
                yield float(found), {names.LEVEL: level.level}

    return values
