"""The stage: the demo's folder and child processes. Whatever happens, none of them outlives it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import streams
from streams.errors import StreamsError

LEASE = 2.0
CONCURRENCY = 4
_OTHERS = ("REDIS_URL", "USE_REDIS")
_KEPT = "STREAMS_SERVER_BINARY"


class DemoFailed(StreamsError):  # noqa: N818 - an outcome, told in one sentence
    """The demo could not be played to its end."""


def find_orders() -> Path:
    """The folder with the input and the pipeline: inside the package when installed, else in the checkout."""
    here = Path(__file__).resolve()
    for folder in (here.parent / "orders", here.parents[3] / "examples" / "orders"):
        if (folder / "orders.jsonl").is_file() and (folder / "shop.py").is_file():
            return folder
    raise DemoFailed(
        "the demo's orders are missing: they are part of the package; install it again"
    )


@dataclass(frozen=True, slots=True)
class DemoProcess:
    """A process of the demo."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def end(self) -> None:
        """End it now."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def tail(self, count: int = 12) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-count:])


class Stage:
    """Starts children and ends them.

    Args:
        url: the server; an embedded one in the demo's folder if None.
        keep: leave the folder behind.
    """

    def __init__(self, url: str | None, *, keep: bool) -> None:
        self._keep = keep
        self._before: dict[int, signal.Handlers | int | None] = {}
        self.children: list[DemoProcess] = []
        self.folder = Path(tempfile.mkdtemp(prefix="streams-demo-"))
        # With a name it is shared by the demo's processes, and without a folder it leaves nothing behind.
        self.url = url or (
            f"embedded://{self.folder / 'server'}"
            if keep
            else f"memory://{self.folder.name}"
        )
        self.namespace = "streams" if url is None else f"demo-{os.urandom(4).hex()}"
        self.ledger = self.folder / "ledger.jsonl"
        self.orders = find_orders()

    def __enter__(self) -> Self:
        def stop(number: int, frame: FrameType | None) -> None:
            del frame
            raise SystemExit(128 + number)

        for number in (signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, stop)  # type: ignore[assignment]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._before[signal.SIGINT] = signal.getsignal(signal.SIGINT)  # type: ignore[assignment]
        for number in self._before:
            # a second Ctrl-C must not leave anything behind
            signal.signal(number, signal.SIG_IGN)
        try:
            for child in self.children:
                child.end()
            if not self._keep:
                self._remove()
        finally:
            for number, before in self._before.items():
                signal.signal(number, before or signal.SIG_DFL)

    def producer(self, source: Path, part: tuple[int, int], number: int) -> DemoProcess:
        """Start a process that publishes a part of the input: ``streams publish``."""
        return self._start(
            f"producer-{number}",
            *(
                "publish",
                "orders",
                "--file",
                str(source),
                "--from-line",
                str(part[0]),
                "--to-line",
                str(part[1]),
            ),
            *("--receipts", str(self.receipts(number)), "--json"),
        )

    def receipts(self, number: int) -> Path:
        """Where a producer writes what became of each line."""
        return self.folder / f"receipts-{number}.jsonl"

    def worker(self, number: int) -> DemoProcess:
        """Start a worker on the shop's pipeline: ``streams worker``."""
        return self._start(
            f"worker-{number}",
            *("worker", f"{self.orders / 'shop.py'}:pipeline", "--lease", str(LEASE)),
            *("--concurrency", str(CONCURRENCY), "--grace-period", "10"),
        )

    def make_orders(self, seed: int) -> Path:
        """Make another input file of the same kind."""
        target = self.folder / "orders.jsonl"
        script = str(self.orders / "make_orders.py")
        subprocess.run(  # noqa: S603 - our own script
            [sys.executable, script, "--seed", str(seed), "--output", str(target)],
            check=True,
            timeout=30,
        )
        return target

    def logs(self) -> str:
        """The end of every log, for the moment when something went wrong."""
        return "\n".join(f"--- {child.name}\n{child.tail()}" for child in self.children)

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
        """Without the settings of whoever runs the demo: it is the same for everybody."""
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
            "SHOP_LEDGER": str(self.ledger),
            "PYTHONUNBUFFERED": "1",
        }

    def _remove(self) -> None:
        # The embedded server may still be on its way out, and write a last time.
        give_up = time.monotonic() + 5
        while self.folder.exists() and time.monotonic() < give_up:
            shutil.rmtree(self.folder, ignore_errors=True)
            if self.folder.exists():
                time.sleep(0.05)
        with contextlib.suppress(OSError):
            self.folder.rmdir()
