"""Real servers for tests: each test process starts its own, on unix sockets or free ports."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import redis

from streams.broker.server.binaries import find_servers

BINARIES = (
    list(filter(None, os.environ.get("STREAMS_TEST_SERVERS", "").split(os.pathsep)))
    or find_servers()
)
"""The servers to test on. STREAMS_TEST_SERVERS names others, in order; what needs one server only takes the first."""


@functools.cache
def server_label(binary: str) -> str:
    """Name and version, e.g. ``valkey-9.1.2``."""
    text = subprocess.run(
        [binary, "--version"], capture_output=True, text=True, check=True
    ).stdout
    version = next(part[2:] for part in text.split() if part.startswith("v="))
    return f"{'valkey' if 'alkey' in text else 'redis'}-{version}"


class Server:
    """A server process of one test or session: started, killed, restarted at will.

    ``port=True`` listens on a free TCP port (for proxies and ACL by TCP), else on a unix socket.
    """

    def __init__(
        self, binary: str, *options: str, aof: bool = False, port: bool = False
    ) -> None:
        self.binary = binary
        self.folder = Path(tempfile.mkdtemp(prefix="st", dir="/tmp"))
        self.socket = str(self.folder / "s")
        self.port = free_port() if port else 0
        self.options = [
            *(
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--unixsocket",
                self.socket,
                "--unixsocketperm",
                "700",
            ),
            *(
                "--dir",
                str(self.folder),
                "--save",
                "",
                "--appendonly",
                "yes" if aof else "no",
            ),
            *(
                # A killed process loses no write that the kernel has. With everysec
                # the server keeps answered writes to itself while a sync is slow.
                "--appendfsync",
                "no",
                "--logfile",
                str(self.folder / "log"),
                "--enable-debug-command",
                "yes",
            ),
            *options,
        ]
        if "6.2" in server_label(binary):
            at = self.options.index("--enable-debug-command")
            del self.options[at : at + 2]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return (
            f"redis://127.0.0.1:{self.port}/0" if self.port else f"unix://{self.socket}"
        )

    def start(self) -> Server:
        self.process = subprocess.Popen(
            [self.binary, *self.options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        wait_until(self._answers, what=f"{self.binary} to answer")
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            # The oldest client library forgets to close what fails.
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(self.socket)
            with self.client() as client:
                return bool(client.ping())
        except (OSError, redis.ConnectionError, redis.BusyLoadingError):
            return False

    @contextlib.contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """A plain client of the client library, for looking and for breaking things."""
        client = redis.Redis(
            unix_socket_path=self.socket, socket_timeout=10, retry=None, protocol=2
        )
        try:
            yield client
        finally:
            client.close()

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(10)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)


def wait_until(
    condition, *, seconds: float = 30.0, what: str = "the condition"
) -> None:
    """Wait for a condition; fail with its name when it does not come."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            raise AssertionError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.01)


_given: set[int] = set()


def free_port() -> int:
    """A port that nothing listens on, and that no connection is given by chance before somebody does.

    Below the ports of outgoing connections, each of which could take a port between its being found free and its being
    bound; and never the same one twice in a process.
    """
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


def whole_lines(path: Path) -> list[str]:
    """The lines of a file that somebody writes to, without a last one that is half there; none if there is no file."""
    if not path.exists():
        return []
    return path.read_text("utf-8").rpartition("\n")[0].splitlines()


def clean_environment() -> dict[str, str]:
    """The environment for child processes, without this machine's own settings."""
    return {
        k: v
        for k, v in os.environ.items()
        if not k.startswith("STREAMS_") and k not in ("REDIS_URL", "USE_REDIS")
    }
