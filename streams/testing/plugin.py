"""The pytest plugin, which pytest loads if streams is installed.

The fixtures import what they need, so that other test suites pay nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from streams.pipeline import Pipeline


@pytest.fixture(scope="session")
def streams_server() -> Iterator[str]:
    """The URL of a server in memory, started for this test session."""
    from streams.testing.server import close_server, server_url

    yield server_url()
    close_server()


@pytest.fixture
def streams_harness(streams_server: str) -> Callable[..., Any]:
    """A function that makes a harness for ``async with``, or ``with`` if it blocks.

    Keywords: ``namespace`` and ``raise_errors``, see ``streams.testing.Harness``.
    """
    from streams.testing import harness

    def bind(pipeline: Any, **options: Any) -> Any:
        return harness(pipeline, url=streams_server, **options)

    return bind


@pytest.fixture
def streams_pipeline(streams_server: str) -> Pipeline:
    """A pipeline on the session's server, for tests that declare their own handlers."""
    from streams.pipeline import Pipeline

    return Pipeline(streams_server)
