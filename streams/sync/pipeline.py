"""The blocking pipeline."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from streams import pipeline as asynchronous
from streams.admin.status import EntryState
from streams.admin.why import Reasons
from streams.common.blocks import Blocking
from streams.common.hints import PIPELINE, missing
from streams.events.event import EventAttributes
from streams.events.receipt import Receipt
from streams.handlers.plans import GroupPlan
from streams.handlers.registry import HandlerOptions
from streams.handlers.routes import HandlerFunction
from streams.middleware.base import Middleware
from streams.policy.declaration import Retention
from streams.policy.partitions import Partitions
from streams.quantities import Seconds
from streams.settings import Settings
from streams.sync.letters import DeadLetters
from streams.sync.portal import Portal, refuse_in_event_loop
from streams.sync.producer import Producer
from streams.sync.views import (
    Cancellations,
    Groups,
    Limits,
    OrderedKeys,
    Pauses,
    Status,
    Tracking,
)

F = TypeVar("F", bound=Callable[..., Any])
H = TypeVar("H", bound=HandlerFunction)


class Pipeline(Blocking):
    """Streams on one server, with their handlers, for programs that block; see ``streams.Pipeline``.

    Every method does what its namesake there does, and returns when that is done. Connections open with the first
    call and close at the end of the program, or, with ``with pipeline:``, at the end of the outermost block. Any
    number of threads may share one object; after a fork the child opens connections of its own.

    Args:
        url: the server; see ``streams.Broker``. None: the embedded server that keeps nothing.
        settings: everything else; ``Settings()`` if None.
        middleware: what wraps every attempt, outermost first; see ``streams.middleware``.

    Attributes:
        asynchronous: the pipeline with the declarations: what a worker runs, and what ``async def`` handlers await.

    Raises:
        ConfigurationError: the URL cannot be used, or, by any blocking method, an event loop runs in this thread.
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
        """What wraps every attempt, outermost first."""
        return self.asynchronous.middleware

    @property
    def portal(self) -> Portal:
        """The way into the pipeline's event loop, for what has no blocking method."""
        return self._portal

    def handler(
        self, stream: str, *, group: str, **options: Unpack[HandlerOptions]
    ) -> Callable[[H], H]:
        """Declare a function as a handler of ``group`` on ``stream``; see ``streams.Pipeline.handler``."""
        return self.asynchronous.handler(stream, group=group, **options)

    def add_handler(
        self, place: tuple[str, str], function: HandlerFunction, options: HandlerOptions
    ) -> None:
        """What ``handler`` does, without the decorator; ``place`` is stream and group."""
        self.asynchronous.add_handler(place, function, options)

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
        """Declare a stream; see ``streams.Pipeline.stream``."""
        self.asynchronous.stream(
            stream,
            retention=retention,
            groups=groups,
            weights=weights,
            max_wait=max_wait,
            partitions=partitions,
        )

    def upcaster(
        self, type: str, *, from_version: str | None, to_version: str
    ) -> Callable[[F], F]:
        """Declare a function that brings data up by a version; see ``streams.Pipeline.upcaster``."""
        return self.asynchronous.upcaster(
            type, from_version=from_version, to_version=to_version
        )

    @property
    def plans(self) -> list[GroupPlan]:
        """The declared groups, with the settings filled in."""
        return self.asynchronous.plans

    def __enter__(self) -> Self:
        self._portal.enter()
        return self

    def __exit__(self, *_: object) -> None:
        self._portal.leave()

    def close(self) -> None:
        """Close the connections; calls under way may finish. The next call opens new ones."""
        self._portal.close()

    def producer(self, stream: str) -> Producer:
        """The producer of a stream."""
        return Producer(self._portal, stream)

    def publish(
        self,
        stream: str,
        data: Any,
        *,
        type: str | None = None,
        **attributes: Unpack[EventAttributes],
    ) -> Receipt:
        """Publish one event; see ``streams.Producer.publish``."""
        return self.producer(stream).publish(data, type=type, **attributes)

    def publish_many(
        self,
        stream: str,
        events: Iterable[Any],
        *,
        type: str | None = None,
        **attributes: Unpack[EventAttributes],
    ) -> list[Receipt]:
        """Publish many events; see ``streams.Producer.publish_many``."""
        return self.producer(stream).publish_many(events, type=type, **attributes)

    def dead_letters(
        self, stream: str, group: str, *, by: str = "", partition: int | None = None
    ) -> DeadLetters:
        """The dead letters of a group; ``by`` names who acts, for the audit record."""
        return DeadLetters(self._portal, stream, group, by=by, partition=partition)

    def pauses(
        self, stream: str, *, by: str = "", partition: int | None = None
    ) -> Pauses:
        """What is held back of a stream, to pause and to resume; ``by`` names who acts, for the audit record."""
        return Pauses(self._portal, stream, by=by, partition=partition)

    def limits(
        self, stream: str, group: str, *, by: str = "", partition: int | None = None
    ) -> Limits:
        """The limits of a group, to look at and to change; ``by`` names who acts, for the audit record."""
        return Limits(self._portal, stream, group, by=by, partition=partition)

    def ordered_keys(
        self, stream: str, group: str, *, by: str = "", partition: int | None = None
    ) -> OrderedKeys:
        """The keys whose order a group keeps, to look at, and to release or skip; ``by`` names who acts."""
        return OrderedKeys(self._portal, stream, group, by=by, partition=partition)

    def groups(
        self, stream: str, *, by: str = "", partition: int | None = None
    ) -> Groups:
        """The groups of a stream, to look at and to give up; ``by`` names who acts, for the audit record."""
        return Groups(self._portal, stream, by=by, partition=partition)

    def cancel(
        self,
        stream: str,
        id: str,
        group: str = "",
        *,
        by: str = "",
        partition: int | None = None,
    ) -> EntryState:
        """Cancel an event that is scheduled or waits for a retry; see ``streams.Cancellations.cancel``."""
        return self.cancellations(stream, by=by, partition=partition).cancel(id, group)

    def run_now(
        self,
        stream: str,
        id: str,
        group: str = "",
        *,
        by: str = "",
        partition: int | None = None,
    ) -> EntryState:
        """Let an event run before its time, scheduled or for a retry; see ``streams.Impatience.run_now``."""
        return self._portal.call(
            lambda p: p.run_now(stream, id, group, by=by, partition=partition)
        )

    def why(  # noqa: PLR0913 - which events
        self,
        stream: str,
        event: str | None = None,
        *,
        key: str | None = None,
        tenant: str | None = None,
        level: int | None = None,
        group: str = "",
        partition: int | None = None,
    ) -> Reasons:
        """Why an event waits, or those of a key, a tenant or a level; see ``streams.Pipeline.why``."""
        return self._portal.call(
            lambda p: p.why(
                stream,
                event,
                key=key,
                tenant=tenant,
                level=level,
                group=group,
                partition=partition,
            )
        )

    def cancellations(
        self, stream: str, *, by: str = "", partition: int | None = None
    ) -> Cancellations:
        """For cancelling many events of a stream; ``by`` names who acts, for the audit record."""
        return Cancellations(self._portal, stream, by=by, partition=partition)

    def tracking(
        self, stream: str, ranks: Mapping[str, int], retention: Seconds
    ) -> Tracking:
        """Follow single events of a stream through states of one's own; see ``streams.admin.tracking.Tracking``."""
        return Tracking(self._portal, stream, ranks, retention)

    def status(self) -> Status:
        """Where entries stand."""
        return Status(self._portal)

    def run(self, *, signals: bool = True) -> None:
        """Run every declared group until ``stop`` or SIGTERM or SIGINT; see ``streams.Pipeline.run``."""
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
