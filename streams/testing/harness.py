"""The harness, which binds a pipeline to a test server for one test."""

from __future__ import annotations

import asyncio
import dataclasses
import difflib
import itertools
import os
import time
from collections.abc import Collection
from typing import Any, NamedTuple, Self

from streams.admin.dead_letter import DeadLetter
from streams.common.arguments import checked_kind, checked_seconds
from streams.common.blocks import Awaited
from streams.consumer import Consumer
from streams.errors import (
    ConfigurationError,
    GroupMissing,
    HandlerSignal,
    NotFound,
    Unfinished,
)
from streams.events.event import Event
from streams.handlers.routes import Router
from streams.pipeline import Pipeline
from streams.policy.partitions import base_of
from streams.quantities import Seconds, counted
from streams.testing.recording import Failure, Record, Recorder
from streams.testing.server import server_url
from streams.testing.time_travel import Rehearsing, Work
from streams.worker.options import every_partition
from streams.worker.service import Service, end_handlers

_LOOK = 0.003
"""Seconds between two checks whether the pipeline is quiet."""
_count = itertools.count(1)


class Left(NamedTuple):
    """The unfinished events of one group.

    Attributes:
        stream, group: the names of both.
        work: the counts: waiting, processing (by the harness) or elsewhere (with another
            consumer), retries and scheduled events (due and later), paused ones; and
            ``next_in`` seconds.
    """

    stream: str
    group: str
    work: Work

    @property
    def now(self) -> bool:
        """Whether an event can be handled now."""
        work = self.work
        due = work.retries_due + work.scheduled_due
        return work.waiting + work.processing + due > 0

    def __str__(self) -> str:
        """One line, e.g. ``orders/billing: 2 waiting, 1 retry later (the next in 4.9 s)``."""
        counts = self.work._asdict()
        next_in = counts.pop("next_in")
        parts = []
        for name, count in counts.items():
            if count:
                parts.append(counted(count, *_words(name)))

        later = f" (the next in {next_in:.1f} s)" if next_in is not None else ""
        return f"{self.stream}/{self.group}: {', '.join(parts)}{later}"


def _words(name: str) -> tuple[str, str]:
    several = name.replace("_", " ")
    return several.replace("retries", "retry"), several


