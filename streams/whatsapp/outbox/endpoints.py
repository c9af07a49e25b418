"""The endpoints that tenants want to be told at."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from streams.admin.records import Record, Records
from streams.errors import ConfigurationError, NotFound
from streams.pipeline import Pipeline
from streams.whatsapp.outbox.guard import Guard
from streams.whatsapp.outbox.signing import secret_of
from streams.whatsapp.settings import DAY, WhatsAppSettings
from streams.whatsapp.status import STREAM, MessageStatus

KIND = "endpoints"
TOLD = ("sent", "delivered", "read", "failed", "retrying")
"""States that tenants are told of, as ``message.sent`` and so on."""
_ROTATION = DAY
_FRESH = 5.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of one tenant.

    Attributes:
        id: made up.
        tenant: whose messages it is told of.
        url: that is called.
        events: states that it wants to know of.
        version: of its secret; one more with each rotation.
        rotated_at: when that was, Unix seconds; for a day after it both secrets sign.
        disabled: why it is not called any more; '' while it is.
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
        """Read what is stored."""
        return cls(**{**record, "events": tuple(record["events"])})

    def as_record(self) -> dict[str, Any]:
        """As it is stored."""
        return asdict(self) | {"events": list(self.events)}


class Endpoints:
    """The registry of endpoints.

    Args:
        pipeline: open.
        settings: with ``webhook_key``, which secrets are made from, and ``webhook_allow``.
    """

    def __init__(self, pipeline: Pipeline, settings: WhatsAppSettings) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self.guard = Guard(settings.webhook_allow.split(","))

    async def add(
        self, tenant: str, url: str, events: Iterable[str] = TOLD
    ) -> Endpoint:
        """Add an endpoint.

        Raises:
            ConfigurationError: the URL may not be called, an event is unknown, or ``webhook_key`` is not set.
        """
        self.guard.check(url)
        wanted = tuple(event.removeprefix("message.") for event in events)
        if not wanted or set(wanted) - set(TOLD):
            raise ConfigurationError(
                f"events are {', '.join(f'message.{word}' for word in TOLD)}"
            )
        if not tenant or not self._settings.webhook_key:
            raise ConfigurationError(
                "an endpoint has a tenant, and STREAMS_WHATSAPP_WEBHOOK_KEY makes its secret"
            )
        made = Endpoint(f"ep_{uuid.uuid4().hex[:20]}", tenant, url, wanted)
        await self._records().change(made.id, lambda _: made.as_record())
        return made

    async def all(self, tenant: str = "") -> list[Endpoint]:
        """Every endpoint, or those of a tenant."""
        found = [
            Endpoint.of(record) for record in (await self._records().all()).values()
        ]
        return [
            endpoint for endpoint in found if not tenant or endpoint.tenant == tenant
        ]

    async def get(self, ident: str) -> Endpoint | None:
        """One endpoint; None if there is none (any more)."""
        record = await self._records().get(ident)
        return None if record is None else Endpoint.of(record)

    async def remove(self, ident: str) -> None:
        """Forget an endpoint; what waits for it is dropped.

        Raises:
            NotFound: there is none of this id.
        """
        await self._change(ident, lambda _: None)

    async def rotate(self, ident: str) -> Endpoint:
        """Give it a new secret; for a day calls are signed with the old one, too.

        Raises:
            NotFound: there is none of this id.
        """
        now = self._pipeline.broker.clock.now()
        return _there(
            await self._change(
                ident, lambda e: replace(e, version=e.version + 1, rotated_at=now)
            )
        )

    async def enable(self, ident: str) -> Endpoint:
        """Call it again, after it was disabled.

        Raises:
            NotFound: there is none of this id.
        """
        return _there(
            await self._change(
                ident, lambda e: replace(e, disabled="", failing_since=0.0)
            )
        )

    async def disable(self, ident: str, why: str) -> None:
        """Call it no more, until somebody enables it."""
        await self._change(ident, lambda e: replace(e, disabled=why))

    async def failed(self, ident: str, patience: float) -> bool:
        """Write down that a call failed; True if that is going on for longer than ``patience`` seconds."""
        now = self._pipeline.broker.clock.now()
        changed = await self._change(
            ident, lambda e: replace(e, failing_since=e.failing_since or now)
        )
        return changed is not None and now - changed.failing_since > patience

    async def worked(self, endpoint: Endpoint) -> None:
        """Write down that a call went well, if the last one had not."""
        if endpoint.failing_since:
            await self._change(endpoint.id, lambda e: replace(e, failing_since=0.0))

    def secrets(self, endpoint: Endpoint) -> list[str]:
        """What its calls are signed with, the present secret first."""
        key = self._settings.webhook_key
        found = [secret_of(key, endpoint.id, endpoint.version)]
        if (
            endpoint.version > 1
            and self._pipeline.broker.clock.now() - endpoint.rotated_at < _ROTATION
        ):
            found.append(secret_of(key, endpoint.id, endpoint.version - 1))
        return found

    async def _change(self, ident: str, how: Any) -> Endpoint | None:
        def change(record: Record | None) -> Record | None:
            if record is None:
                raise NotFound(f"there is no endpoint {ident}")
            changed = how(Endpoint.of(record))
            return None if changed is None else changed.as_record()

        record = await self._records().change(ident, change)
        return None if record is None else Endpoint.of(record)

    def _records(self) -> Records:
        return self._pipeline.records(STREAM, KIND)


class Subscriptions:
    """Which endpoints want to be told of a message's state; asked once in five seconds.

    Args:
        endpoints: the registry.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._found: list[Endpoint] = []
        self._until = 0.0

    async def of(self, tenant: str, status: MessageStatus) -> list[Endpoint]:
        """The endpoints of a tenant that want to know of this state."""
        if time.monotonic() > self._until:
            self._found = await self._endpoints.all()
            self._until = time.monotonic() + _FRESH
        return [
            e
            for e in self._found
            if e.tenant == tenant and status in e.events and not e.disabled
        ]


def _there(endpoint: Endpoint | None) -> Endpoint:
    if endpoint is None:
        raise NotFound("the endpoint was removed meanwhile")
    return endpoint
