"""The blocking classes."""

from __future__ import annotations

from streams import pipeline as asynchronous
from streams.admin.cancellations import Cancellations
from streams.admin.dead_letters import DeadLetters
from streams.admin.groups import Groups
from streams.admin.limits import Limits
from streams.admin.ordered_keys import OrderedKeys
from streams.admin.pauses import Pauses
from streams.admin.status import Status
from streams.admin.tracking import Tracking
from streams.producer import Producer
from streams.sync.by_hand import BlockingPipeline, BlockingProducer
from streams.sync.mirror import (
    GroupMirror,
    Mirror,
    StreamMirror,
    TrackingMirror,
    mirror,
)

SOURCES: dict[type, type] = {
    Cancellations: StreamMirror,
    DeadLetters: GroupMirror,
    Groups: StreamMirror,
    Limits: GroupMirror,
    OrderedKeys: GroupMirror,
    Pauses: StreamMirror,
    Producer: BlockingProducer,
    Status: Mirror,
    Tracking: TrackingMirror,
    asynchronous.Pipeline: BlockingPipeline,
}
"""The asynchronous classes, with the part of each that blocks by hand.

Classes that hand out others come last.
"""
WITHOUT: dict[type, tuple[str, ...]] = {
    Producer: ("store", "store_all", "reach"),
    asynchronous.Pipeline: ("broker", "service", "records", "is_open", "twin"),
}
"""The names that the blocking forms do without.

``tests/architecture/test_sync_parity.py`` has the reasons.
"""

_made: dict[str, type] = {}
for _twin, _base in SOURCES.items():
    _made[_twin.__name__] = mirror(_twin, _base, WITHOUT.get(_twin, ()), _made)
globals().update(_made)
