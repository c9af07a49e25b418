"""What blocking programs (Flask, Django, scripts) call: a queue, its worker, and one function that does both."""

from __future__ import annotations

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
from streams.whatsapp.direct import Direct, Remembered, Sending, new_ident
from streams.whatsapp.fallback import StandIn
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


class MessageQueue:
    """Queues messages and tells where they stand. Any number of threads may share one.

    Args:
        application: of this process.
    """

    def __init__(self, application: Application) -> None:
        self._application = application

    def add_message(
        self,
        phone: str,
        message: str | Content,
        tenant_id: str | int = 1,
        instance_id: str | int = 1,
        priority: int = 0,
        **options: Unpack[SendOptions],
    ) -> str:
        """Queue a message; when this returns it is stored. Returns its id.

        Args:
            phone: with country code, or a business-scoped user id.
            message: a text, or a content such as ``Image(link=...)``.
            tenant_id: whose message it is.
            instance_id: which sender it goes out by.
            priority: 0 normal, 1 automatic reply, 5 important, 10 critical.
            options: ``max_retries``, ``retry_delay``, ``delay`` and ``expires`` (all in seconds), ``idempotency_key``,
                ``reply_to``; see ``SendOptions``.

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
        key, tenant = options.get("idempotency_key", ""), str(tenant_id)
        if key and (ident := _directly_sent.find(tenant, key)) is not None:
            # It went out past the queue, of which the server may know nothing.
            return ident
        ident = self._call(lambda messages: messages.add(phone, content, **given))
        _queued.add(tenant, key, ident)
        return ident

    def get_queue_size(self) -> int:
        """How many messages wait for their turn, delayed ones and retries included."""
        counts = self._call(lambda messages: messages.counts())
        return counts.pending + counts.retrying

    def get_processing_count(self) -> int:
        """How many messages are with workers."""
        return self._call(lambda messages: messages.counts()).processing

    def get_status(self, message_id: str) -> MessageStatus | None:
        """Where a message stands; None if it is not known (any more)."""
        return self._call(lambda messages: messages.status(message_id))

    def get_message(self, message_id: str) -> MessageRecord:
        """What is known of a message: status, provider's id, reason, timeline.

        Raises:
            NotFound: nothing is, or not any more.
        """
        return self._call(lambda messages: messages.show(message_id))

    def switch(self, application: Application) -> None:
        """Go on with the queue of another application."""
        self._application = application

    def _call(self, act: Callable[[Messages], Awaitable[R]]) -> R:
        made = self._application
        return made.pipeline.portal.call(
            lambda pipeline: act(Messages(pipeline, made.settings))
        )


class MessageWorker:
    """The worker of this process, in a thread of its own; other processes and machines may run more.

    Args:
        application: of this process.
    """

    def __init__(self, application: Application) -> None:
        self._application = application
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._since = 0.0
        self._stays = False

    @property
    def is_running(self) -> bool:
        """Whether its thread runs, in this process."""
        return (
            self._thread is not None
            and self._thread.is_alive()
            and self._pid == os.getpid()
        )

    def start(self) -> None:
        """Start it, unless it runs. After a fork the child starts one of its own."""
        self._stays = True
        self.start_for_now()

    def start_for_now(self) -> None:
        """Start it for as long as the embedded server holds the queue."""
        with self._lock:
            if not self.is_running:
                self._pid, self._since = os.getpid(), time.time()
                self._thread = threading.Thread(
                    target=self._run, name="whatsapp-worker", daemon=True
                )
                self._thread.start()

    def stop(self, timeout: float = 15.0) -> None:
        """Let what is under way finish and end the thread, within ``timeout`` seconds or so."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive():
            self._application.pipeline.stop()
            thread.join(timeout)

    def switch(self, application: Application) -> None:
        """Go on with the queue of another application; a worker that nobody asked for ends."""
        runs = self.is_running and self._stays
        self.stop()
        self._application = application
        if runs:
            self.start()

    def get_stats(self) -> dict[str, Any]:
        """What was done, by all workers of the queue, and what is left.

        ``processed`` is ``sent`` and ``failed`` together; ``running``, ``uptime`` (seconds), ``embedded`` (the embedded
        server holds the queue), ``sent_directly`` and ``handed_over`` (by the relay) are of this process.
        """
        made = self._application

        async def ask(pipeline: Any) -> tuple[Any, Any]:
            messages = Messages(pipeline, made.settings)
            return await messages.counts(), await messages.totals()

        counts, totals = made.pipeline.portal.call(ask)
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
            "embedded": made.is_embedded,
            "sent_directly": _directly_sent.count,
            "handed_over": sum(stand_in.handed_over for stand_in in _stand_ins),
        }

    def _run(self) -> None:
        try:
            self._application.pipeline.run()
        except StreamsError:
            logger.exception("the worker of messages has ended")


_lock = threading.RLock()
_made: list[tuple[Application, MessageQueue, MessageWorker]] = []
_stand_ins: list[StandIn] = []
_queued, _directly_sent = Remembered(), Remembered()
"""Idempotency keys of this process: a message never takes both ways."""


