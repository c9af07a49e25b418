"""Every topology in turn, for tests that promise the same on each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.servers import BINARIES, server_label
from tests.topologies import KINDS, Clustered, Topology, Watched, speaks_tls

OURS = BINARIES[:1]
"""Topologies are tried on one server: what servers word differently is tried on single ones."""


SEVERAL = ("sentinel", "cluster")


@pytest.fixture(scope="session", params=SEVERAL)
def server(request: pytest.FixtureRequest) -> Iterator[Topology]:
    """One of each other topology, shared by the tests that do not break it."""
    running = KINDS[request.param](OURS[0])
    try:
        yield running.start()
    finally:
        running.close()


HAS_TLS = any(map(speaks_tls, BINARIES))


@pytest.fixture(scope="session")
def guarded() -> Iterator[Topology]:
    """One server with a user per role."""
    running = KINDS["acl"](OURS[0])
    try:
        yield running.start()
    finally:
        running.close()


@pytest.fixture(
    scope="session", params=["embedded", "tls"] if HAS_TLS else ["embedded"]
)
def reached(request: pytest.FixtureRequest) -> Iterator[Topology]:
    """One server that is reached in another way than by its socket."""
    running = KINDS[request.param](OURS[0])
    try:
        yield running.start()
    finally:
        running.close()


@pytest.fixture(params=["sentinel", "cluster"])
def several(request: pytest.FixtureRequest) -> Iterator[Watched | Clustered]:
    """Servers of a test's own that can fail over."""
    kind = Watched if request.param == "sentinel" else Clustered
    running = kind(OURS[0])
    try:
        yield running.start()
    finally:
        running.close()


@pytest.fixture(params=BINARIES, ids=server_label)
def make_cluster(request: pytest.FixtureRequest) -> Iterator[Callable[..., Clustered]]:
    """Makes clusters of a test's own, of each kind of server."""
    made: list[Clustered] = []

    def make(*options: str) -> Clustered:
        made.append(Clustered(request.param, *options))
        return made[-1].start()

    yield make
    for one in made:
        one.close()
