"""The API for blocking programs such as Flask, Django and scripts."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, Unpack

from streams.common.log_facts import logger_of
from streams.errors import (
    BrokerUnavailable,
    InvalidMessage,
    PublishUnknown,
    StreamsError,
)
from streams.whatsapp.application import Application, with_fallback
from streams.whatsapp.content import Content, Text
from streams.whatsapp.direct import Direct
from streams.whatsapp.fallback import StandIn
from streams.whatsapp.idempotency import Remembered, dedup_id
from streams.whatsapp.messages import (
    MessageOptions,
    Messages,
    SendOptions,
    checked_text,
)
from streams.whatsapp.outcome import Hopeless, Outcome, Sent, Unknown
from streams.whatsapp.recipient import Recipient
from streams.whatsapp.status import MessageRecord, MessageStatus

logger = logger_of("whatsapp")
R = TypeVar("R")


class _OnApplication:
    """Asks for the messages of an application.

    Args:
        application: of this process.
    """

    def __init__(self, application: Application) -> None:
        self.application = application

    def _ask(self, act: Callable[[Messages], Awaitable[R]]) -> R:
        """Run a coroutine function of ``Messages`` on the loop of the application."""
        made = self.application
        return made.pipeline.portal.call(
            lambda pipeline: act(Messages(pipeline, made.settings))
        )

    def switch(self, application: Application) -> None:
        """Continue on another application."""
        self.application = application


class MessageQueue(_OnApplication):
    """Queues messages and reports their states. Threads may share one.

    Args:
        application: of this process.
    """

    def add_message(
        self,
        phone: str,
        message: str | Content,
        tenant_id: str | int = 1,
        instance_id: str | int = 1,
        priority: int = 0,
        **options: Unpack[SendOptions],
    ) -> str:
        """Queue a message; it is stored when this returns. Returns its id.

        Args:
            phone: with country code, or a business-scoped user id.
            message: a text, or a content such as ``Image(link=...)``.
            tenant_id: the tenant that sends it.
            instance_id: the sender.
            priority: 0 normal, 1 automatic reply, 5 important, 10 critical.
            options: ``max_retries``, ``retry_delay``, ``delay`` and ``expires`` (all in
                seconds), ``idempotency_key``, ``reply_to``; see ``SendOptions``.

        Raises:
            InvalidMessage: the provider would refuse it; nothing is queued.
            StreamsError: as ``streams.Pipeline.publish``.
        """
        content = Text(message) if isinstance(message, str) else message
        given: MessageOptions = {
            **options,
            "tenant": tenant_id,
            "instance": instance_id,
            "priority": priority,
        }
        key = options.get("idempotency_key")
        if not key:
            return self._ask(lambda messages: messages.add(phone, content, **given))

        name = dedup_id(str(tenant_id), key)
        ident = process.directly_sent.get(name)
        if ident is not None:
            # The server may not know of a message that was sent directly.
            return ident

        ident = self._ask(lambda messages: messages.add(phone, content, **given))
        process.queued.add(name, ident)
        return ident

    def get_queue_size(self) -> int:
        """Number of waiting messages, with delayed ones and retries."""
        counts = self._ask(Messages.counts)
        return counts.pending + counts.retrying

    def get_processing_count(self) -> int:
        """Number of messages that workers are sending."""
        return self._ask(Messages.counts).processing

    def get_status(self, message_id: str) -> MessageStatus | None:
        """The state of a message; None if it is not known (any more)."""
        return self._ask(lambda messages: messages.status(message_id))

    def get_message(self, message_id: str) -> MessageRecord:
        """The record of a message: status, provider's id, reason, timeline.

        Raises:
            NotFound: there is none, or it was forgotten.
        """
        return self._ask(lambda messages: messages.show(message_id))


class MessageWorker(_OnApplication):
    """The worker of this process, in its own thread; other processes may run more.

    Args:
        application: of this process.
    """

    def __init__(self, application: Application) -> None:
        super().__init__(application)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._since = 0.0
        self._stays = False

    @property
    def is_running(self) -> bool:
        """Whether its thread runs in this process."""
        return (
            self._thread is not None
            and self._thread.is_alive()
            and self._pid == os.getpid()
        )

    def start(self) -> None:
        """Start it, unless it runs. A child process after a fork starts its own."""
        self._stays = True
        self.start_for_now()

    def start_for_now(self) -> None:
        """Start it until the queue moves from the embedded server to the real one."""
        with self._lock:
            if not self.is_running:
                self._pid, self._since = os.getpid(), time.time()
                self._thread = threading.Thread(
                    target=self._run, name="whatsapp-worker", daemon=True
                )
                self._thread.start()

    def stop(self, timeout: float = 15.0) -> None:
        """Finish running messages and end the thread, within about ``timeout`` seconds."""
        with self._lock:
            thread, self._thread = self._thread, None

        if thread is not None and thread.is_alive():
            self.application.pipeline.stop()
            thread.join(timeout)

    def switch(self, application: Application) -> None:
        """Continue on another application; a worker started only for now ends."""
        runs = self.is_running and self._stays
        self.stop()
        super().switch(application)

        if runs:
            self.start()

    def get_stats(self) -> dict[str, Any]:
        """Totals of all workers of the queue, and figures of this process.

        ``processed`` is ``sent`` plus ``failed``. Of this process are ``running``,
        ``uptime`` (seconds), ``embedded`` (whether the embedded server holds the queue),
        ``sent_directly`` and ``handed_over`` (by the relay).
        """
        counts = self._ask(Messages.counts)
        totals = self._ask(Messages.totals)
        sent, failed = totals.get("sent", 0), totals.get("failed", 0)

        return {
            "running": self.is_running,
            "uptime": round(time.time() - self._since, 1) if self.is_running else 0.0,
            "processed": sent + failed,
            "sent": sent,
            "failed": failed,
            "retried": totals.get("retrying", 0),
            "delivered": totals.get("delivered", 0),
            "read": totals.get("read", 0),
            "queue_size": counts.pending + counts.retrying,
            "processing": counts.processing,
            "dead": counts.failed,
            "embedded": self.application.is_embedded,
            "sent_directly": process.sent_directly,
            "handed_over": process.handed_over,
        }

    def _run(self) -> None:
        try:
            self.application.pipeline.run()
        except StreamsError:
            logger.exception("the worker of messages has ended")


class Process:
    """The queue and the worker of this process, which are made when they are needed.

    Attributes:
        queued, directly_sent: the messages with idempotency keys, so that none is both
            queued and sent directly.
        sent_directly: number of messages.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._made: tuple[MessageWorker, MessageQueue] | None = None
        self._stand_in: StandIn | None = None
        self.queued = Remembered()
        self.directly_sent = Remembered()
        self.sent_directly = 0

    @property
    def handed_over(self) -> int:
        """Number of messages that the relay handed over."""
        return self._stand_in.handed_over if self._stand_in is not None else 0

    def parts(self) -> tuple[MessageWorker, MessageQueue]:
        """The worker and the queue; the first call makes them."""
        with self._lock:
            if self._made is None:
                wanted = Application.from_env()
                made = with_fallback(wanted)
                self._made = (MessageWorker(made), MessageQueue(made))
                stand_in = StandIn(wanted, made, self._switch)

                if stand_in.is_needed:
                    self._stand_in = stand_in
                    stand_in.start()

            return self._made

    def application(self) -> Application:
        """The application, also if its server is away."""
        made = self._made
        return made[0].application if made is not None else Application.from_env()

    def reset(self) -> None:
        """Stop and forget all of it."""
        with self._lock:
            stand_in, self._stand_in = self._stand_in, None

        if stand_in is not None:
            stand_in.stop()  # Without the lock, which its thread may need.

        with self._lock:
            self.queued.clear()
            self.directly_sent.clear()
            self.sent_directly = 0
            made, self._made = self._made, None

            if made is not None:
                worker, _ = made
                worker.stop()
                worker.application.pipeline.close()

    def _switch(self, application: Application) -> None:
        """Continue on the real server, which is back."""
        with self._lock:
            for part in self._made or ():
                part.switch(application)