def get_message_queue() -> MessageQueue:
    """The queue of this process, made from the environment by the first call.

    On the embedded server (no ``REDIS_URL``) the worker of this process is started, too.

    Raises:
        ConfigurationError: a setting cannot be used.
        BrokerUnavailable: the server is away, and ``STREAMS_FALLBACK`` is ``none``.
    """
    application, queue, worker = _parts()
    if application.is_embedded:
        worker.start_for_now()
    return queue


def get_message_worker() -> MessageWorker:
    """The worker of this process; raises as ``get_message_queue``."""
    return _parts()[2]


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
    """Queue a message; send it directly if that is asked for, or if the queue surely did not take it.

    Returns ``success``, ``via_queue``, ``message_id``; without success also ``error``. It raises nothing for a message
    that is refused or a server that is away. Where the queue's answer was lost, nothing is sent directly: it may
    be queued.
    """
    why = ""
    if use_queue:
        try:
            queue = get_message_queue()
            ident = queue.add_message(
                phone, message, tenant_id, instance_id, priority, **options
            )
        except InvalidMessage as error:
            return {
                "success": False,
                "via_queue": False,
                "message_id": None,
                "error": str(error),
            }
        except (PublishUnknown, BrokerUnavailable) as error:
            if isinstance(error, PublishUnknown) or error.sent:
                return {
                    "success": False,
                    "via_queue": True,
                    "message_id": None,
                    "error": str(error),
                }
            why = str(error)
            logger.error(  # noqa: TRY400
                "the queue is away: the message is sent directly", extra={"error": why}
            )
        else:
            return {"success": True, "via_queue": True, "message_id": ident}
    result: dict[str, Any] = {"success": False, "via_queue": False, "message_id": None}
    try:
        content = Text(message) if isinstance(message, str) else message
        tenant, instance = (
            checked_text("tenant", tenant_id),
            checked_text("instance", instance_id),
        )
        direct = Direct(
            Recipient.parse(phone),
            content,
            tenant,
            instance,
            options.get("idempotency_key", ""),
        )
        result |= _directly(direct, asks=not why)
    except StreamsError as error:
        result["error"] = str(error)
    return result | ({"fallback": why} if why else {})


def reset() -> None:
    """Forget the queue and worker of this process, after stopping them: for tests, and after settings have changed."""
    with _lock:
        stand_ins, _stand_ins[:] = list(_stand_ins), []
    for stand_in in stand_ins:
        stand_in.stop()  # Without the lock, which it may want.
    with _lock:
        _queued.clear()
        _directly_sent.clear()
        while _made:
            application, _, worker = _made.pop()
            worker.stop()
            application.pipeline.close()


def _directly(message: Direct, *, asks: bool) -> dict[str, Any]:
    """Send past the queue. ``asks``: the server is asked for the idempotency key, and told what became of it."""
    import asyncio

    known = _queued.find(message.tenant, message.key) or _directly_sent.find(
        message.tenant, message.key
    )
    if message.key and known:
        return {"success": True, "message_id": known, "duplicate": True}
    made = _made[0][0] if _made else Application.from_env()
    sending, ident = Sending(made.settings, made.instances), new_ident()
    told = None
    if asks:
        try:
            made.pipeline.portal.call(made.instances.refresh)
            if message.key:
                taken = made.pipeline.portal.call(
                    lambda pipeline: sending.reserve(pipeline, message, ident)
                )
                if taken != ident:
                    return {"success": True, "message_id": taken, "duplicate": True}
            told = made.pipeline.portal
        except BrokerUnavailable:
            logger.warning(
                "the server is away: nobody can say whether the message was queued before"
            )
    outcome: Outcome = asyncio.run(sending.send(message, ident))
    if isinstance(outcome, (Sent, Unknown)):
        _directly_sent.add(message.tenant, message.key, ident)
    _directly_sent.count += isinstance(outcome, Sent)
    if told is not None:
        try:
            told.call(lambda pipeline: sending.note(pipeline, message, ident, outcome))
        except StreamsError as error:
            logger.warning(
                "a direct message cannot be followed",
                extra={"event_id": ident, "error": str(error)},
            )
    if isinstance(outcome, Sent):
        return {
            "success": True,
            "message_id": ident,
            "provider_id": outcome.provider_id,
        }
    kind = (
        "unknown"
        if isinstance(outcome, Unknown)
        else "failed"
        if isinstance(outcome, Hopeless)
        else "not sent"
    )
    return {"message_id": ident, "error": f"{kind}: {outcome.reason}"}


def _parts() -> tuple[Application, MessageQueue, MessageWorker]:
    with _lock:
        if not _made:
            wanted = Application.from_env()
            made = with_fallback(wanted)
            _made.append((made, MessageQueue(made), MessageWorker(made)))
            stand_in = StandIn(wanted, made, _switch)
            if stand_in.is_needed:
                _stand_ins.append(stand_in)
                stand_in.start()
        return _made[0]


def _switch(application: Application) -> None:
    """The server is back: everything goes on there."""
    with _lock:
        if _made:
            _, queue, worker = _made[0]
            worker.switch(application)
            queue.switch(application)
            _made[0] = (application, queue, worker)
