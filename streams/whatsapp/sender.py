"""The sender: the handler that gives messages to their providers and acts on what these say."""

from __future__ import annotations

import asyncio
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
from streams.whatsapp.journal import Journal, Tell
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
from streams.whatsapp.suppressions import MARKETING, Suppressions, stops
from streams.whatsapp.vault import vault_of

logger = logger_of("whatsapp")

SEND = "message.send"
"""Type of the events that are messages."""
DECIDE = "message.decide"
"""Type of the events that end an unknown outcome."""
_MOST_STRIKES = 6
_PROBE = 15.0
"""Seconds after which an instance that could not send is tried again, with one message."""


class NotSent(Exception):  # noqa: N818 - an outcome, told in the field's words
    """A message did not go out; the queue tries it again. ``retry_after``: seconds that the provider asks for."""

    def __init__(self, reason: str, retry_after: float | None) -> None:
        super().__init__(reason)
        if retry_after is not None:
            self.retry_after = retry_after


class Sender:
    """Sends messages. Declares its handlers with the pipeline that it is given.

    Order per instance and recipient, fairness among tenants, rates of instances and of pairs, and the breaker that
    holds back an instance that cannot send are the pipeline's.

    Args:
        pipeline: without handlers of the group ``sender`` on the stream ``whatsapp``.
        settings: of the application.
        instances: whose messages are sent.
        providers: by which.
        tell: is told what became of messages.
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
        self._journal = Journal(pipeline, settings, tell)
        self._strikes: dict[tuple[str, str], int] = {}
        self._seen: Connections | None = None
        pipeline.middleware.append(
            Breaker("instance", failures=0.8, minimum=20, window=60.0, open_for=_PROBE)
        )
        retry = Retry(max_retries=settings.max_retries, delay=settings.retry_delay)
        lined_up = {"order_by": ("instance", "subject"), "fair_by": "tenant"}
        timeout = settings.timeout + 10.0
        pipeline.handler(
            STREAM,
            group=GROUP,
            types=[SEND],
            retry=retry,
            timeout=timeout,
            concurrency=settings.concurrency,
            limits=self._limits(),
            **lined_up,  # type: ignore[arg-type] # the same for both
        )(self.send)
        pipeline.handler(
            STREAM,
            group=GROUP,
            types=[DECIDE],
            retry=Retry(max_retries=100),
            **lined_up,  # type: ignore[arg-type]
        )(self.decide)

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
        """Send one message, unless it went out before or nobody knows whether it did."""
        suppressions = Suppressions(self._pipeline)
        known, suppression = await asyncio.gather(
            self._journal.get(event.id),
            suppressions.find(event.subject or "?", event.tenant or ""),
        )
        anew = bool(event.replays) and (
            known is None or known.fields.get("replays") != str(event.replays)
        )
        if known is not None and not anew:
            if known.fields.get("provider_id"):
                # It went out; only its acknowledgement was lost, and perhaps what the tenant should hear.
                await self._journal.tell(
                    event.id, event.tenant or "", MessageStatus.SENT, known.fields
                )
                return
            if known.fields.get("trying"):
                await self._leave_open(
                    event, "the worker was lost while it was sending"
                )
                return
        if stops(suppression, str(event.meta.get("category", ""))):
            # Acknowledged: there is nothing to look into, and a replay would not go out either.
            fields = {"trying": "", "reason": "suppressed"}
            await self._note(
                event,
                MessageStatus.FAILED,
                {"attempt": event.attempt, "reason": "suppressed"},
                fields,
            )
            return
        try:
            body = vault_of(self._settings.encryption_keys).open(
                event.data, event.id, event.tenant or ""
            )
            message = Message.from_data(body)
        except InvalidMessage as error:
            await self._fail(event, Hopeless(reason=str(error)))
            raise
        await self._instances.refresh(self._pipeline)
        instance = self._instances.get(event.instance or "")
        if instance is None:
            await self._fail(event, Hopeless(reason="no_instance"))
        elif instance.provider != "sandbox" and not instance.token:
            await self._act(event, Blocked(reason="no_secret"))  # This worker has none.
        else:
            fields = {
                "trying": str(event.attempt),
                "reason": "",
                "replays": str(event.replays or ""),
            }
            if anew:
                fields["provider_id"] = ""
            facts = {"attempt": event.attempt}
            await self._note(event, MessageStatus.PROCESSING, facts, fields, anew=anew)
            outcome = await self._providers.of(instance).send(
                instance, message, event.id
            )
            try:
                await self._act(event, outcome)
            finally:
                await self._look(instance, outcome)

    async def _look(self, instance: Instance, outcome: Outcome) -> None:
        """Write down whether the instance can send. Its provider is not asked: some call a lost session open.

        News for operators: it changes nothing of what became of the message.
        """
        try:
            if isinstance(outcome, Sent):
                await self._connections().note(instance.id, Connection.OPEN, "sender")
            elif isinstance(outcome, Blocked):
                await self._connections().note(
                    instance.id, Connection.CLOSED, "sender", outcome.reason
                )
        except StreamsError as error:
            logger.warning(
                "a connection cannot be noted",
                extra={"instance": instance.id, "error": str(error)},
            )

    def _connections(self) -> Connections:
        if self._seen is None:
            self._seen = Connections(self._pipeline)
        return self._seen

    async def _note(
        self,
        event: Event[Any],
        status: MessageStatus,
        facts: dict[str, Any],
        fields: dict[str, str],
        *,
        anew: bool = False,
    ) -> None:
        whose = {"tenant": event.tenant or "", "instance": event.instance or ""}
        await self._journal.note(
            event.id, status, facts, fields={**whose, **fields}, anew=anew
        )

    async def _act(self, event: Event[Any], outcome: Outcome) -> None:
        """Do what the outcome asks for.

        Raises:
            Exception: what tells the pipeline to retry, throttle, hold back or bury.
        """
        if isinstance(outcome, Sent):
            self._forget_strikes(event)
            waited = max(
                0.0,
                self._pipeline.broker.clock.now()
                - int(event.entry_id.partition("-")[0]) / 1000,
            )
            facts = {
                "attempt": event.attempt,
                "provider_id": outcome.provider_id,
                "waited": waited,
            }
            fields = {"provider_id": outcome.provider_id, "trying": "", "reason": ""}
            await self._note(event, MessageStatus.SENT, facts, fields)
        elif isinstance(outcome, Unknown):
            await self._leave_open(event, outcome.reason)
        elif isinstance(outcome, Hopeless):
            if outcome.suppress and event.subject:
                suppressions = Suppressions(self._pipeline)
                await suppressions.add(
                    event.subject,
                    event.tenant or "",
                    MARKETING,
                    reason=outcome.reason,
                    by="provider",
                )
            await self._fail(event, outcome)
        elif isinstance(outcome, Again):
            retries = event.attempt - 1
            limit = int(event.meta.get("max_retries", self._settings.max_retries))
            if retries >= (limit if outcome.most is None else min(limit, outcome.most)):
                await self._fail(
                    event, Hopeless(outcome.code, outcome.reason, outcome.trace)
                )
            await self._wait(event, outcome)
            raise NotSent(_told(outcome), outcome.after)
        elif isinstance(outcome, Throttled):
            await self._wait(event, outcome)
            raise Throttle(
                outcome.scope,
                min(3600.0, outcome.after * self._strike(event, outcome.scope)),
            )
        elif isinstance(outcome, Blocked):
            await self._wait(event, outcome)
            raise Unavailable(_told(outcome))

    async def _wait(self, event: Event[Any], outcome: Outcome) -> None:
        facts = {
            "attempt": event.attempt,
            "code": outcome.code,
            "reason": outcome.reason,
            "trace": outcome.trace,
        }
        fields = {"trying": "", "reason": outcome.reason}
        await self._note(event, MessageStatus.RETRYING, facts, fields)

    async def _fail(self, event: Event[Any], outcome: Hopeless) -> None:
        facts = {
            "attempt": event.attempt,
            "code": outcome.code,
            "reason": outcome.reason,
            "trace": outcome.trace,
        }
        await self._note(
            event, MessageStatus.FAILED, facts, {"trying": "", "reason": outcome.reason}
        )
        raise Reject(_told(outcome))

    async def _leave_open(self, event: Event[Any], reason: str) -> None:
        """Nobody knows whether it went out. A status webhook will tell, or the policy decides after a time."""
        logger.warning(
            "unknown outcome: not sent again until it is known",
            extra={"event_id": event.id, "error": reason},
        )
        facts = {"attempt": event.attempt, "reason": f"unknown: {reason}"}
        await self._note(event, MessageStatus.PROCESSING, facts, {"reason": "unknown"})
        meta = {
            name: event.meta[name]
            for name in ("tenant", "instance", "subject")
            if name in event.meta
        }
        await self._pipeline.publish(
            STREAM,
            {
                "message_id": event.id,
                "message": event.data,
                "meta": meta,
                "attempt": event.attempt,
            },
            type=DECIDE,
            priority=event.priority,
            delay=self._settings.unknown_after,
            # Not as its subject: a decision must not wait for its turn among the messages to the same recipient.
            headers={"recipient": event.subject or ""},
            dedup_id=f"decide-{event.id}-{event.attempt}-{event.replays}",
        )

    async def decide(self, event: Event[Any]) -> None:
        """The time for an unknown outcome is over: by the policy it failed, or is sent again."""
        ident = str(event.data["message_id"])
        known = await self._journal.get(ident)
        if (
            known is None
            or known.fields.get("provider_id")
            or known.state != MessageStatus.PROCESSING
        ):
            return
        if self._settings.unknown_policy == "resend":
            whose = {
                name: event.data["meta"].get(name, "")
                for name in ("tenant", "instance")
            }
            fields = {"trying": "", "reason": "", **whose}
            await self._journal.note(
                ident, MessageStatus.RETRYING, {"reason": "resent"}, fields=fields
            )
            await self._pipeline.publish(
                STREAM,
                event.data["message"],
                type=SEND,
                id=ident,
                priority=event.priority,
                dedup_id=f"resend-{ident}-{event.data['attempt']}",
                **event.data["meta"],
            )
        else:
            whose = {
                name: event.data["meta"].get(name, "")
                for name in ("tenant", "instance")
            }
            fields = {"trying": "", "reason": "unknown", **whose}
            await self._journal.note(
                ident, MessageStatus.FAILED, {"reason": "unknown"}, fields=fields
            )

    def _strike(self, event: Event[Any], scope: str) -> int:
        """By how much a throttle is longer than the first of its kind in a row."""
        place = (scope, self._scope_key(event, scope))
        strikes = self._strikes[place] = min(
            _MOST_STRIKES, self._strikes.get(place, 0) + 1
        )
        return int((4 if scope == "pair" else 2) ** (strikes - 1))

    def _forget_strikes(self, event: Event[Any]) -> None:
        for scope in ("app", "waba", "instance", "pair"):
            self._strikes.pop((scope, self._scope_key(event, scope)), None)

    def _scope_key(self, event: Event[Any], scope: str) -> str:
        if scope == "app":
            return ""
        if scope == "waba":
            return self._instances.waba_of(event.instance) or ""
        return (
            f"{event.instance},{event.subject}"
            if scope == "pair"
            else str(event.instance)
        )


def _told(outcome: Outcome) -> str:
    return f"{outcome.reason} ({outcome.code})" if outcome.code else outcome.reason
