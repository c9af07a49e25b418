"""The harness: a pipeline bound to a server of its own for the length of a test."""

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
"""Seconds between looks whether the pipeline is quiet."""
_count = itertools.count(1)


class Left(NamedTuple):
    """What one group has not finished.

    Attributes:
        stream, group: names.
        work: counts: waiting, processing (here, or elsewhere: with a consumer that is none of the harness), retries and
            scheduled events, due and later, what is paused; ``next_in`` seconds.
    """

    stream: str
    group: str
    work: Work

    @property
    def now(self) -> bool:
        """Whether there is something to do without the time passing."""
        work = self.work
        return bool(
            work.waiting or work.processing or work.retries_due or work.scheduled_due
        )

    def __str__(self) -> str:
        """One line without the noughts, e.g. ``orders/billing: 2 waiting, 1 retry later (the next in 4.9 s)``."""
        counts = self.work._asdict()
        next_in = counts.pop("next_in")
        parts = [
            counted(count, *_words(name)) for name, count in counts.items() if count
        ]
        later = f" (the next in {next_in:.1f} s)" if next_in is not None else ""
        return f"{self.stream}/{self.group}: {', '.join(parts)}{later}"


def _words(name: str) -> tuple[str, str]:
    several = name.replace("_", " ")
    return several.replace("retries", "retry"), several


