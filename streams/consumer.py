"""The consumer: fetches entries of one group, runs handlers, writes outcomes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from streams.broker import Broker, checked_broker
from streams.broker.entries.admit import Admitting
from streams.broker.entries.declare import Declaring
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.lookout import Lookout
from streams.broker.entries.ordering import FetchingByKey, Ways
from streams.broker.entries.redeclare import Redeclaring
from streams.broker.entries.settle import Settling
from streams.common.arguments import checked_options
from streams.common.log_facts import logger_of
from streams.consuming.declared import in_words
from streams.consuming.decode import Decoder
from streams.consuming.executor import Executor
from streams.consuming.fetcher import Fetcher, Parts
from streams.consuming.gate import Gate
from streams.consuming.idle import Idling
from streams.consuming.lease_renewer import LeaseRenewer
from streams.consuming.lease_thread import LeaseThread
from streams.consuming.naming import consumer_name
from streams.consuming.options import ConsumerOptions
from streams.consuming.settler import Settler
from streams.consuming.sources import OrderedSource, PlainSource, Source
from streams.consuming.state import ConsumerState
from streams.consuming.vitals import ConsumerVitals
from streams.errors import BrokerError
from streams.events.names import checked_name
from streams.handlers.routes import HandlerFunction, Route, Router, as_router
from streams.middleware.base import Place
from streams.middleware.chain import Chain
from streams.middleware.django_connections import found
from streams.settings import said_slots

if TYPE_CHECKING:
    from streams.broker.server.link import Link

logger = logger_of("consumer")


class Consumer:
    """Consumes one group of one stream.

    Args:
        broker: an open broker.
        stream: the stream's name.
        group: the group's name.
        handler: a function that takes one event, a ``Route``, or a ``Router``.
        options: see ``ConsumerOptions``.

    Attributes:
        stats: counters; see ``streams.consuming.stats.Stats``.
    """

    def __init__(
        self,
        broker: Broker,
        stream: str,
        group: str,
        handler: Router | Route | HandlerFunction,
        options: ConsumerOptions | None = None,
    ) -> None:
        options = checked_options(options, ConsumerOptions)
        slots = said_slots(options.concurrency, as_router(handler).slots)
        self.options = options = replace(options, concurrency=slots)
        self.stream = checked_broker(broker).keys(stream).stream
        self.group = checked_name(group, "group")
        self.name = checked_name(options.name or consumer_name(), "consumer")
        self._broker = broker
        keys = broker.keys(stream)
        self._me = me = GroupConsumer(
            broker,
            keys,
            options.levels,
            self.group,
            self.name,
            lease=options.lease,
            serve=options.serve,
        )
        self._state = state = ConsumerState.of(me, options)
        self.stats = state.stats
        self._ways = Ways(options.lanes)
        self._settling = self._make_settling()
        self._settler = Settler(state, self._settling)
        self._chain = chain = Chain([*options.middleware, *found(options.middleware)])
        self._place = Place(broker, self.stream, self.group, self.name, options.lease)
        self._router = router = as_router(handler).with_timeouts(chain.timeouts())
        decoder = Decoder(state, router, self._settler)
        # Without limits it is asked only while something is paused by attribute: no
        # connection of its own for that.
        admitting = Admitting(me, shares=not router.limits())
        self._gate = Gate(state, router, decoder, admitting, self._settler)
        self._executor = Executor(
            state, decoder, self._settler, chain, self._place, self._gate
        )
        self._declares = [self._declare_limits]
        self._source = self._make_source()
        self._fetching = self._source.store
        self._idling = Idling(
            state,
            self._fetching,
            self._settler,
            Lookout.of(broker),
            skips_looks=not (options.lanes or router.limits()),
        )
        self._redeclaring = Redeclaring(
            broker, keys, options.levels, self.group, router.limits()
        )
        self._look_back: Callable[[], Awaitable[None]] | None = None
        self._fetcher = Fetcher(
            state,
            self._source,
            Parts(
                executor=self._executor,
                settler=self._settler,
                idling=self._idling,
                gate=self._gate,
                declare=self._declares,
                on_return=self._returned,
            ),
        )
        self._hurry = asyncio.Event()
        self._grace = 0.0
        self._leases: LeaseRenewer | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def take_delivered(self) -> dict[int, bytes]:
        """Level to the newest entry id that it was given since the last call."""
        return self._fetching.take_newest()

    def on_return(self, look: Callable[[], Awaitable[None]]) -> None:
        """Have ``look`` called at the start, and whenever the server is back.

        It is called before anything is read from the server.
        """
        self._look_back = look

    async def _returned(self) -> None:
        if self._look_back is not None:
            await self._look_back()

    @property
    def busy(self) -> int:
        """How many entries are with handlers at this moment."""
        return self._executor.busy

    @property
    def free(self) -> int:
        """How many more entries could start at this moment.

        None while the process is kept free for a suspect.
        """
        return 0 if self._state.isolation.is_closed else max(0, self._executor.free)

    @property
    def kept_for(self) -> str:
        """The suspect for which the process is kept free at this moment.

        Its stream/group and level|id; '' if there is none.
        """
        return self._state.isolation.suspect

    @property
    def running(self) -> list[tuple[int, str]]:
        """Level and entry id of what is with handlers at this moment, the longest first."""
        return self._executor.running

    @property
    def paused(self) -> frozenset[int]:
        """The levels that are paused for this group; nothing of them is started.

        As of the last look for work: half a second ago at most, unless every place is
        taken.
        """
        return self._fetcher.paused

    @property
    def declared(self) -> dict[str, str]:
        """The options, in words, that all workers of its group should share."""
        options = self.options
        return in_words(
            options.levels,
            options.lease,
            options.lanes,
            self._router,
            options.weights,
            options.max_wait,
        )

    @property
    def vitals(self) -> ConsumerVitals:
        """How it is, at this moment. May be taken in any thread."""
        missing = [name for name, task in list(self._tasks.items()) if task.done()]
        if self._leases is not None and not self._leases.alive:
            missing.append("lease keeper")
        if self._executor.missing:
            missing.append(
                f"{self._executor.missing} of {self.options.concurrency} runners"
            )
        fetcher = self._fetcher
        return ConsumerVitals(
            self.stream,
            self.group,
            self._state.levels.descending,
            max(fetcher.read_at, self._idling.heard_at),
            fetcher.is_full,
            fetcher.trouble,
            self.busy,
            tuple(missing),
        )

    @property
    def held(self) -> int:
        """How many entries are held.

        Entries whose outcome the server has not confirmed yet are counted.
        """
        return len(self._state.held)

    @property
    def abandoned(self) -> set[asyncio.Task[None]]:
        """Tasks of handlers that never ended.

        The end of the process must not wait for them.
        """
        return self._executor.abandoned

    def limit(self, concurrency: int) -> None:
        """From now on at most so many handlers at once, and never more than the options say."""
        self._state.limit(concurrency)

    def stop(self, grace: float = 10.0) -> None:
        """Stop fetching; ``run`` returns when the running handlers are done.

        It returns after at most ``grace`` seconds plus the time for settling. A second
        call cancels what runs now and gives it back.
        """
        if self._fetcher.stopped:
            self._hurry.set()
        self._grace = grace
        self._fetcher.stop()

    async def run(self) -> None:
        """Consume until ``stop`` is called, or cancelled. A consumer runs once.

        On the way out nothing is lost: what had not started or was cancelled is given
        back at no cost to its attempts.

        Raises:
            AccessDenied: the credentials or permissions do not suffice.
            ConfigurationError: the stream is declared otherwise, e.g. for one group
                that is not this one.
        """
        async with self._idling:
            await self._run()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()

        def lost(deliveries: list[Delivery]) -> None:
            # The loop may have closed in the meantime.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._executor.lost, deliveries)

        await self._chain.start(self._place)
        leases = self._leases = LeaseRenewer(
            self._state, LeaseThread.of(self._broker), self._make_settling, lost
        )
        leases.start()
        self._executor.start(self.options.concurrency)
        self._state.isolation.join(self._state)
        settling = asyncio.create_task(self._settler.run(), name="streams-settler")
        watching = asyncio.create_task(self._executor.watch(), name="streams-watch")
        fetching = asyncio.create_task(self._fetcher.run(), name="streams-fetcher")
        self._tasks = {"fetcher": fetching, "settler": settling, "watch": watching}
        if self._router.limits():
            handing = self._gate.run(self._fetcher.take_over)
            self._tasks["gate"] = asyncio.create_task(handing, name="streams-gate")
        if self.options.lanes:
            self._tasks["lanes"] = asyncio.create_task(
                self._fetcher.follow(), name="streams-lanes"
            )
        try:
            await asyncio.wait(
                self._tasks.values(), return_when=asyncio.FIRST_COMPLETED
            )
            if not fetching.done():
                self._fetcher.stop()
                await asyncio.wait((fetching,))
            await self._fetcher.wait_taken()
            await self._drain(settling)
            for task in self._tasks.values():
                # None but the fetcher ends before it is cancelled, unless it failed.
                if task.done():
                    task.result()
        finally:
            try:
                await self._close(leases, tuple(self._tasks.values()))
            finally:
                # A second cancellation must leave no thread that holds entries for
                # ever, and no runner either.
                leases.stop()
                self._executor.end()
                self._state.isolation.leave(self._state)

    async def _drain(self, settling: asyncio.Task[None]) -> None:
        drain = asyncio.create_task(self._executor.drain(self._grace))
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait((drain, hurry), return_when=asyncio.FIRST_COMPLETED)
        if not drain.done():
            drain.cancel()
            await asyncio.wait((drain,))
            await self._executor.drain(0.0)
        hurry.cancel()
        quiet = asyncio.create_task(self._settler.wait_quiet())
        # A server that is away must not hold up the exit: what is not settled is found
        # by the reclaimer.
        await asyncio.wait(
            (quiet, settling), timeout=5.0, return_when=asyncio.FIRST_COMPLETED
        )
        quiet.cancel()

    async def _close(
        self, leases: LeaseRenewer, tasks: tuple[asyncio.Task[None], ...]
    ) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._executor.close()
        await self._chain.stop(self._place)
        await leases.close()
        # Consumers that wait for the slots look by themselves, a little later.
        with contextlib.suppress(BrokerError):
            await self._gate.hand_over(0)
        await self._gate.close()
        if not self._fetcher.trouble:
            await self._fetching.leave(list(self._state.held))
        await self._fetching.close()
        await self._settling.close()
        for task in self._executor.abandoned:
            # Such a task ignores cancellation, and asyncio.run would wait for it for
            # ever.
            asyncio._unregister_task(task)  # noqa: SLF001 - documented for makers of tasks

    def _make_source(self) -> Source:
        me, state, options = self._me, self._state, self.options
        declaring = Declaring(me.keys, me.levels, me.group, options.declaration)
        if options.lanes:
            by_key = FetchingByKey(me, declaring, self._ways)
            ordered = OrderedSource(state, by_key, options.turns())
            self._declares.append(ordered.declare)
            return ordered
        return PlainSource(state, Fetching(me, declaring), options.turns())

    async def _declare_limits(self) -> None:
        if changed := await self._redeclaring.declare():
            facts = {"where": f"{self.stream}/{self.group}", "limits": changed}
            logger.info(
                "limits were changed; what waits for them is looked at anew",
                extra=facts,
            )

    def _make_settling(self, link: Link | None = None) -> Settling:
        return Settling(self._me, self._ways, link)