class Harness(Awaited):
    """Binds a pipeline to a test: ``async with Harness(pipeline) as harness:``.

    While the harness is open, the pipeline is open and uses the test server with its own
    namespace. Handlers run only in ``drain``, in this process, until no event can be
    handled *now*. Retries and scheduled events wait for ``travel``. At the end the
    namespace is erased, and the pipeline is as it was.

    Args:
        pipeline: a pipeline that is not open; its declarations are used as they are.
        url: the server; the test server of this process if None.
        namespace: the first part of the keys; a unique one if empty.
        raise_errors: whether ``drain`` raises the first exception of a handler, other
            than ``Reject`` and ``Snooze``.

    Raises:
        ConfigurationError: the pipeline is open already.
        NoServer: there is no server binary.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        url: str | None = None,
        namespace: str = "",
        raise_errors: bool = False,
    ) -> None:
        checked_kind(
            "pipeline",
            pipeline,
            Pipeline,
            "a streams.Pipeline; BlockingHarness takes that of streams.sync",
        )
        self.pipeline = pipeline
        self.namespace = namespace or f"test-{os.getpid()}-{next(_count)}"
        self.raise_errors = raise_errors
        self._url = url
        self._record = Record()
        self._recorder = Recorder(self._record)
        self._name = "harness"
        self._told = ""

    async def __aenter__(self) -> Self:
        self.bind()
        try:
            await self.open()
        except BaseException:
            self.unbind()
            raise

        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.close()
        finally:
            self.unbind()

    def bind(self) -> None:
        """Bind the pipeline to the test server; ``async with`` does it."""
        if self.pipeline.is_open:
            raise ConfigurationError(
                "the pipeline is open: a harness is opened first, and opens it "
                "(no 'async with pipeline' around it)"
            )

        self._settings = self.pipeline.settings
        url = self._url or server_url()
        self.pipeline.settings = dataclasses.replace(
            self._settings, url=url, namespace=self.namespace
        )
        self.pipeline.middleware.insert(0, self._recorder)

    def unbind(self) -> None:
        """Undo ``bind``."""
        self.pipeline.settings = self._settings
        self.pipeline.middleware.remove(self._recorder)

    async def open(self) -> None:
        """Open the pipeline; ``async with`` does it."""
        await self.pipeline.__aenter__()
        self._rehearsing = Rehearsing(self.pipeline.broker)

    async def close(self) -> None:
        """End threads, erase the namespace and close the pipeline; ``async with`` does it."""
        try:
            await end_handlers()
            await self._rehearsing.erase()
        finally:
            await self.pipeline.__aexit__(None, None, None)

    async def drain(self, *, within: float = 10.0) -> int:
        """Run the handlers until no event waits, runs or is due on a stream with a handler.

        Args:
            within: the deadline in seconds.

        Returns:
            The number of attempts.

        Raises:
            Unfinished: the deadline has passed; the message lists the unfinished events.
            ConfigurationError: no handler is declared.
            Exception: with ``raise_errors``, the exception of a handler.
        """
        if not self.pipeline.plans:
            raise ConfigurationError(
                "this pipeline has no handler: import the modules that declare them"
            )

        before, failed = self._record.attempts, len(self._record.failures)
        give_up = time.monotonic() + within
        while True:
            service = self._service()
            await self._bring_forward(service)
            if not await self._round(service, give_up, failed):
                raise Unfinished(f"not quiet after {within:g} s:{self._told}")

            self._raise_first(failed)
            if not any(left.now for left in await self.unfinished()):
                return self._record.attempts - before

    async def travel(self, seconds: Seconds) -> None:
        """Let time pass for retries, scheduled events, leases, dedup ids and expiry.

        Only ``drain`` runs handlers. Event ids, entry ids and the times in dead letters
        still have the server's time.

        Args:
            seconds: how far: seconds or a ``timedelta``.

        Raises:
            ConfigurationError: ``seconds`` is not above 0.
        """
        seconds = checked_seconds("seconds of travel", seconds, 0, 1e9, above=True)
        service = self._service()
        groups: dict[str, list[Consumer]] = {}
        for consumer in service.consumers:
            groups.setdefault(consumer.stream, []).append(consumer)

        known = await self.pipeline.status().streams()
        for stream in known.keys() | groups.keys():
            keys = self.pipeline.broker.keys(stream)
            consumers = groups.get(stream, [])
            names = [consumer.group for consumer in consumers]
            await self._rehearsing.advance(keys, names, seconds)
            for consumer in consumers:
                levels = consumer.options.levels.descending
                await self._rehearsing.age_leases(keys, levels, consumer.group, seconds)

        await self._rehearsing.age_keys(seconds)
        self.pipeline.broker.clock.ahead += seconds

    async def unfinished(self) -> list[Left]:
        """The unfinished events of each group with a handler; empty if all are finished."""
        found = []
        for consumer in self._service().consumers:
            work = await self._work(consumer)
            if any(work[:-1]):
                found.append(Left(consumer.stream, consumer.group, work))

        return found

    def published(self, stream: str, *, type: str | None = None) -> list[Event[Any]]:
        """The events that this pipeline has published on a stream, in order.

        Handled and scheduled events are included, and duplicates (by ``dedup_id``) are
        not. Events of other programs and pipelines are not seen.

        Raises:
            NotFound: the stream or the type is not known, and is similar to a known one.
        """
        self._spelled(stream, type)
        return self._record.published(stream, type)

    def done(
        self, stream: str, group: str, *, type: str | None = None
    ) -> list[Event[Any]]:
        """Events whose handler returned, in that order.

        Raises:
            NotFound: there is no such handler; the message lists the known names.
        """
        self._known(stream, group, type)
        return [event for event in self._record.done if _is(event, stream, group, type)]

    def failures(
        self, stream: str, group: str, *, type: str | None = None
    ) -> list[Failure]:
        """Attempts that raised, in that order, also ``Reject`` and ``Snooze``.

        Raises:
            NotFound: see ``done``.
        """
        self._known(stream, group, type)
        return [
            failure
            for failure in self._record.failures
            if _is(failure.event, stream, group, type)
        ]

    async def dead(self, stream: str, group: str) -> list[DeadLetter]:
        """The dead letters of a group, oldest first.

        Raises:
            NotFound: see ``done``.
        """
        self._known(stream, group)
        letters = self.pipeline.dead_letters(stream, group)
        return [letter async for letter in letters.iterate()]

    def _known(self, stream: str, group: str, kind: str | None = None) -> None:
        """Refuse names without a handler, whose empty lists would be misleading."""
        streams: dict[str, dict[str, Router]] = {}
        for plan in self.pipeline.plans:
            streams.setdefault(plan.stream, {})[plan.group] = plan.router

        base = stream if stream in streams else base_of(stream)
        if base not in streams:
            raise _unknown("stream with a handler", stream, streams)

        groups = streams[base]
        if group not in groups:
            raise _unknown(f"group of {base}", group, groups)

        router = groups[group]
        if kind is not None and router.find(kind) is None:
            raise _unknown(f"event type of {base}/{group}", kind, _types(router))

    def _spelled(self, stream: str, kind: str | None) -> None:
        """Refuse a name that is similar to a known one. Others may have no events yet."""
        base = base_of(stream)
        streams = self._record.streams()
        types = set() if kind is None else self._record.types(stream)
        for plan in self.pipeline.plans:
            streams.add(plan.stream)
            if plan.stream == base:
                types |= _types(plan.router)

        _refuse_near("stream", base, streams)
        if kind is not None:
            _refuse_near(f"event type of {stream}", kind, types)

    def _service(self) -> Service:
        # With the same name, a round owns the entries that an earlier round left behind.
        plans = every_partition(self.pipeline.plans)
        return self.pipeline.service(plans, name=self._name)

    async def _bring_forward(self, service: Service) -> None:
        """Do the periodic work of reclaimers and schedulers."""
        for reclaimer in service.reclaimers:
            try:
                while await reclaimer.sweep():
                    pass
            except GroupMissing:
                continue  # The consumer creates the group.

        for scheduler in service.schedulers:
            before = -1
            while scheduler.promoted != before:
                before = scheduler.promoted
                await scheduler.promote()

    async def _round(self, service: Service, give_up: float, failed: int) -> bool:
        """Run the consumers until no event can be handled now.

        False if the deadline has passed; ``_told`` lists the unfinished events then.
        """
        running = [asyncio.create_task(one.run()) for one in service.consumers]
        try:
            looks: list[list[int] | None] = [None, None]
            while looks[0] is None or looks[0] != looks[1]:
                await asyncio.sleep(_LOOK)
                for task in running:
                    if task.done():
                        task.result()

                if self.raise_errors and self._errors(failed):
                    await self._stop(service, running, grace=give_up - time.monotonic())
                    return True

                if time.monotonic() > give_up:
                    self._told = await self._tell()
                    await self._stop(service, running, grace=0.0)
                    return False

                looks = [looks[1], await self._quiet(service)]
        finally:
            for task in running:
                task.cancel()

            await asyncio.gather(*running, return_exceptions=True)

        return True

    @staticmethod
    async def _stop(
        service: Service, running: list[asyncio.Task[None]], *, grace: float
    ) -> None:
        """Stop in order: handlers get ``grace`` seconds, and waiting events are given back."""
        for consumer in service.consumers:
            consumer.stop(grace=max(0.0, grace))

        await asyncio.wait(running)

    async def _quiet(self, service: Service) -> list[int] | None:
        """The number of fetched events per consumer, or None if a consumer has work.

        The same answer twice means that no handler ran in between, so that no new event
        was missed.
        """
        fetched = []
        for consumer in service.consumers:
            work = await self._work(consumer)
            count = consumer.stats.fetched
            if consumer.held or work.waiting or work.processing:
                return None
            # A consumer first fetches due retries. Later ones are for the next round.
            if work.retries_due and not count:
                return None

            fetched.append(count)

        return fetched

    async def _work(self, consumer: Consumer) -> Work:
        levels, group = consumer.options.levels.descending, consumer.group
        paused: set[int] = set()
        for pause in await self.pipeline.pauses(consumer.stream).list():
            paused |= {level for level in levels if pause.covers(group, level)}

        keys = self.pipeline.broker.keys(consumer.stream)
        return await self._rehearsing.unfinished(
            keys, levels, group, consumer.name, paused=paused
        )

    def _errors(self, since: int) -> list[BaseException]:
        found = (failure.error for failure in self._record.failures[since:])
        return [error for error in found if not isinstance(error, HandlerSignal)]

    def _raise_first(self, since: int) -> None:
        if self.raise_errors and (errors := self._errors(since)):
            raise errors[0]

    async def _tell(self) -> str:
        """The unfinished events, one per line, without bodies and texts of errors."""
        lines = [str(left) for left in await self.unfinished()]
        now = time.monotonic()
        for event, since in list(self._record.running.values()):
            place = f"{event.stream}/{event.group}"
            lines.append(f"running for {now - since:.1f} s in {place}: {event!r}")

        for event, error in self._record.failures[-3:]:
            place = f"{event.stream}/{event.group}"
            lines.append(f"failed with {type(error).__name__} in {place}: {event!r}")

        return "".join(f"\n  {line}" for line in lines)


def _types(router: Router) -> set[str]:
    """The event types of a group's handlers."""
    return {kind for route in router.routes() for kind in route.types or ()}


def _unknown(what: str, name: str, known: Collection[str]) -> NotFound:
    return NotFound(
        f"no such {what}: {name!r}; there are {', '.join(sorted(known)) or 'none'}"
    )


def _refuse_near(what: str, name: str, known: Collection[str]) -> None:
    if name not in known and difflib.get_close_matches(name, known, 1, 0.8):
        raise _unknown(what, name, known)


def _is(event: Event[Any], stream: str, group: str, kind: str | None) -> bool:
    if stream not in (event.stream, base_of(event.stream)):
        return False
    return event.group == group and kind in (None, event.type)