process = Process()


def get_message_queue() -> MessageQueue:
    """The queue of this process; the first call makes it from the environment.

    Without ``REDIS_URL`` the embedded server is used, and the worker of this process starts.

    Raises:
        ConfigurationError: a setting cannot be used.
        BrokerUnavailable: no server answers, and ``STREAMS_FALLBACK`` is ``none``.
    """
    worker, queue = process.parts()
    if queue.application.is_embedded:
        worker.start_for_now()

    return queue


def get_message_worker() -> MessageWorker:
    """The worker of this process; raises as ``get_message_queue``."""
    return process.parts()[0]


def send_message_via_queue(
    phone: str,
    message: str | Content,
    tenant_id: str | int = 1,
    priority: int = 0,
    instance_id: str | int = 1,
    *,
    use_queue: bool = True,
    **options: Unpack[SendOptions],
) -> dict[str, Any]:
    """Queue a message, or send it directly.

    It is sent directly by request, or if the queue certainly did not store it. If the answer
    of the queue was lost, it is not sent directly: it may be queued.

    Refused messages and unavailable servers raise nothing. Returns ``success``, ``via_queue``
    and ``message_id``; without success also ``error``.
    """
    why = ""
    if use_queue:
        try:
            ident = get_message_queue().add_message(
                phone, message, tenant_id, instance_id, priority, **options
            )
        except InvalidMessage as error:
            return _failure(error)
        except (PublishUnknown, BrokerUnavailable) as error:
            if isinstance(error, PublishUnknown) or error.sent:
                return _failure(error) | {"via_queue": True}

            why = str(error)
            logger.error(  # noqa: TRY400
                "the queue is away: the message is sent directly", extra={"error": why}
            )
        else:
            return {"success": True, "via_queue": True, "message_id": ident}

    try:
        direct = Direct(
            application=process.application(),
            to=Recipient.parse(phone),
            content=Text(message) if isinstance(message, str) else message,
            tenant=checked_text("tenant", tenant_id),
            instance=checked_text("instance", instance_id),
            key=options.get("idempotency_key", ""),
        )
        result = {"success": False, "via_queue": False}
        result |= _directly(direct, asks=not why)
    except StreamsError as error:
        result = _failure(error)

    return result | ({"fallback": why} if why else {})


