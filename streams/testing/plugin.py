"""The pytest plugin, loaded by pytest wherever streams is installed.

Everything is imported by the fixtures that need it: test suites that use none of them pay nothing.
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
    """Make the harness of a pipeline: ``async with`` what this returns for yours, or ``with`` for a blocking one.

    Keywords: ``namespace`` and ``raise_errors``, see ``streams.testing.Harness``.
    """
    from streams.testing import harness

    def bind(pipeline: Any, **options: Any) -> Any:
        return harness(pipeline, url=streams_server, **options)

    return bind


@pytest.fixture
def streams_pipeline(streams_server: str) -> Pipeline:
    """A pipeline without handlers on the session's server, for tests that declare their own; give it to a harness."""
    from streams.pipeline import Pipeline

    return Pipeline(streams_server)
