"""Test tools for programs with streams: a real server, time travel, recorded events.

from streams.testing import Harness
"""

from __future__ import annotations

from typing import overload

from streams import sync
from streams.pipeline import Pipeline
from streams.testing.blocking import BlockingHarness
from streams.testing.harness import Harness, Left
from streams.testing.recording import Failure
from streams.testing.server import server_url

__all__ = ["BlockingHarness", "Failure", "Harness", "Left", "harness", "server_url"]


@overload
def harness(
    pipeline: Pipeline,
    *,
    url: str | None = None,
    namespace: str = "",
    raise_errors: bool = False,
) -> Harness: ...


@overload
def harness(
    pipeline: sync.Pipeline,
    *,
    url: str | None = None,
    namespace: str = "",
    raise_errors: bool = False,
) -> BlockingHarness: ...


def harness(
    pipeline: Pipeline | sync.Pipeline,
    *,
    url: str | None = None,
    namespace: str = "",
    raise_errors: bool = False,
) -> Harness | BlockingHarness:
    """The harness for this kind of pipeline; see ``Harness``."""
    if isinstance(pipeline, sync.Pipeline):
        return BlockingHarness(
            pipeline, url=url, namespace=namespace, raise_errors=raise_errors
        )

    return Harness(pipeline, url=url, namespace=namespace, raise_errors=raise_errors)
