"""A server on the files that deploy/ ships: its redis.conf, and the users that make-acl.py writes."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import redis

from streams.broker.admin.access import ROLES
from tests.servers import Server, server_label

ROOT = Path(__file__).parents[1]
FILES = ROOT / "deploy" / "redis"
SECRET = "secret"
EVERYBODY = (*ROLES, "admin")


def make_acl() -> ModuleType:
    """``make-acl.py`` as a module."""
    spec = importlib.util.spec_from_file_location("make_acl", FILES / "make-acl.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def users(*arguments: str, **passwords: str) -> str:
    """What ``make-acl.py`` writes; passwords by the name of their variable: ``STREAMS_WORKER_PASSWORD=...``."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("STREAMS_")
    }
    command = [sys.executable, str(FILES / "make-acl.py"), *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env={**env, **passwords, "PYTHONPATH": str(ROOT)},
    ).stdout


def everybody(*arguments: str) -> str:
    """The users of every role and the admin, all with the password ``SECRET``."""
    return users(
        *arguments, **{f"STREAMS_{role.upper()}_PASSWORD": SECRET for role in EVERYBODY}
    )


class Shipped(Server):
    """One server on the files of deploy/; only folders, port and socket are its own.

    Args:
        binary: the server.
        acl: the text of its users.acl.
        options: of the server, after those of redis.conf.
        looks_as: the user of ``client``, who looks and breaks things.
    """

    def __init__(
        self, binary: str, acl: str, *options: str, looks_as: str = "admin"
    ) -> None:
        super().__init__(binary, port=True)
        self._looks_as = looks_as
        self.acl = self.folder / "users.acl"
        self.acl.write_text(acl)
        # A copy: CONFIG REWRITE, which Sentinels call too, writes into it.
        config = self.folder / "redis.conf"
        config.write_text((FILES / "redis.conf").read_text("utf-8"))
        self.options = [
            str(config),
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
                "--logfile",
                str(self.folder / "log"),
                "--aclfile",
                str(self.acl),
            ),
            *(
                ()
                if "6.2" in server_label(binary)
                else ("--enable-debug-command", "yes")
            ),
            *options,
        ]

    def url_as(self, role: str, password: str = SECRET) -> str:
        """The URL of a user."""
        return f"redis://{role}:{password}@127.0.0.1:{self.port}/0"

    @property
    def url(self) -> str:
        return self.url_as(self._looks_as)

    @contextlib.contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """A plain client of the client library, as whoever looks."""
        client = redis.Redis(
            unix_socket_path=self.socket, username=self._looks_as, password=SECRET, socket_timeout=10, retry=None,
            protocol=2,
        )  # fmt: skip
        try:
            yield client
        finally:
            client.close()

    def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(10)
