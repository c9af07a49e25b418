"""Who is not written to any more: because they said so, or because the provider said so for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from streams.errors import ConfigurationError
from streams.pipeline import Pipeline
from streams.whatsapp.status import STREAM

KIND = "suppressed"
MARKETING: Final = "marketing"
"""The one category of messages that somebody can stop while others go on."""
SuppressionScope = Literal["marketing", "all"]


@dataclass(frozen=True, slots=True)
class Suppression:
    """One recipient whom a tenant does not write to.

    Attributes:
        scope: ``marketing``, or ``all`` messages.
        reason: why, e.g. ``marketing_stopped`` for what a provider said.
        by: who wrote it down.
        at: when, Unix seconds.
    """

    scope: SuppressionScope
    reason: str
    by: str
    at: float


class Suppressions:
    """The list of a server. It holds keyed hashes of recipients, no numbers, and outlives what is erased.

    Args:
        pipeline: open.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._records = pipeline.records(STREAM, KIND)

    async def add(
        self, hashed: str, tenant: str, scope: SuppressionScope, *, reason: str, by: str
    ) -> bool:
        """Write to them no more; False if that was so before. ``all`` covers ``marketing`` and is not narrowed by it.

        Args:
            hashed: as ``Messages.hashed`` gives it.
            tenant: whose messages.
            scope: which of them.
            reason: in a word.
            by: who says so.

        Raises:
            ConfigurationError: the scope is none.
        """
        if scope not in (MARKETING, "all"):
            raise ConfigurationError(
                f"a suppression is of marketing or of all, not of {scope!r}"
            )
        now, is_new = self._pipeline.broker.clock.now(), False

        def change(record: dict[str, Any] | None) -> dict[str, Any]:
            nonlocal is_new
            is_new = record is None or (scope == "all" and record["scope"] != "all")
            return (
                {"scope": scope, "reason": reason, "by": by, "at": now}
                if is_new or record is None
                else record
            )

        await self._records.change(_name(tenant, hashed), change)
        return is_new

    async def remove(self, hashed: str, tenant: str) -> bool:
        """Write to them again; False if nothing stood in the way."""
        found = await self.find(hashed, tenant)
        await self._records.change(_name(tenant, hashed), lambda _: None)
        return found is not None

    async def find(self, hashed: str, tenant: str) -> Suppression | None:
        """What is written down of one recipient. One command."""
        record = await self._records.get(_name(tenant, hashed))
        return None if record is None else Suppression(**record)

    async def all(self) -> Mapping[tuple[str, str], Suppression]:
        """Everything, by tenant and hashed recipient. One command, whose answer grows with the list."""
        found = {}
        for name, record in (await self._records.all()).items():
            tenant, _, hashed = name.rpartition(":")
            found[tenant, hashed] = Suppression(**record)
        return found


def stops(suppression: Suppression | None, category: str) -> bool:
    """Whether a message of this category does not go out."""
    return suppression is not None and (
        suppression.scope == "all" or category == MARKETING
    )


def _name(tenant: str, hashed: str) -> str:
    return f"{tenant}:{hashed}"
