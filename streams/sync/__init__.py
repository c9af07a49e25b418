"""The blocking form, for programs without an event loop: Flask, Django, scripts.

from streams.sync import Pipeline
"""

from streams.sync.letters import DeadLetters
from streams.sync.pipeline import Pipeline
from streams.sync.producer import Producer
from streams.sync.views import (
    Cancellations,
    Groups,
    Limits,
    OrderedKeys,
    Pauses,
    Status,
    Tracking,
)

__all__ = [
    "Cancellations",
    "DeadLetters",
    "Groups",
    "Limits",
    "OrderedKeys",
    "Pauses",
    "Pipeline",
    "Producer",
    "Status",
    "Tracking",
]
