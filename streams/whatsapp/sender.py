"""The sender: the handler that passes messages to their providers and acts on outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from streams.common.log_facts import logger_of
from streams.errors import InvalidMessage, Reject, StreamsError, Throttle, Unavailable
from streams.events.event import Event
from streams.middleware import Breaker
from streams.pipeline import Pipeline
from streams.policy.limit import Limit
from streams.policy.retry import Retry
from streams.whatsapp.connections import Connections
from streams.whatsapp.instances import Instances, Providers
from streams.whatsapp.journal import StatusLog, Tell
from streams.whatsapp.message import Message
from streams.whatsapp.outcome import (
    Again,
    Blocked,
    Hopeless,
    Outcome,
    Sent,
    Throttled,
    Unknown,
)
from streams.whatsapp.providers.base import Connection, Instance
from streams.whatsapp.settings import WhatsAppSettings
from streams.whatsapp.status import GROUP, STREAM, MessageStatus
from streams.whatsapp.suppressions import Suppressions, stops
from streams.whatsapp.vault import vault_of

logger = logger_of("whatsapp")

SEND = "message.send"
"""Type of the events that are messages."""
DECIDE = "message.decide"
"""Type of the events that end an unknown outcome."""
_MOST_STRIKES = 6
_PROBE = 15.0
"""Seconds after which a blocked instance is probed with one message."""


class NotSent(Exception):  # noqa: N818 - an outcome, told in the field's words
    """A message did not go out; the queue tries it again.

    ``retry_after``: seconds that the provider asks for.
    """

    def __init__(self, reason: str, retry_after: float | None) -> None:
        super().__init__(reason)
        if retry_after is not None:
            self.retry_after = retry_after


class Sender:
    """Sends messages. Declares its handlers on the pipeline.

    The pipeline keeps the order per instance and recipient, the turns of tenants, and the rates
    of instances and pairs. Its breaker holds back an instance that cannot send.

    Args:
        pipeline: without handlers of the group ``sender`` on the stream ``whatsapp``.
        settings: of the application.
        instances: that send.
        providers: of the instances.
        tell: called with the states of messages.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        settings: WhatsAppSettings,
        instances: Instances,
        providers: Providers,
        tell: Tell,
    ) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self._instances = instances
        self._providers = providers
        self._log = StatusLog(pipeline, settings, tell)
        self._strikes: dict[tuple[str, str], int] = {}
        self._connections = Connections(pipeline)
        pipeline.middleware.append(
            Breaker("instance", failures=0.8, minimum=20, window=60.0, open_for=_PROBE)
        )

        on_stream = partial(
            pipeline.handler,
            STREAM,
            group=GROUP,
            order_by=("instance", "subject"),
            fair_by="tenant",
        )

        sends = on_stream(
            types=[SEND],
            retry=Retry(max_retries=settings.max_retries, delay=settings.retry_delay),
            timeout=settings.timeout + 10.0,
            concurrency=settings.concurrency,
            limits=self._limits(),
        )
        sends(self.send)
        decides = on_stream(types=[DECIDE], retry=Retry(max_retries=100))
        decides(self.decide)

    def _limits(self) -> list[Limit]:
        settings = self._settings
        return [
            Limit("instance", rate=settings.rate, burst=settings.burst),
            Limit(
                ("instance", "subject"),
                rate=settings.pair_rate,
                burst=settings.pair_burst,
                name="pair",
            ),
            Limit(lambda event: self._instances.waba_of(event.instance), name="waba"),
            Limit(lambda event: "all", name="app"),
        ]

    async def send(self, event: Event[Any]) -> None:
        """Send one message, unless an earlier try sent it or may have."""
        tenant = event.tenant or ""
        suppressions = Suppressions(self._pipeline)
        known, suppression = await asyncio.gather(
            self._log.tracking.get(event.id),
            suppressions.find(event.subject or "?", tenant),
        )

        anew = bool(event.replays) and (
            known is None or known.fields.get("replays") != str(event.replays)
        )

        if known is not None and not anew:
            if known.fields.get("provider_id"):
                # Sent before: only the acknowledgement was lost, and perhaps the report.
                await self._log.tell(event.id, tenant, MessageStatus.SENT, known.fields)
                return

            if known.fields.get("trying"):
                await self._leave_open(
                    event, "the worker was lost while it was sending"
                )
                return

        if stops(suppression, str(event.meta.get("category", ""))):
            # Acknowledged, not failed: a replay would not go out either.
            outcome = Hopeless(reason="suppressed")
            await self._note_end(event, MessageStatus.FAILED, outcome)
            return

        message = await self._message(event)
        await self._instances.refresh(self._pipeline)
        instance = self._instances.get(event.instance or "")

        if instance is None:
            await self._fail(event, Hopeless(reason="no_instance"))
        elif instance.provider != "sandbox" and not instance.token:
            # Another worker may have the secret.
            await self._act(event, Blocked(reason="no_secret"))
        else:
            await self._try(event, instance, message, anew=anew)

    async def _message(self, event: Event[Any]) -> Message:
        vault = vault_of(self._settings.encryption_keys)
        try:
            body = vault.open(event.data, event.id, event.tenant or "")
            return Message.from_data(body)
        except InvalidMessage as error:
            await self._fail(event, Hopeless(reason=str(error)))
            raise

    async def _try(
        self, event: Event[Any], instance: Instance, message: Message, *, anew: bool
    ) -> None:
        """Send once. ``trying`` is stored before: it shows a lost worker's open try."""
        fields = {
            "trying": str(event.attempt),
            "reason": "",
            "replays": str(event.replays or ""),
        }

        if anew:
            fields["provider_id"] = ""

        await self._note(event, MessageStatus.PROCESSING, {}, fields, anew=anew)
        provider = self._providers.of(instance)
        outcome = await provider.send(instance, message, event.id)

        try:
            await self._act(event, outcome)
        finally:
            await self._report_connection(instance, outcome)

    async def _report_connection(self, instance: Instance, outcome: Outcome) -> None:
        """Store whether the instance can send, for operators.

        The provider is not asked: some report a lost session as open. An error here
        does not change the state of the message.
        """
        if isinstance(outcome, Sent):
            state, reason = Connection.OPEN, ""
        elif isinstance(outcome, Blocked):
            state, reason = Connection.CLOSED, outcome.reason
        else:
            return

        try:
            await self._connections.note(instance.id, state, "sender", reason)
        except StreamsError as error:
            facts = {"instance": instance.id, "error": str(error)}
            logger.warning("a connection cannot be noted", extra=facts)

    async def _note(
        self,
        event: Event[Any],
        status: MessageStatus,
        facts: dict[str, Any],
        fields: dict[str, str],
        *,
        anew: bool = False,
    ) -> None:
        await self._log.note(
            event.id,
            status,
            {"attempt": event.attempt, **facts},
            fields={**_owner(event.meta), **fields},
            anew=anew,
        )

    async def _note_end(
        self, event: Event[Any], status: MessageStatus, outcome: Outcome
    ) -> None:
        """Store the end of a try that did not send."""
        facts = {
            "code": outcome.code,
            "reason": outcome.reason,
            "trace": outcome.trace,
        }
        await self._note(event, status, facts, {"trying": "", "reason": outcome.reason})

    async def _act(self, event: Event[Any], outcome: Outcome) -> None:
        """Act on an outcome.

        Raises:
            NotSent: the queue tries again.
            Throttle: the scope of the outcome slows down.
            Unavailable: the breaker counts a failure of the instance.
            Reject: the message failed.
        """
        match outcome:
            case Sent():
                await self._note_sent(event, outcome)
            case Unknown():
                await self._leave_open(event, outcome.reason)
            case Hopeless():
                await self._fail(event, outcome)
            case Again() if self._is_exhausted(event, outcome):
                failed = Hopeless(outcome.code, outcome.reason, outcome.trace)
                await self._fail(event, failed)
            case _:
                await self._note_end(event, MessageStatus.RETRYING, outcome)
                raise self._retry(event, outcome)

    def _retry(self, event: Event[Any], outcome: Outcome) -> Exception:
        """The exception that makes the pipeline try again."""
        if isinstance(outcome, Throttled):
            after = outcome.after * self._strike(event, outcome.scope)
            return Throttle(outcome.scope, min(3600.0, after))

        if isinstance(outcome, Again):
            return NotSent(_told(outcome), outcome.after)

        return Unavailable(_told(outcome))

    def _is_exhausted(self, event: Event[Any], outcome: Again) -> bool:
        limit = int(event.meta.get("max_retries", self._settings.max_retries))
        if outcome.most is not None:
            limit = min(limit, outcome.most)

        return event.attempt > limit

    async def _note_sent(self, event: Event[Any], outcome: Sent) -> None:
        self._forget_strikes(event)
        queued_at = int(event.entry_id.partition("-")[0]) / 1000
        waited = max(0.0, self._pipeline.broker.clock.now() - queued_at)
        facts = {"provider_id": outcome.provider_id, "waited": waited}
        fields = {"provider_id": outcome.provider_id, "trying": "", "reason": ""}
        await self._note(event, MessageStatus.SENT, facts, fields)

    async def _fail(self, event: Event[Any], outcome: Hopeless) -> None:
        if outcome.suppress and event.subject:
            suppressions = Suppressions(self._pipeline)
            tenant = event.tenant or ""
            await suppressions.report(event.subject, tenant, outcome.reason)

        await self._note_end(event, MessageStatus.FAILED, outcome)
        raise Reject(_told(outcome))

    async def _leave_open(self, event: Event[Any], reason: str) -> None:
        """Keep an unknown outcome open until a status webhook or the policy decides it."""
        logger.warning(
            "unknown outcome: not sent again until it is known",
            extra={"event_id": event.id, "error": reason},
        )
        facts = {"reason": f"unknown: {reason}"}
        await self._note(event, MessageStatus.PROCESSING, facts, {"reason": "unknown"})
        meta = {
            name: event.meta[name]
            for name in ("tenant", "instance", "subject")
            if name in event.meta
        }

        decision = {
            "message_id": event.id,
            "message": event.data,
            "meta": meta,
            "attempt": event.attempt,
        }

        await self._pipeline.publish(
            STREAM,
            decision,
            type=DECIDE,
            priority=event.priority,
            delay=self._settings.unknown_after,
            # Not as subject: a decision must not wait behind messages to this recipient.
            headers={"recipient": event.subject or ""},
            dedup_id=f"decide-{event.id}-{event.attempt}-{event.replays}",
        )

    async def decide(self, event: Event[Any]) -> None:
        """End an outcome that stayed unknown: fail the message, or send it again."""
        ident = str(event.data["message_id"])
        known = await self._log.tracking.get(ident)
        if (
            known is None
            or known.fields.get("provider_id")
            or known.state != MessageStatus.PROCESSING
        ):
            return

        resends = self._settings.unknown_policy == "resend"
        status = MessageStatus.RETRYING if resends else MessageStatus.FAILED
        reason = "resent" if resends else "unknown"
        fields = {
            "trying": "",
            "reason": "" if resends else "unknown",
            **_owner(event.data["meta"]),
        }
        await self._log.note(ident, status, {"reason": reason}, fields=fields)

        if resends:
            await self._pipeline.publish(
                STREAM,
                event.data["message"],
                type=SEND,
                id=ident,
                priority=event.priority,
                dedup_id=f"resend-{ident}-{event.data['attempt']}",
                **event.data["meta"],
            )

    def _strike(self, event: Event[Any], scope: str) -> int:
        """Count a throttle; the factor of its length grows with each one in a row."""
        key = (scope, self._scope_key(event, scope))
        strikes = min(_MOST_STRIKES, self._strikes.get(key, 0) + 1)
        self._strikes[key] = strikes
        base = 4 if scope == "pair" else 2

        return int(base ** (strikes - 1))

    def _forget_strikes(self, event: Event[Any]) -> None:
        for scope in ("app", "waba", "instance", "pair"):
            self._strikes.pop((scope, self._scope_key(event, scope)), None)

    def _scope_key(self, event: Event[Any], scope: str) -> str:
        match scope:
            case "app":
                return ""
            case "waba":
                return self._instances.waba_of(event.instance) or ""
            case "pair":
                return f"{event.instance},{event.subject}"
            case _:
                return str(event.instance)


def _owner(meta: Mapping[str, Any]) -> dict[str, str]:
    """The tenant and instance in the attributes of an event."""
    return {name: str(meta.get(name, "")) for name in ("tenant", "instance")}


def _told(outcome: Outcome) -> str:
    return f"{outcome.reason} ({outcome.code})" if outcome.code else outcome.reason
