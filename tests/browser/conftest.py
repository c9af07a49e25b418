"""The pages are the same on every server; that what they ask is, the other suites show. So one server will do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import BINARIES, Server, server_label


@pytest.fixture(scope="session", params=BINARIES[:1], ids=server_label)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The first of the servers."""
    running = Server(request.param).start()
    yield running
    running.close()


@pytest.fixture(params=BINARIES[:1], ids=server_label)
def binary(request: pytest.FixtureRequest) -> str:
    """The binary of the first."""
    return request.param