class Harness(Awaited):
    """Binds a pipeline to a test: ``async with Harness(pipeline) as harness:``.

    While it is open, the pipeline uses the test server and a namespace of its own, and is open itself. Nothing runs by
    itself: ``drain`` runs the handlers, in this process, until nothing is left to do *now*; what waits for a retry or
    a schedule waits for ``travel``. At the end the namespace is erased and the pipeline is as it was.

    Args:
        pipeline: closed; its declarations are used as they are.
        url: the server; the test server of this process if None.
        namespace: first part of the keys; made up if empty.
        raise_errors: whether ``drain`` raises the first exception of a handler, other than ``Reject`` and ``Snooze``.

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
        """Lead the pipeline to the test server; ``async with`` does it."""
        if self.pipeline.is_open:
            raise ConfigurationError(
                "the pipeline is open: a harness is opened first, and opens it (no 'async with pipeline' around it)"
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
        """End the handlers' threads, erase the namespace and close the pipeline; ``async with`` does it."""
        try:
            await end_handlers()
            await self._rehearsing.erase()
        finally:
            await self.pipeline.__aexit__(None, None, None)

    async def drain(self, *, within: float = 10.0) -> int:
        """Run the handlers until nothing waits, runs or is due, on any stream that has a handler.

        Args:
            within: seconds; a deadline, not a wait.

        Returns:
            How many attempts ended.

        Raises:
            Unfinished: it did not get quiet in time; the message says what is left.
            ConfigurationError: no handler is declared.
            Exception: with ``raise_errors``, what a handler raised.
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
        """Let time pass: retries and scheduled events come closer, leases age, dedup ids and events expire.

        Nothing runs by that; ``drain`` does. Event ids, entry ids and the times in dead letters stay the server's.

        Args:
            seconds: how far: seconds or a ``timedelta``.

        Raises:
            ConfigurationError: ``seconds`` is not above 0: time does not go back.
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
            await self._rehearsing.advance(
                keys, [consumer.group for consumer in consumers], seconds
            )
            for consumer in consumers:
                levels = consumer.options.levels.descending
                await self._rehearsing.age_leases(keys, levels, consumer.group, seconds)
        await self._rehearsing.age_keys(seconds)
        self.pipeline.broker.clock.ahead += seconds

    async def unfinished(self) -> list[Left]:
        """What every group with a handler has left, now or later; empty: everything is done or dead."""
        found = []
        for consumer in self._service().consumers:
            work = await self._work(consumer)
            if any(work[:-1]):
                found.append(Left(consumer.stream, consumer.group, work))
        return found

    def published(self, stream: str, *, type: str | None = None) -> list[Event[Any]]:
        """What was published on a stream through this pipeline since the harness was opened, in order.

        Handled ones and scheduled ones are among them, duplicates (by ``dedup_id``) are not. What other programs or
        another pipeline published is not seen.

        Raises:
            NotFound: the stream or the type is not known, and is nearly one that is.
        """
        self._spelled(stream, type)
        return self._record.published(stream, type)

    def done(
        self, stream: str, group: str, *, type: str | None = None
    ) -> list[Event[Any]]:
        """Events whose handler returned, in that order.

        Raises:
            NotFound: there is no such handler: the message says what there is.
        """
        self._known(stream, group, type)
        return [event for event in self._record.done if _is(event, stream, group, type)]

    def failures(
        self, stream: str, group: str, *, type: str | None = None
    ) -> list[Failure]:
        """Attempts that raised, in that order, ``Reject`` and ``Snooze`` among them.

        Raises:
            NotFound: as for ``done``.
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
            NotFound: as for ``done``.
        """
        self._known(stream, group)
        return [
            letter
            async for letter in self.pipeline.dead_letters(stream, group).iterate()
        ]

    def _known(self, stream: str, group: str, kind: str | None = None) -> None:
        """Refuse what has no handler: its empty list would look as if nothing had happened."""
        groups = {
            (plan.stream, plan.group): plan.router for plan in self.pipeline.plans
        }
        base = stream if any(name == stream for name, _ in groups) else base_of(stream)
        if not any(name == base for name, _ in groups):
            raise _unknown(
                "stream with a handler", stream, {name for name, _ in groups}
            )
        if (base, group) not in groups:
            raise _unknown(
                f"group of {base}", group, {of for name, of in groups if name == base}
            )
        router = groups[base, group]
        if kind is not None and router.find(kind) is None:
            raise _unknown(f"event type of {base}/{group}", kind, _types(router))

    def _spelled(self, stream: str, kind: str | None) -> None:
        """Refuse what is nearly a name that there is. Any other may be one that nothing was published by."""
        plans = self.pipeline.plans
        _refuse_near(
            "stream",
            base_of(stream),
            {plan.stream for plan in plans} | self._record.streams(),
        )
        if kind is not None:
            served = set[str]().union(
                *(
                    _types(plan.router)
                    for plan in plans
                    if plan.stream == base_of(stream)
                )
            )
            _refuse_near(
                f"event type of {stream}", kind, served | self._record.types(stream)
            )

    def _service(self) -> Service:
        # The same name each time: what a round left behind belongs to the next.
        return self.pipeline.service(
            every_partition(self.pipeline.plans), name=self._name
        )

    async def _bring_forward(self, service: Service) -> None:
        """What reclaimers and schedulers do by the clock."""
        for reclaimer in service.reclaimers:
            try:
                while await reclaimer.sweep():
                    pass
            except GroupMissing:
                continue  # Its consumer creates it.
        for scheduler in service.schedulers:
            before = -1
            while scheduler.promoted != before:
                before = scheduler.promoted
                await scheduler.promote()

    async def _round(self, service: Service, give_up: float, failed: int) -> bool:
        """Run the consumers until what can be done now is done; False: time is up, and ``_told`` says what is left."""
        running = [
            asyncio.create_task(consumer.run()) for consumer in service.consumers
        ]
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
        """In order: what runs gets ``grace`` seconds, what waits is given back."""
        for consumer in service.consumers:
            consumer.stop(grace=max(0.0, grace))
        await asyncio.wait(running)

    async def _quiet(self, service: Service) -> list[int] | None:
        """How much each consumer has fetched, if none has anything in hand or to fetch; else None.

        Twice the same answer means that no handler ran in between, so nothing can have come that was not seen.
        """
        fetched = []
        for consumer in service.consumers:
            work = await self._work(consumer)
            # Retries that a consumer has not looked for yet are its first act; later ones are for the next round.
            if (
                consumer.held
                or work.waiting
                or work.processing
                or (work.retries_due and not consumer.stats.fetched)
            ):
                return None
            fetched.append(consumer.stats.fetched)
        return fetched

    async def _work(self, consumer: Consumer) -> Work:
        levels, group = consumer.options.levels.descending, consumer.group
        pauses = await self.pipeline.pauses(consumer.stream).list()
        paused = [
            level
            for level in levels
            if any(pause.covers(group, level) for pause in pauses)
        ]
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
        """What is left, a line each; never a body or an error's text."""
        lines = [str(left) for left in await self.unfinished()]
        now = time.monotonic()
        lines += [
            f"running for {now - since:.1f} s in {event.stream}/{event.group}: {event!r}"
            for event, since in list(self._record.running.values())
        ]
        lines += [
            f"failed with {type(failure.error).__name__} in {failure.event.stream}/{failure.event.group}: "
            f"{failure.event!r}"
            for failure in self._record.failures[-3:]
        ]
        return "".join(f"\n  {line}" for line in lines)


def _types(router: Router) -> set[str]:
    """The types that a group names."""
    return {kind for route in router.routes() for kind in route.types or ()}


def _unknown(what: str, name: str, known: Collection[str]) -> NotFound:
    return NotFound(
        f"no such {what}: {name!r}; there are {', '.join(sorted(known)) or 'none'}"
    )


def _refuse_near(what: str, name: str, known: Collection[str]) -> None:
    if name not in known and difflib.get_close_matches(name, known, 1, 0.8):
        raise _unknown(what, name, known)


def _is(event: Event[Any], stream: str, group: str, kind: str | None) -> bool:
    return (
        stream in (event.stream, base_of(event.stream))
        and event.group == group
        and kind in (None, event.type)
    )
