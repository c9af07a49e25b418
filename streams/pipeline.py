"""The pipeline: it declares handlers, publishes events and runs as a worker."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import weakref
from collections.abc import (
    AsyncIterable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from streams.admin.operating import Operating
from streams.broker import Broker, Observer
from streams.broker.keys import Keys
from streams.common import native
from streams.common.arguments import checked_items, checked_kind
from streams.common.blocks import Awaited
from streams.common.hints import PIPELINE, hint_calls, missing
from streams.common.log_facts import logger_of
from streams.errors import OTHER_LOOP, ConfigurationError
from streams.events.event import EventAttributes
from streams.events.names import checked_name
from streams.events.receipt import Receipt
from streams.handlers.plans import GroupPlan
from streams.handlers.registry import (
    Declarations,
    HandlerOptions,
    StreamPlan,
    checked_options,
)
from streams.handlers.routes import HandlerFunction
from streams.handlers.upcasters import Upcasters
from streams.health import served
from streams.logs import be_heard, set_up_if_silent, tell_end, tracebacks
from streams.middleware.base import Middleware
from streams.middleware.chain import Chain
from streams.middleware.context import Context
from streams.policy.declaration import Declaration, Retention, checked_groups
from streams.policy.levels import checked_wait, checked_weights
from streams.policy.partitions import Partitions
from streams.producer import Producer, ProducerOptions
from streams.quantities import Seconds
from streams.settings import Settings, Wait
from streams.worker import django_apps
from streams.worker.fallback import accept_memory
from streams.worker.options import service_options
from streams.worker.patience import opened
from streams.worker.running import WorkerRun
from streams.worker.service import Service

logger = logger_of("worker")
_TWICE = (
    "this pipeline is run already, and goes on: one run() at a time. "
    "For more events at once raise concurrency=, or start another process"
)

F = TypeVar("F", bound=Callable[..., Any])
H = TypeVar("H", bound=HandlerFunction)


class Pipeline(Awaited, Operating):
    """Streams on one server, with their handlers.

    Args:
        url: the server; see ``Broker``. None: the embedded server that keeps nothing.
        settings: everything else; ``Settings()`` if None.
        middleware: the middleware around every attempt, outermost first; ``[Context()]``
            if None. The attribute ``middleware`` is that list, and ``run`` uses its
            content at the time of the call.

    Attributes:
        patience: the ``settings.wait`` that ``async with`` uses; ``never`` by default.
        is_from_env: whether the settings came from the environment. Then a missing URL
            was not a choice, and opening the pipeline warns.
        lifespans: functions whose async context managers are entered before ``run``
            starts its consumers, and left after the last handler has ended, while the
            pipeline is open. An exception of the entry ends the run.
        on_reached: called when a worker has reached the server for the first time.
        abandoned: the number of handlers that the last run left behind because they
            ignored their cancellation.

    Raises:
        ConfigurationError: the URL is invalid, or ``middleware`` has another item.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        settings: Settings | None = None,
        middleware: Iterable[Middleware] | None = None,
    ) -> None:
        if settings is not None:
            checked_kind(
                "settings",
                settings,
                Settings,
                "a Settings, e.g. Settings(url='redis://localhost:6379/0')",
            )

        self.settings = settings or Settings()
        if url is not None:
            self.settings = dataclasses.replace(self.settings, url=url, url_file="")

        self._registry = Declarations()
        self._upcasters = Upcasters()
        self.middleware: list[Middleware] = (
            [Context()]
            if middleware is None
            else checked_items("middleware", middleware, "middleware=[Context()]")
        )
        Chain(self.middleware)  # Raises for an item that is not a middleware.
        self.lifespans: list[Callable[[], AbstractAsyncContextManager[None]]] = []
        self.on_reached: Callable[[], None] = lambda: None
        self.abandoned = 0
        self.patience: Wait = "never"
        self.is_from_env = False
        self._be_closed()
        self._new_broker()

    def _be_closed(self) -> None:
        self._producers: dict[str, Producer] = {}
        self._broker: Broker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._users = 0
        self._service: Service | None = None
        self._runs: weakref.WeakSet[WorkerRun] = weakref.WeakSet()

    def twin(self) -> Self:
        """A pipeline with the same declarations, also later ones, and own connections.

        Connections belong to one event loop. Open a ``twin`` to use another event loop.
        """
        twin = copy.copy(self)
        twin._be_closed()  # noqa: SLF001 - the same class
        return twin

    @classmethod
    def from_env(cls) -> Self:
        """A pipeline with the settings of the environment, ``.env.local`` and ``.env``.

        Without a URL it uses ``memory://``, with a warning when it opens. In production
        (``STREAMS_ENV``) or without a terminal the warning would go unseen, so that
        opening it is an error there.
        """
        pipeline = cls(settings=Settings.from_env())
        pipeline.is_from_env = True
        return pipeline

    if not TYPE_CHECKING:  # A type checker would accept every name.

        def __getattr__(self, name: str) -> Any:
            raise missing("Pipeline", name, PIPELINE)

    def __repr__(self) -> str:
        """Show the server without credentials."""
        return f"<Pipeline {self._new_broker().address} groups={len(self._registry)}>"

    def handler(
        self, stream: str, *, group: str, **options: Unpack[HandlerOptions]
    ) -> Callable[[H], H]:
        """Declare a function as a handler of ``group`` on ``stream``.

        The function takes one ``Event``. A return acknowledges it, an exception retries
        it, ``Reject`` makes it a dead letter, and ``Snooze`` delays it without using up
        an attempt. ``async def`` runs in the event loop, ``def`` in a thread.

        Args:
            stream: the stream's name.
            group: the group's name; each group handles every event of the stream.
            options: see ``HandlerOptions``.

        Raises:
            ConfigurationError: a name or an option is invalid, an option contradicts
                another handler of the group, or the function does not take one
                ``Event``.
        """
        checked_options(options)
        name = Keys(stream, self.settings.namespace).stream
        place = (name, checked_name(group, "group"))

        def declare(function: H) -> H:
            self.add_handler(place, function, options)
            hint_calls(function)
            return function

        return declare

    def add_handler(
        self, place: tuple[str, str], function: HandlerFunction, options: HandlerOptions
    ) -> None:
        """Add a handler without the decorator; ``place`` is stream and group."""
        self._registry.add_handler(place, function, options)

    def stream(
        self,
        stream: str,
        *,
        retention: Retention | None = None,
        groups: Iterable[str] = (),
        weights: Mapping[int, int] | None = None,
        max_wait: Seconds | None = None,
        partitions: int | Partitions = 1,
    ) -> None:
        """Declare a stream, in every program that has handlers of it.

        The call may stand before or after the handlers. Workers store the declaration on
        the server when they start.

        Args:
            stream: its name.
            retention: ``work``: one group, whose acknowledgement deletes. ``fanout``:
                every declared group gets every event, which is deleted once all of them
                are done with it. None: as the stream is; a new stream is ``work``.
            groups: groups without a handler in this program, whose workers may start
                later. Events wait for them.
            weights: the share of each level in the slots of every worker, e.g.
                ``{10: 8, 5: 4, 1: 2, 0: 1}``. None: strictly the highest level first.
            max_wait: seconds, or a ``timedelta``, after which a waiting event is overdue.
                Overdue events of any level get every second slot, the oldest first.
                None: never.
            partitions: the number of partitions, chosen by ``key``, or e.g.
                ``Partitions(8, by="tenant")``. The number can only grow; see
                ``docs/scale.md``.

        Raises:
            ConfigurationError: a value is invalid, or the stream is declared already.
        """
        name = Keys(stream, self.settings.namespace).stream
        if not isinstance(partitions, Partitions):
            partitions = Partitions(partitions)

        plan = StreamPlan(
            Declaration(retention, checked_groups(groups)),
            weights
            if weights is None
            else checked_weights(weights, self.settings.levels),
            max_wait if max_wait is None else checked_wait(max_wait),
            partitions,
        )
        self._registry.add_stream(name, plan)

    def upcaster(
        self, type: str, *, from_version: str | None, to_version: str
    ) -> Callable[[F], F]:
        """Declare a function that upgrades the data of an event type to another version.

        The function takes the data and returns the new data. Upcasters run one after the
        other until none matches, and handlers see the last version in ``event.version``.
        If one raises, the event becomes a dead letter with reason ``invalid``.

        Args:
            type: the event's type.
            from_version: the version of the data that it takes; None: events without a
                version.
            to_version: the version of the data that it returns.

        Raises:
            ConfigurationError: a value is invalid, the version has an upcaster already,
                or the versions form a cycle.
        """

        def declare(function: F) -> F:
            self._upcasters.add(type, from_version, to_version, function)
            return function

        return declare

    @property
    def plans(self) -> list[GroupPlan]:
        """The declared groups, with the settings filled in."""
        return self._registry.plans(self.settings, self._upcasters)

    async def __aenter__(self) -> Self:
        return await self._open(self.patience)

    async def _open(self, wait: Wait) -> Self:
        if self._broker is None:
            if self.is_from_env and self.settings.url is None:
                accept_memory()

            broker = await opened(self._new_broker(), wait)
            if self._broker is None:
                self._broker, self._loop = broker, asyncio.get_running_loop()
            else:
                await broker.close()  # Another task has opened the pipeline meanwhile.

        self._check_loop()
        self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if self._users == 0 and self._broker is not None:
            broker, self._broker = self._broker, None
            self._producers = {}
            await broker.close()

    @property
    def is_open(self) -> bool:
        """Whether the pipeline is open."""
        return self._broker is not None

    @property
    def broker(self) -> Broker:
        """The open broker.

        Raises:
            ConfigurationError: the pipeline is not open, or it was opened in another event loop.
        """
        if self._broker is None:
            raise ConfigurationError(
                "the pipeline is not open: use it inside 'async with pipeline:'"
            )

        self._check_loop()
        return self._broker

    def _check_loop(self) -> None:
        """Refuse another event loop, where asyncio would fail with an obscure error."""
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return  # No loop runs, so nothing is awaited here.

        if self._broker is not None and running is not self._loop:
            raise ConfigurationError(OTHER_LOOP)

    def producer(self, stream: str) -> Producer:
        """The producer of a stream."""
        self._check_loop()
        producer = self._producers.get(stream)
        if producer is None:
            options = ProducerOptions.of(self.settings)
            producer = self._producers[stream] = Producer(self.broker, stream, options)

        return producer

    async def publish(
        self,
        stream: str,
        data: Any,
        *,
        type: str | None = None,
        **attributes: Unpack[EventAttributes],
    ) -> Receipt:
        """Publish one event; when this returns, the server has stored it.

        Args:
            stream: the stream's name.
            data: the body, or an ``Event``, which has its own attributes and takes no
                keywords; see ``Producer.publish``.
            type: the event's type; required unless ``data`` is an ``Event``.
            attributes: see ``EventAttributes``.

        Raises:
            StreamsError: as ``Producer.publish``.
        """
        return await self.producer(stream).publish(data, type=type, **attributes)

    async def publish_many(
        self,
        stream: str,
        events: Iterable[Any] | AsyncIterable[Any],
        *,
        type: str | None = None,
        **attributes: Unpack[EventAttributes],
    ) -> list[Receipt]:
        """Publish every event of an iterable, in batches; the receipts are in its order.

        The items are bodies, which share the keywords, or ``Event``s, which take none.

        Raises:
            StreamsError: as ``Producer.publish_many``.
        """
        return await self.producer(stream).publish_many(events, type=type, **attributes)

    def run(self, *, signals: bool = True) -> Coroutine[Any, Any, None]:
        """Run every declared group until ``stop``, SIGTERM, SIGINT or SIGHUP.

        Await it, or give it to ``asyncio.create_task``. ``stop`` works from the call on.
        Every exception is also logged in one line, because another program's task may be
        awaited late or never.

        Args:
            signals: whether these signals end the run. Earlier handlers of the signals
                are called as well. False: only ``stop`` ends it, for a worker inside a
                program that handles signals itself, e.g. a web server.

        Raises:
            ConfigurationError: no handler is declared, the health address is in use, or
                the pipeline is running already.
            AccessDenied: the credentials or permissions do not suffice.
            BrokerUnavailable: the server cannot be reached at the start, and
                ``settings.wait`` is ``never``. The worker waits out any other outage,
                alive and not ready.
            Exception: a middleware cannot start.
        """
        # Not a coroutine function, so that ``stop`` works before its task begins.
        run = WorkerRun()
        self._runs.add(run)
        return self._told(run, signals=signals)

    async def _told(self, run: WorkerRun, *, signals: bool) -> None:
        settings = self.settings
        be_heard()
        set_up_if_silent(settings.log, settings.log_level)
        if settings.log_tracebacks is not None:
            tracebacks.wanted = settings.log_tracebacks

        if any(other.is_begun for other in self._runs):
            self._runs.discard(run)
            logger.error(_TWICE)
            raise ConfigurationError(_TWICE)

        run.is_begun = True
        try:
            await self._run(run, signals=signals)
        except Exception as error:
            tell_end(logger, error)
            raise
        finally:
            self._runs.discard(run)

    async def _run(self, run: WorkerRun, *, signals: bool) -> None:
        if not self._registry:
            raise ConfigurationError(
                "this pipeline has no handler: "
                "declare one with @pipeline.handler(stream, group=)"
            )

        native.refuse_greenlets()
        # In a thread, because ``AppConfig.ready`` may block or query a database.
        if django_apps.are_missing():
            await asyncio.to_thread(django_apps.set_up)

        if run.is_stopped:
            logger.info("stopped before it began")
            return

        settings = self.settings
        await self._open(settings.wait)
        try:
            service = self.service(self.plans)
            if run.serve(service):
                self._service = service
                async with (
                    served(settings.health, self.broker, lambda: service.vitals),
                    AsyncExitStack() as lives,
                ):
                    for lifespan in self.lifespans:
                        await lives.enter_async_context(lifespan())
                    await service.run(signals=signals)

                self.abandoned = service.abandoned
        finally:
            self._service = None
            await self.__aexit__()

    def stop(self) -> None:
        """End ``run`` after its handlers; a second call cancels the handlers.

        Does nothing if the pipeline neither runs nor is scheduled to run.
        """
        for run in list(self._runs):
            run.stop()

    def service(self, plans: Sequence[GroupPlan], *, name: str = "") -> Service:
        """The service that ``run`` runs, for programs that run it themselves.

        ``name`` is the worker's name; an empty one is replaced by a unique name.
        """
        given = service_options(self.settings, self.middleware)
        options = dataclasses.replace(given, name=name, on_reached=self.on_reached)
        return Service(self.broker, plans, options)

    def _new_broker(self) -> Broker:
        own = self.settings
        broker = Broker(
            own.url, namespace=own.namespace, timeout=own.timeout, url_file=own.url_file
        )
        broker.observers = tuple(
            found for found in self.middleware if isinstance(found, Observer)
        )
        return broker
