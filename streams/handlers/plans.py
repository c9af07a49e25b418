"""The configuration of a group, which a pipeline hands to its workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from streams.handlers.routes import Router
from streams.policy.declaration import AS_IT_IS, Declaration
from streams.policy.ordering import NO_LANES, Lanes
from streams.policy.partitions import ONE, Partitions


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """One group to serve, with its handlers and the declaration of its stream."""

    stream: str
    group: str
    router: Router
    lease: float
    concurrency: int
    declaration: Declaration = AS_IT_IS
    weights: Mapping[int, int] | None = None
    max_wait: float | None = None
    lanes: Lanes = NO_LANES
    partitions: Partitions = ONE
