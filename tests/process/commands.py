"""Commands of ``streams`` that are run against a server, in the folder of a small shop."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from streams.cli import main
from tests import terminal
from tests.servers import BINARIES, Server, clean_environment

ROOT = Path(__file__).parents[2]

Done = subprocess.CompletedProcess[str]

SHOP = """
    import os
    from streams import Event, Pipeline, Reject, Retry

    pipeline = Pipeline.from_env()
    nothing = 5

    @pipeline.handler("orders", group="billing", types=["order"], retry=Retry(max_retries=1, delay=0.05))
    async def charge(event: Event) -> None:
        if os.path.exists("mended"):
            return
        if event.data["id"] == 1:
            raise Reject("call +49 170 1234567 about it")
        if event.data["id"] == 2:
            raise ValueError("timeout at +49 170 1234567")
"""


class Cli:
    """The command line against one server and namespace.

    Calling it runs the program's ``main`` inside the test process, which saves half a second of imports per command;
    ``process`` runs ``python -m streams``, ``start`` forks. All of them see the same environment and folder.
    """

    def __init__(self, server: Server, namespace: str, folder: Path) -> None:
        self.folder = folder
        self.env = clean_environment() | {
            "PYTHONPATH": str(ROOT),
            "STREAMS_URL": server.url,
            "STREAMS_NAMESPACE": namespace,
            "COLUMNS": "100",
            "USER": "ada",
        }

    def __call__(
        self, *arguments: str, code: int = 0, stdin: str = "", **env: str
    ) -> Done:
        streams = [
            io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8")
            for text in (stdin, "", "")
        ]
        before = signal.getsignal(signal.SIGINT)
        with (
            patch.dict(os.environ, self.env | env, clear=True),
            patch.multiple(
                sys,
                argv=["streams", *arguments],
                stdin=streams[0],
                stdout=streams[1],
                stderr=streams[2],
            ),
            contextlib.chdir(self.folder),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        signal.signal(signal.SIGINT, before)
        out, err = (
            stream.buffer.getvalue().decode()
            for stream in streams[1:]
            if stream.flush() is None
        )
        return self._checked(Done(list(arguments), ended.value.code, out, err), code)

    def process(self, *arguments: str, code: int = 0, **env: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "streams", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.env | env,
            timeout=60,
        )
        return self._checked(done, code)

    @staticmethod
    def _checked(done: Done, code: int) -> Done:
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    def json(self, *arguments: str, **keywords):
        return json.loads(self(*arguments, "--json", **keywords).stdout)

    def refused(
        self, *arguments: str, code: int, process: bool = False, **keywords
    ) -> str:
        """The one sentence with which a command fails."""
        done = (self.process if process else self)(*arguments, code=code, **keywords)
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    @contextlib.contextmanager
    def start(self, *arguments: str, **env: str) -> Iterator[subprocess.Popen[str]]:
        with terminal.streams(
            *arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.env | env,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One server is enough here: what differs between servers ends in the broker, and is tested there."""
    running = Server(BINARIES[0]).start()
    yield running
    running.close()


@pytest.fixture
def cli(server, namespace, tmp_path) -> Cli:
    return Cli(server, namespace, tmp_path)


def group(cli: Cli) -> dict:
    return cli.json("ls", "orders")["streams"][0]["groups"][0]


def _has(cli: Cli) -> bool:
    return bool(cli.json("ls")["streams"])