def _failure(error: StreamsError) -> dict[str, Any]:
    return {
        "success": False,
        "via_queue": False,
        "message_id": None,
        "error": str(error),
    }


def reset() -> None:
    """Stop and forget the queue and worker: for tests, and after changed settings."""
    process.reset()


def _directly(message: Direct, *, asks: bool) -> dict[str, Any]:
    """Send without the queue.

    Args:
        message: to send.
        asks: reserve the idempotency key on the server, and store the outcome there.
    """
    name = dedup_id(message.tenant, message.key)
    known = process.queued.get(name) or process.directly_sent.get(name)
    if known and message.key:
        return _duplicate(known)

    portal = message.application.pipeline.portal if asks else None
    if portal is not None:
        try:
            taken = portal.call(message.reserve)
            if taken != message.id:
                return _duplicate(taken)
        except BrokerUnavailable:
            portal = None
            logger.warning(
                "the server is away: the message may have been queued before"
            )

    outcome = asyncio.run(message.send())
    if message.key and isinstance(outcome, (Sent, Unknown)):
        process.directly_sent.add(name, message.id)

    process.sent_directly += isinstance(outcome, Sent)
    if portal is not None:
        try:
            portal.call(lambda pipeline: message.note(pipeline, outcome))
        except StreamsError as error:
            facts = {"event_id": message.id, "error": str(error)}
            logger.warning("a direct message cannot be followed", extra=facts)

    return {"message_id": message.id, **_told(outcome)}


def _duplicate(ident: str) -> dict[str, Any]:
    return {"success": True, "message_id": ident, "duplicate": True}


def _told(outcome: Outcome) -> dict[str, Any]:
    """The outcome of a direct message in the words of ``send_message_via_queue``."""
    if isinstance(outcome, Sent):
        return {"success": True, "provider_id": outcome.provider_id}

    words = {Unknown: "unknown", Hopeless: "failed"}
    return {"error": f"{words.get(type(outcome), 'not sent')}: {outcome.reason}"}
