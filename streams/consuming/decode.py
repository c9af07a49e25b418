"""Decoding: from a delivered entry to an event, or to the outcome of the entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from streams.broker.entries.delivery import Delivery
from streams.common.exception_text import NOWHERE, Setting, describe_error, where_of
from streams.common.log_facts import logger_of
from streams.consuming.execution import Execution
from streams.consuming.settler import Settler
from streams.consuming.state import ConsumerState
from streams.consuming.telling import log_death
from streams.errors import EventTooLarge, InvalidData, MalformedEvent
from streams.events.codec import decode
from streams.events.event import Event
from streams.events.names import member
from streams.handlers.routes import Prepare, Router
from streams.logs import failure_facts

logger = logger_of("consumer")


class UserFunction(NamedTuple):
    """A function of the user's that is called before any handler.

    Attributes:
        name: how a sentence calls it.
        call: the function.
    """

    name: str
    call: Callable[..., Any]


class Decoder:
    """Opens entries.

    An entry that no worker could handle goes to the dead letters without an attempt.
    """

    def __init__(self, state: ConsumerState, router: Router, settler: Settler) -> None:
        self._state = state
        self._router = router
        self._settler = settler
        self._stream = state.id.stream
        self._group = state.id.group
        self._max_event_bytes = state.options.max_event_bytes
        self._clock = state.clock

    def decode(self, delivery: Delivery) -> bool:
        """Read an entry as an event.

        False: it is none, or it is meant for another group. It has its outcome then.
        """
        try:
            event = decode(delivery.fields, self._max_event_bytes)
        except (MalformedEvent, EventTooLarge) as error:
            return self.refuse(
                delivery,
                "too-large" if isinstance(error, EventTooLarge) else "malformed",
                error,
            )
        if event.group and event.group != self._group:
            # A replay meant for another group of this stream.
            self._settler.done(delivery)
            return False
        event.stream = self._stream
        event.group = self._group
        event.priority = delivery.level
        event.entry_id = delivery.entry_id
        event.id = event.id or member(delivery.level, delivery.entry_id)
        event.attempt = delivery.history().attempts + 1 if delivery.record else 1
        delivery.event = event
        return True

    def open(self, run: Execution) -> bool:
        """Fill in the event and the route of an attempt.

        False: there is nothing to start, and the entry has its outcome.
        """
        delivery = run.delivery
        event = delivery.event
        assert event is not None  # noqa: S101 - for the type checker
        run.event = event
        route = self._router.find(event.type)
        if route is None:
            cause = LookupError("no handler of this group serves the event's type")
            return self.refuse(delivery, "no-handler", cause, event)
        run.route = route
        if route.prepare is not None:
            return self._prepare(delivery, event, route.prepare)
        return True

    def _prepare(self, delivery: Delivery, event: Event[Any], prepare: Prepare) -> bool:
        try:
            prepare(event)
        except InvalidData as error:
            return self.refuse(
                delivery, "invalid", error, event, ours=error.__cause__ is None
            )
        return True

    def refuse(
        self,
        delivery: Delivery,
        reason: str,
        error: BaseException,
        event: Event[Any] | None = None,
        *,
        function: UserFunction | None = None,
        ours: bool = True,
    ) -> Literal[False]:
        """To the dead letters without an attempt: the handler never saw the event.

        Args:
            delivery: the entry.
            reason: of the dead letter.
            error: why.
            event: its part that could be read.
            function: the user's, which raised ``error``.
            ours: the error comes from no code of the user's, so that its place tells
                nothing.
        """
        setting = (
            NOWHERE
            if event is None
            else Setting(function.call if function else None, event.raw)
        )
        record = delivery.history()
        described, facts = (
            describe_error(error, self._state.id.name, setting),
            failure_facts(error, setting),
        )
        if function is not None:
            described["message"] = facts["error_message"] = (
                f"{function.name} failed: {described['message']}"
            )
        elif ours:
            # The place is ours: no handler has seen the event.
            facts.pop("error_at", None)
        else:
            described["where"] = facts["error_at"] = where_of(
                error.__cause__ or error, setting
            )
        record.note(described, at=round(self._clock.now(), 3))
        log_death(self._state.id, delivery, reason, event, said_by=logger, **facts)
        self._settler.bury(delivery, reason, record.to_json())
        return False
