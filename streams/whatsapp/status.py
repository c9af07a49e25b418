"""The states of a message, and the record of its progress."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from streams.admin.tracking import Tracked, Tracking
from streams.pipeline import Pipeline

STREAM = "whatsapp"
GROUP = "sender"


class MessageStatus(StrEnum):
    """State of a message. The values are the words of the API."""

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
"""States only move forward. ``failed`` may follow ``sent``, when the provider reports it later.
``delivered`` overrules ``failed``."""
FINAL = frozenset(state for state, rank in RANKS.items() if rank >= 2)


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """The known progress of a message.

    Attributes:
        id: of the message.
        status: its state.
        provider_id: the provider's name for it (wamid); '' before it was sent.
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
        """Make the record of a tracked message; ``status`` overrules the tracked one."""
        fields = tracked.fields
        return cls(
            tracked.id,
            status or MessageStatus(tracked.state),
            fields.get("provider_id", ""),
            fields.get("reason", ""),
            tracked.timeline,
        )


def tracking(pipeline: Pipeline, retention: float) -> Tracking:
    """The tracking of messages of an open pipeline."""
    return pipeline.tracking(
        STREAM, {str(state): rank for state, rank in RANKS.items()}, retention
    )
