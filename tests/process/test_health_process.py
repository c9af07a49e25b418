"""The health of worker processes: under a server that goes, a handler that blocks, and the order to stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.address import Address
from streams.health import LIVE, READY, Answer, ask
from tests import terminal
from tests.process.site import Site
from tests.process.worker_app import ROOT
from tests.servers import BINARIES, Server, clean_environment, wait_until, whole_lines


@pytest.fixture
def site(namespace: str, tmp_path: Path) -> Iterator[Site]:
    server = Server(BINARIES[0], aof=True).start()
    site = Site(server, namespace, tmp_path)
    yield site
    site.close()
    server.close()


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"unix:{tmp_path}/h"


def told(address: str, path: str) -> Answer:
    return asyncio.run(ask(Address.parse(address), path))


def wait_for(address: str, path: str, *, ok: bool, seconds: float = 60.0) -> None:
    wait_until(
        lambda: told(address, path).ok is ok, seconds=seconds, what=f"{path} to be {ok}"
    )


def test_a_server_that_is_killed_and_comes_back(site: Site, address: str) -> None:
    worker = site.worker(health=address)
    wait_for(address, READY, ok=True)
    site.server.kill()
    wait_for(address, READY, ok=False)
    assert told(address, LIVE).ok
    site.server.start()
    wait_for(address, READY, ok=True)
    assert worker.stop() == 0
    assert not Path(address.removeprefix("unix:")).exists()


def test_a_blocked_loop_gets_a_quick_no(site: Site, address: str) -> None:
    worker = site.worker(health=address, lease=0.5)
    wait_for(address, LIVE, ok=True)
    site.publish([{"do": "block", "s": 6.0}])
    site.started(1, worker.pid)
    wait_for(address, LIVE, ok=False)
    before = time.monotonic()
    answer = told(address, LIVE)
    assert time.monotonic() - before < 1.0
    assert "loop: blocked for" in answer.says
    wait_for(address, LIVE, ok=True)
    wait_for(address, READY, ok=True)


@pytest.mark.parametrize("do", ["sleep", "block"])
def test_the_order_to_stop_is_seen_at_once_and_the_worker_stays_alive_to_the_end(
    site: Site, address: str, do: str
) -> None:
    worker = site.worker(health=address, grace=5.0)
    wait_for(address, READY, ok=True)
    site.publish([{"do": do, "s": 1.5}])
    site.started(1, worker.pid)
    worker.signal(signal.SIGTERM)
    time.sleep(0.1 if do == "sleep" else 0.0)
    if do == "sleep":
        wait_for(address, READY, ok=False, seconds=1.0)
        assert told(address, LIVE).ok
    seen = 0
    while worker.process.poll() is None:
        answer = told(address, LIVE)
        if answer.report is not None:  # Else the process ended meanwhile.
            assert answer.ok, answer.says
            seen += 1
    assert seen > 2
    assert worker.wait(10) == 0


def test_a_supervisor_answers_for_its_processes(site: Site, tmp_path: Path) -> None:
    shop(tmp_path)
    with worker(
        tmp_path, site, "--processes", "2", "--health", f"unix:{tmp_path}/h"
    ) as process:
        address = f"unix:{tmp_path}/h"
        wait_for(address, READY, ok=True)
        report = told(address, READY).report
        assert report is not None
        assert [check.name for check in report.checks] == [
            "running",
            "processes",
            "process 1",
            "process 2",
        ]
        pids = [
            json.loads(line)["pid"]
            for line in whole_lines(tmp_path / "log")
            if '"pid"' in line
        ]
        os.kill(pids[0], signal.SIGSTOP)
        wait_for(address, LIVE, ok=False)
        os.kill(pids[0], signal.SIGKILL)
        wait_for(address, LIVE, ok=True)
        wait_for(address, READY, ok=True)
        process.terminate()
        assert process.wait(15) == 0


def test_the_commands(site: Site, tmp_path: Path) -> None:
    """``streams worker --health`` serves it, ``streams health`` asks, a taken port is one sentence."""
    shop(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
        taken = streams(
            "worker",
            f"{tmp_path}/shop.py:pipeline",
            "--url",
            site.server.url,
            "--health",
            str(port),
        )
        assert taken.returncode == 7
        assert f"health cannot be served on 127.0.0.1:{port}" in taken.stderr
    with worker(tmp_path, site, STREAMS_HEALTH=str(port)) as process:
        wait_for(str(port), READY, ok=True)
        ready = streams("health", "--address", str(port))
        assert (ready.returncode, ready.stdout) == (
            0,
            "ready: running, loop, server, groups, reading\n",
        )
        live = streams("health", "--live", "--json", "--address", str(port))
        assert [check["name"] for check in json.loads(live.stdout)["checks"]] == [
            "loop",
            "roles",
            "leases",
        ]
        process.terminate()
        assert process.wait(15) == 0
    gone = streams("health", "--address", str(port))
    assert (gone.returncode, gone.stdout.startswith("nobody answers")) == (1, True)
    nowhere = streams("health")
    assert nowhere.returncode == 2
    assert "STREAMS_HEALTH" in nowhere.stderr


def streams(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = clean_environment() | {"PYTHONPATH": str(ROOT)}
    code, out, err = terminal.run(*arguments, env=environment)
    return subprocess.CompletedProcess(arguments, code, out, err)


def shop(folder: Path) -> None:
    (folder / "shop.py").write_text(
        "from streams import Pipeline\npipeline = Pipeline.from_env()\n"
        "@pipeline.handler('orders', group='billing')\nasync def charge(event): ...\n"
    )


@contextlib.contextmanager
def worker(
    folder: Path, site: Site, *options: str, **environ: str
) -> Iterator[subprocess.Popen[bytes]]:
    environment = (
        clean_environment() | {"PYTHONPATH": str(ROOT), "STREAMS_LOG": "json"} | environ
    )
    command = ("worker", f"{folder}/shop.py:pipeline", "--url", site.server.url)
    with (folder / "log").open("wb") as log:
        process = terminal.streams(
            *command, *options, cwd=folder, env=environment, stderr=log
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
