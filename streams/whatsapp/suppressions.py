"""Recipients that get no more messages, by their wish or the provider's report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from streams.errors import ConfigurationError
from streams.pipeline import Pipeline
from streams.whatsapp.status import STREAM

KIND = "suppressed"
MARKETING: Final = "marketing"
"""The category of messages that a recipient can stop while others go on."""
SuppressionScope = Literal["marketing", "all"]


@dataclass(frozen=True, slots=True)
class Suppression:
    """A recipient that a tenant does not write to.

    Attributes:
        scope: ``marketing``, or ``all`` messages.
        reason: why, e.g. ``marketing_stopped`` after a report of the provider.
        by: the person or program that added it.
        at: Unix seconds.
    """

    scope: SuppressionScope
    reason: str
    by: str
    at: float


class Suppressions:
    """The suppressions on a server.

    They hold keyed hashes of recipients, no numbers, and survive an erasure.

    Args:
        pipeline: open.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._records = pipeline.records(STREAM, KIND)

    async def add(
        self, hashed: str, tenant: str, scope: SuppressionScope, *, reason: str, by: str
    ) -> bool:
        """Suppress messages to a recipient; False if that was so before.

        ``all`` includes ``marketing``; adding ``marketing`` later does not narrow it.

        Args:
            hashed: the recipient, from ``Messages.hashed``.
            tenant: the tenant whose messages stop.
            scope: the messages that stop.
            reason: in a word.
            by: the person or program that adds it.

        Raises:
            ConfigurationError: there is no such scope.
        """
        if scope not in (MARKETING, "all"):
            raise ConfigurationError(
                f"a suppression is of marketing or of all, not of {scope!r}"
            )

        now = self._pipeline.broker.clock.now()
        wanted = {"scope": scope, "reason": reason, "by": by, "at": now}

        def change(record: dict[str, Any] | None) -> dict[str, Any]:
            if record is None or (scope == "all" and record["scope"] != "all"):
                return wanted

            return record

        stored = await self._records.change(
            _name(tenant, hashed),
            change,
        )

        return stored is wanted

    async def report(self, hashed: str, tenant: str, reason: str) -> None:
        """Suppress marketing to a recipient who stopped it, as the provider reports."""
        await self.add(hashed, tenant, MARKETING, reason=reason, by="provider")

    async def remove(self, hashed: str, tenant: str) -> bool:
        """End a suppression; False if there was none."""
        found = await self.find(hashed, tenant)
        await self._records.change(
            _name(tenant, hashed),
            lambda _: None,
        )

        return found is not None

    async def find(self, hashed: str, tenant: str) -> Suppression | None:
        """The suppression of a recipient; None if there is none. One command."""
        record = await self._records.get(_name(tenant, hashed))

        return None if record is None else Suppression(**record)

    async def all(self) -> Mapping[tuple[str, str], Suppression]:
        """All suppressions, by tenant and hashed recipient. One command, whatever their number."""
        found = {}

        for name, record in (await self._records.all()).items():
            tenant, _, hashed = name.rpartition(":")
            found[tenant, hashed] = Suppression(**record)

        return found


def stops(suppression: Suppression | None, category: str) -> bool:
    """Whether a suppression stops a message of this category."""
    return suppression is not None and (
        suppression.scope == "all" or category == MARKETING
    )


def _name(tenant: str, hashed: str) -> str:
    return f"{tenant}:{hashed}"
