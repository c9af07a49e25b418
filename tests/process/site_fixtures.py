"""Fixtures that make sites of worker processes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process.site import Site
from tests.servers import BINARIES, Server


@pytest.fixture(scope="module")
def one_server() -> Iterator[Server]:
    server = Server(BINARIES[0]).start()
    yield server
    server.close()


@pytest.fixture
def make_site(
    one_server: Server, namespace: str, tmp_path: Path
) -> Iterator[Callable[[], Site]]:
    sites: list[Site] = []

    def make() -> Site:
        sites.append(Site(one_server, f"{namespace}w{len(sites)}", tmp_path))
        return sites[-1]

    with contextlib.ExitStack() as stack:
        yield make
        for site in sites:
            stack.callback(site.close)


@pytest.fixture
def site(make_site: Callable[[], Site]) -> Site:
    return make_site()


def sleeps(count: int, seconds: float, **more: Any) -> list[dict[str, Any]]:
    return [{"do": "sleep", "s": seconds, **more}] * count
