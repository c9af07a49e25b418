"""Names of the conventions (semantic conventions 1.44, messaging, in development), spelled once.

https://opentelemetry.io/docs/specs/semconv/messaging/
"""

from __future__ import annotations

from typing import Any

SYSTEM = "messaging.system"
OPERATION = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
DESTINATION = "messaging.destination.name"
GROUP = "messaging.consumer.group.name"
CLIENT = "messaging.client.id"
MESSAGE = "messaging.message.id"
BATCH = "messaging.batch.message_count"
ERROR = "error.type"

LEVEL = "streams.level"
ATTEMPT = "streams.attempt"
EVENT_TYPE = "streams.event.type"
REASON = "streams.reason"
DELAY = "streams.delay"
OUTCOME = "streams.outcome"

BUCKETS = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
)
"""The buckets of both duration histograms in the conventions, in seconds."""


def attributes(
    operation: str, kind: str, stream: str, group: str = "", **more: Any
) -> dict[str, Any]:
    """The attributes of every span of an operation."""
    found: dict[str, Any] = {
        SYSTEM: "redis",
        OPERATION: operation,
        OPERATION_TYPE: kind,
        DESTINATION: stream,
    }
    if group:
        found[GROUP] = group

    return found | more


def error_type(error: BaseException) -> str:
    """The value of ``error.type``: a stable word or the class."""
    if isinstance(error, TimeoutError):
        return "timeout"
    return type(error).__qualname__
