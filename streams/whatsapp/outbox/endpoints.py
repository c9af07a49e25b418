"""The endpoints of tenants, which are called about their messages."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace

from streams.admin.records import Record, Records
from streams.errors import ConfigurationError, NotFound
from streams.pipeline import Pipeline
from streams.whatsapp.outbox.guard import UrlGuard
from streams.whatsapp.outbox.signing import secret_of
from streams.whatsapp.settings import DAY, WhatsAppSettings
from streams.whatsapp.status import STREAM, MessageStatus

KIND = "endpoints"
TOLD = ("sent", "delivered", "read", "failed", "retrying")
"""States that tenants are told, as ``message.sent`` and so on."""
_ROTATION = DAY
_FRESH = 5.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of one tenant.

    Attributes:
        id: generated.
        tenant: it is called about messages of this tenant.
        url: to call.
        events: states that it subscribed to.
        version: of its secret; one more with each rotation.
        rotated_at: Unix seconds of the last rotation; both secrets sign for a day.
        disabled: why it is not called; '' while it is.
        failing_since: Unix seconds of the first failure since the last success; 0.0 if none.
    """

    id: str
    tenant: str
    url: str
    events: tuple[str, ...] = TOLD
    version: int = 1
    rotated_at: float = 0.0
    disabled: str = ""
    failing_since: float = 0.0

    @classmethod
    def of(cls, record: Record) -> Endpoint:
        """Read a stored endpoint."""
        return cls(**record | {"events": tuple(record["events"])})


class Endpoints:
    """The endpoints on a server.

    Args:
        pipeline: open.
        settings: with ``webhook_key``, the source of all secrets, and ``webhook_allow``.
    """

    def __init__(self, pipeline: Pipeline, settings: WhatsAppSettings) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self.guard = UrlGuard(settings.webhook_allow.split(","))

    async def add(
        self, tenant: str, url: str, events: Iterable[str] = TOLD
    ) -> Endpoint:
        """Add an endpoint.

        Raises:
            ConfigurationError: the URL may not be called, an event is unknown, or
                ``webhook_key`` is not set.
        """
        self.guard.check(url)
        wanted = tuple(event.removeprefix("message.") for event in events)

        if not wanted or set(wanted) - set(TOLD):
            names = ", ".join(f"message.{word}" for word in TOLD)
            raise ConfigurationError(f"events are {names}")

        if not tenant or not self._settings.webhook_key:
            raise ConfigurationError(
                "an endpoint has a tenant, and STREAMS_WHATSAPP_WEBHOOK_KEY makes its"
                " secret"
            )

        made = Endpoint(
            f"ep_{uuid.uuid4().hex[:20]}",
            tenant,
            url,
            wanted,
        )

        await self._records().change(made.id, lambda _: asdict(made))

        return made

    async def all(self, tenant: str = "") -> list[Endpoint]:
        """All endpoints, or those of a tenant."""
        records = await self._records().all()
        found = map(Endpoint.of, records.values())

        return [endpoint for endpoint in found if tenant in ("", endpoint.tenant)]

    async def get(self, ident: str) -> Endpoint | None:
        """An endpoint; None if it does not exist."""
        record = await self._records().get(ident)

        return None if record is None else Endpoint.of(record)

    async def remove(self, ident: str) -> None:
        """Remove an endpoint; its waiting calls are dropped.

        Raises:
            NotFound: there is no such endpoint.
        """

        def change(record: Record | None) -> None:
            _existing(ident, record)

        await self._records().change(ident, change)

    async def rotate(self, ident: str) -> Endpoint:
        """Give it a new secret; calls are signed with both secrets for a day.

        Raises:
            NotFound: there is no such endpoint.
        """
        now = self._pipeline.broker.clock.now()

        return await self._change(
            ident,
            lambda e: replace(
                e,
                version=e.version + 1,
                rotated_at=now,
            ),
        )

    async def enable(self, ident: str) -> Endpoint:
        """Call it again after it was disabled.

        Raises:
            NotFound: there is no such endpoint.
        """
        return await self._change(
            ident, lambda e: replace(e, disabled="", failing_since=0.0)
        )

    async def disable(self, ident: str, why: str) -> None:
        """Stop calling it until it is enabled again."""
        await self._change(
            ident,
            lambda e: replace(e, disabled=why),
        )

    async def failed(self, ident: str, patience: float) -> bool:
        """Store a failed call; True after ``patience`` seconds of failures."""
        now = self._pipeline.broker.clock.now()
        changed = await self._change(
            ident, lambda e: replace(e, failing_since=e.failing_since or now)
        )

        return now - changed.failing_since > patience

    async def worked(self, endpoint: Endpoint) -> None:
        """Store a successful call after failed ones."""
        if endpoint.failing_since:
            await self._change(
                endpoint.id,
                lambda e: replace(e, failing_since=0.0),
            )

    def secrets(self, endpoint: Endpoint) -> list[str]:
        """The secrets that sign its calls, the current one first."""
        key = self._settings.webhook_key
        versions = [endpoint.version]
        age = self._pipeline.broker.clock.now() - endpoint.rotated_at

        if endpoint.version > 1 and age < _ROTATION:
            versions.append(endpoint.version - 1)

        return [secret_of(key, endpoint.id, version) for version in versions]

    async def _change(
        self, ident: str, how: Callable[[Endpoint], Endpoint]
    ) -> Endpoint:
        def change(record: Record | None) -> Record:
            return asdict(how(_existing(ident, record)))

        record = await self._records().change(ident, change)

        return _existing(ident, record)

    def _records(self) -> Records:
        return self._pipeline.records(STREAM, KIND)


class Subscriptions:
    """The endpoints to call for a state; read from the server every five seconds.

    Args:
        endpoints: of the server.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._found: list[Endpoint] = []
        self._until = 0.0

    async def of(self, tenant: str, status: MessageStatus) -> list[Endpoint]:
        """The enabled endpoints of a tenant that subscribed to a state."""
        if time.monotonic() > self._until:
            self._found = await self._endpoints.all()
            self._until = time.monotonic() + _FRESH

        return [
            e
            for e in self._found
            if e.tenant == tenant and status in e.events and not e.disabled
        ]


def _existing(ident: str, record: Record | None) -> Endpoint:
    if record is None:
        raise NotFound(f"there is no endpoint {ident}")

    return Endpoint.of(record)
