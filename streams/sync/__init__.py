"""The blocking form, for programs without an event loop: Flask, Django, scripts.

from streams.sync import Pipeline
"""

from streams.sync.made import (
    Cancellations,
    DeadLetters,
    Groups,
    Limits,
    OrderedKeys,
    Pauses,
    Pipeline,
    Producer,
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
