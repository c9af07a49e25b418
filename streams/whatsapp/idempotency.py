"""Idempotency keys: one message per key, on whichever way it goes.

A key is a dedup id of the stream. A queued message brings it along, a direct one reserves
it, and the relay moves it to the real server. ``Remembered`` is the copy of one process,
for when the server is away.
"""

from __future__ import annotations

from collections import OrderedDict

from streams.broker.admin.dedup import DedupIds
from streams.pipeline import Pipeline
from streams.whatsapp.status import STREAM

_REMEMBERED = 10_000


def dedup_id(tenant: str, key: str) -> str:
    """The dedup id of an idempotency key: a tenant's keys are its own."""
    return f"{tenant}:{key}"


def dedup_ids(pipeline: Pipeline) -> DedupIds:
    """The dedup ids on the server of an open pipeline."""
    return DedupIds(
        pipeline.broker,
        pipeline.broker.keys(STREAM),
    )


class Remembered(OrderedDict[str, str]):
    """The latest dedup ids of one way, with the ids of their messages.

    Threads may share it: each operation is atomic, and two that drop the oldest at the same
    time drop one more.
    """

    def add(self, name: str, ident: str) -> None:
        """Remember a message."""
        self[name] = ident

        while len(self) > _REMEMBERED:
            self.popitem(last=False)
