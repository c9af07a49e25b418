"""The states of a message, and what is written down of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from streams.admin.tracking import Tracked, Tracking
from streams.pipeline import Pipeline

STREAM = "whatsapp"
GROUP = "sender"


class MessageStatus(StrEnum):
    """Where a message stands. Its values are the words that callers compare with."""

    PENDING = "pending"
    PROCESSING = "processing"
    RETRYING = "retrying"
    SENT = "sent"
    FAILED = "failed"
    DELIVERED = "delivered"
    READ = "read"


RANKS = {
    MessageStatus.PENDING: 0,
    MessageStatus.PROCESSING: 1,
    MessageStatus.RETRYING: 1,
    MessageStatus.SENT: 2,
    MessageStatus.FAILED: 3,
    MessageStatus.DELIVERED: 4,
    MessageStatus.READ: 5,
}
"""States only move forward. A failure may follow a provider's acceptance; a delivery shows that it was none."""
FINAL = frozenset(
    {
        MessageStatus.SENT,
        MessageStatus.FAILED,
        MessageStatus.DELIVERED,
        MessageStatus.READ,
    }
)


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """What is known of a message.

    Attributes:
        id: of the message.
        status: where it stands.
        provider_id: how the provider names it (wamid); '' before it was sent.
        reason: why it failed, or waits; '' otherwise.
        timeline: the latest 50 notes, oldest first; see ``streams.Tracking``.
    """

    id: str
    status: MessageStatus
    provider_id: str
    reason: str
    timeline: list[dict[str, Any]]

    @classmethod
    def of(cls, tracked: Tracked, status: MessageStatus | None = None) -> MessageRecord:
        """Read what is tracked; ``status`` goes before what it says."""
        fields = tracked.fields
        return cls(
            tracked.id,
            status or MessageStatus(tracked.state),
            fields.get("provider_id", ""),
            fields.get("reason", ""),
            tracked.timeline,
        )


def tracking(pipeline: Pipeline, retention: float) -> Tracking:
    """Follows the messages of an open pipeline."""
    return pipeline.tracking(
        STREAM, {str(state): rank for state, rank in RANKS.items()}, retention
    )
