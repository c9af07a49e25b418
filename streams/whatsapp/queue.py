"""What blocking programs (Flask, Django, scripts) call: a queue, its worker, and one function that does both."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, Unpack

from streams.errors import BrokerUnavailable, InvalidMessage, PublishUnknown, StreamsError
from streams.whatsapp.application import Application, with_fallback
from streams.whatsapp.content import Content, Text
from streams.whatsapp.messages import MessageOptions, Messages, SendOptions, send_directly
from streams.whatsapp.outcome import Hopeless, Sent, Unknown
from streams.whatsapp.status import MessageRecord, MessageStatus

logger = logging.getLogger("streams.whatsapp")
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
        given: MessageOptions = {**options, "tenant": tenant_id, "instance": instance_id, "priority": priority}
        return self._call(lambda messages: messages.add(phone, content, **given))

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

    def _call(self, act: Callable[[Messages], Awaitable[R]]) -> R:
        made = self._application
        return made.pipeline.portal.call(lambda pipeline: act(Messages(pipeline, made.settings)))


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

    @property
    def is_running(self) -> bool:
        """Whether its thread runs, in this process."""
        return self._thread is not None and self._thread.is_alive() and self._pid == os.getpid()

    def start(self) -> None:
        """Start it, unless it runs. After a fork the child starts one of its own."""
        with self._lock:
            if not self.is_running:
                self._pid, self._since = os.getpid(), time.time()
                self._thread = threading.Thread(target=self._run, name="whatsapp-worker", daemon=True)
                self._thread.start()

    def stop(self, timeout: float = 15.0) -> None:
        """Let what is under way finish and end the thread, within ``timeout`` seconds or so."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive():
            self._application.pipeline.stop()
            thread.join(timeout)

    def get_stats(self) -> dict[str, Any]:
        """What was done, by all workers of the queue, and what is left.

        ``processed`` is ``sent`` and ``failed`` together; ``running`` and ``uptime`` (seconds) are of this process.
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
        }

    def _run(self) -> None:
        try:
            self._application.pipeline.run()
        except StreamsError:
            logger.exception("the worker of messages has ended")


_lock = threading.RLock()
_made: list[tuple[Application, MessageQueue, MessageWorker]] = []


def get_message_queue() -> MessageQueue:
    """The queue of this process, made from the environment by the first call.

    On the embedded server (no ``REDIS_URL``) the worker of this process is started, too.

    Raises:
        ConfigurationError: a setting cannot be used.
        BrokerUnavailable: the server is away, and ``STREAMS_FALLBACK`` is ``none``.
    """
    application, queue, worker = _parts()
    if application.is_embedded:
        worker.start()
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
            ident = queue.add_message(phone, message, tenant_id, instance_id, priority, **options)
        except InvalidMessage as error:
            return {"success": False, "via_queue": False, "message_id": None, "error": str(error)}
        except (PublishUnknown, BrokerUnavailable) as error:
            if isinstance(error, PublishUnknown) or error.sent:
                return {"success": False, "via_queue": True, "message_id": None, "error": str(error)}
            why = str(error)
            logger.error("the queue is away: the message is sent directly", extra={"error": why})  # noqa: TRY400
        else:
            return {"success": True, "via_queue": True, "message_id": ident}
    return _directly(phone, message, str(instance_id)) | ({"fallback": why} if why else {})


def reset() -> None:
    """Forget the queue and worker of this process, after stopping them: for tests, and after settings have changed."""
    with _lock:
        while _made:
            application, _, worker = _made.pop()
            worker.stop()
            application.pipeline.close()


def _directly(phone: str, message: str | Content, instance: str) -> dict[str, Any]:
    import asyncio

    result: dict[str, Any] = {"success": False, "via_queue": False, "message_id": None}
    try:
        made = _made[0][0] if _made else Application.from_env()
        content = Text(message) if isinstance(message, str) else message
        ident, outcome = asyncio.run(send_directly(phone, content, instance, made.settings, made.instances))
    except StreamsError as error:
        return result | {"error": str(error)}
    result["message_id"] = ident
    if isinstance(outcome, Sent):
        return result | {"success": True, "provider_id": outcome.provider_id}
    kind = "unknown" if isinstance(outcome, Unknown) else "failed" if isinstance(outcome, Hopeless) else "not sent"
    return result | {"error": f"{kind}: {outcome.reason}"}


def _parts() -> tuple[Application, MessageQueue, MessageWorker]:
    with _lock:
        if not _made:
            made = with_fallback(Application.from_env())
            _made.append((made, MessageQueue(made), MessageWorker(made)))
        return _made[0]
