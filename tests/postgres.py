"""A PostgreSQL of one test: started, restarted at will; on a unix socket, in a folder that goes with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tests.servers import wait_until

DATABASE = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "postgres",
    "USER": "tests",
}


@cache
def binaries() -> Path | None:
    """The folder of ``postgres`` and ``initdb``, if they are there."""
    places = [
        Path(found).resolve().parent
        for name in ("postgres",)
        if (found := shutil.which(name))
    ]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next(
        (
            place
            for place in places
            if (place / "initdb").exists() and (place / "postgres").exists()
        ),
        None,
    )


class Postgres:
    """A database server; without a wait for the disk, since nothing of it has to last."""

    def __init__(self) -> None:
        found = binaries()
        assert found is not None, "PostgreSQL is not installed"
        self._binaries = found
        self.folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
        # It refuses to run as root.
        self._as = {"user": "nobody"} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(self.folder, "nobody")
        command = [
            str(found / "initdb"),
            "-D",
            str(self.folder / "data"),
            "-U",
            "tests",
            "-A",
            "trust",
            "--no-sync",
        ]
        subprocess.run(
            command, check=True, capture_output=True, cwd=self.folder, **self._as
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Postgres:
        data, sockets = str(self.folder / "data"), str(self.folder)
        command = [
            str(self._binaries / "postgres"),
            "-D",
            data,
            "-k",
            sockets,
            "-c",
            "listen_addresses=",
            "-F",
        ]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, cwd=self.folder, **quiet, **self._as)
        wait_until(lambda: self._ready(), seconds=30, what="PostgreSQL")
        return self

    def _ready(self) -> bool:
        asked = [
            str(self._binaries / "pg_isready"),
            "-q",
            "-h",
            str(self.folder),
            "-U",
            "tests",
        ]
        return subprocess.run(asked, check=False).returncode == 0

    def stop(self) -> None:
        """At once: connections are cut."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
