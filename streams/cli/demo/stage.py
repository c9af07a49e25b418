"""The stage: the demo's folder and child processes. None of them outlives it."""

from __future__ import annotations

import contextlib
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import orjson

import streams
from streams.errors import StreamsError

_OTHERS = ("REDIS_URL", "USE_REDIS")
_KEPT = "STREAMS_SERVER_BINARY"
_LAST_LINES = 12


class DemoFailed(StreamsError):  # noqa: N818 - an outcome, told in one sentence
    """The demo could not be played to its end."""


@dataclass(frozen=True, slots=True)
class DemoProcess:
    """A process of the demo."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def end(self) -> None:
        """End it now."""
        self.process.kill()
        self.process.wait()

    def tail(self) -> str:
        """Its name and the last lines of its log."""
        lines = self.log.read_text("utf-8", "replace").splitlines()
        return "\n".join([f"--- {self.name}", *lines[-_LAST_LINES:]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Starts children, and reads what they write.

    Attributes:
        folder: of data and logs.
        url, namespace: of the server.
        children: every process that was started.
    """

    folder: Path
    url: str
    namespace: str
    children: list[DemoProcess] = field(default_factory=list)

    @property
    def orders(self) -> Path:
        """The folder with the input and the pipeline: of the package, or of a checkout."""
        here = Path(__file__).resolve()
        installed = here.parent / "orders"
        if installed.is_dir():
            return installed
        return here.parents[3] / "examples" / "orders"

    def producer(self, number: int, source: Path, part: tuple[int, int]) -> DemoProcess:
        """Start a process that publishes a part of the input: ``streams publish``."""
        first, last = map(str, part)
        options = ["--file", str(source), "--from-line", first, "--to-line", last]
        receipts = str(self.folder / f"receipts-{number}.jsonl")
        return self._start(
            f"producer-{number}",
            *("publish", "orders", *options, "--receipts", receipts, "--json"),
        )

    def worker(self, number: int) -> DemoProcess:
        """Start a worker on the shop's pipeline: ``streams worker``."""
        pipeline = f"{self.orders / 'shop.py'}:pipeline"
        options = ["--lease", "2", "--concurrency", "4", "--grace-period", "10"]
        return self._start(f"worker-{number}", "worker", pipeline, *options)

    def make_orders(self, seed: int) -> Path:
        """Make another input file of the same kind."""
        make = runpy.run_path(str(self.orders / "make_orders.py"))["make"]
        target = self.folder / "orders.jsonl"
        target.write_text("\n".join(make(seed)) + "\n", "utf-8")
        return target

    def receipts(self) -> list[dict[str, Any]]:
        """The producers' rows, one for each line."""
        return self._rows("receipts-*.jsonl")

    def ledger(self) -> list[dict[str, Any]]:
        """The handlers' rows, one for each attempt that succeeded."""
        return self._rows("ledger.jsonl")

    def logs(self) -> str:
        """The end of every log, for the moment when something went wrong."""
        return "\n".join(child.tail() for child in self.children)

    def _rows(self, pattern: str) -> list[dict[str, Any]]:
        """The JSON lines of files that others write, as far as they are complete."""
        rows = []
        for path in self.folder.glob(pattern):
            whole, _, _ = path.read_bytes().rpartition(b"\n")
            rows += [orjson.loads(line) for line in whole.splitlines()]
        return rows

    def _start(self, name: str, *arguments: str) -> DemoProcess:
        log = self.folder / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(  # noqa: S603 - this program itself
                [sys.executable, "-m", "streams", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self._environment(),
                # Ctrl-C is for the demo, which ends its children in order.
                start_new_session=True,
            )
        child = DemoProcess(name, process, log)
        self.children.append(child)
        return child

    def _environment(self) -> dict[str, str]:
        """The caller's environment without its settings: every demo is the same."""
        env = {
            name: value
            for name, value in os.environ.items()
            if name == _KEPT or not (name.startswith("STREAMS_") or name in _OTHERS)
        }
        root = str(Path(streams.__file__).resolve().parents[1])
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (root, env.get("PYTHONPATH"))))
        return env | {
            "STREAMS_URL": self.url,
            "STREAMS_NAMESPACE": self.namespace,
            "SHOP_LEDGER": str(self.folder / "ledger.jsonl"),
            "PYTHONUNBUFFERED": "1",
        }


@contextlib.contextmanager
def set_up(url: str | None, *, keep: bool) -> Iterator[Stage]:
    """A stage, which ends its children and removes its folder, whatever happens.

    Args:
        url: the server; an embedded one if None.
        keep: leave the folder behind.
    """
    folder = Path(tempfile.mkdtemp(prefix="streams-demo-"))
    # With a name the embedded server is shared by the demo's processes.
    embedded = f"embedded://{folder}/server" if keep else f"memory://{folder.name}"
    stage = Stage(
        folder=folder,
        url=url or embedded,
        namespace=f"demo-{os.urandom(4).hex()}" if url else "streams",
    )
    before = {
        number: signal.signal(number, _exit)
        for number in (signal.SIGTERM, signal.SIGHUP)
    }
    before[signal.SIGINT] = signal.getsignal(signal.SIGINT)
    try:
        yield stage
    finally:
        for number in before:
            # A second Ctrl-C must not leave anything behind.
            signal.signal(number, signal.SIG_IGN)
        for child in stage.children:
            child.end()
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit(number: int, frame: FrameType | None) -> None:
    del frame
    raise SystemExit(128 + number)
