"""Worker processes of a test: the handle of one, and the site with all of them, their history and their books."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import redis

from streams.broker.keys import Keys
from tests.canaries import shown
from tests.process.books import balance, dead_letters, unfinished
from tests.process.worker_app import GROUP, ROOT, STREAM, Config, main
from tests.servers import Server, clean_environment, wait_until, whole_lines
from tests.terminal import Program


class Worker:
    """A worker process, its log and its end."""

    def __init__(self, config: Config, log: Path, root: Path = ROOT) -> None:
        self.log = log
        self.process: subprocess.Popen[Any]
        with log.open("ab") as out:
            environment = clean_environment() | {"PYTHONPATH": str(root)}
            if root == ROOT:
                self.process = Program(
                    main, [config], cwd=root, env=environment, stdout=out, stderr=out
                )
            else:
                command = [
                    sys.executable,
                    "-m",
                    "tests.process.worker_app",
                    json.dumps(dataclasses.asdict(config)),
                ]
                self.process = subprocess.Popen(
                    command, cwd=root, env=environment, stdout=out, stderr=out
                )
        self.pid = self.process.pid

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait(10)

    def wait(self, seconds: float) -> int:
        """The exit code; fails if the process does not end in time."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"the worker did not end within {seconds} s; its log:\n{self.text}"
            ) from None

    def stop(self, seconds: float = 15.0) -> int:
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    @property
    def text(self) -> str:
        return self.log.read_text("utf-8")

    def lines(self, message: str) -> list[dict[str, Any]]:
        """The log lines with this message."""
        found = [
            json.loads(line) for line in whole_lines(self.log) if line.startswith("{")
        ]
        return [line for line in found if line["message"] == message]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)


class Site:
    """One namespace on one server, the workers on it, their shared history, and the books."""

    def __init__(self, server: Server, namespace: str, folder: Path) -> None:
        self.server = server
        self.namespace = namespace
        self.keys = Keys(STREAM, namespace)
        self.history_file = folder / f"{namespace}.history"
        self.history_file.touch()
        self._folder = folder
        self._workers: list[Worker] = []
        self._count = 0

    def worker(self, **options: Any) -> Worker:
        """Start a worker and wait until its handlers may be called (or until it has ended).

        ``root``: the tree whose code it runs, else this one.
        """
        url, root = options.pop("url", self.server.url), options.pop("root", ROOT)
        config = Config(url, self.namespace, str(self.history_file), **options)
        worker = Worker(
            config, self._folder / f"{self.namespace}.{len(self._workers)}.log", root
        )
        self._workers.append(worker)

        def up() -> bool:
            # A handler that blocks the loop from the beginning lets its worker say no more than that it started.
            heard = self.of("up", worker.pid) or self.of("start", worker.pid)
            return bool(heard) or worker.process.poll() is not None

        wait_until(up, what="the worker to be up")
        return worker

    def pass_time(self, seconds: float) -> None:
        """Let what workers hold have been silent for longer."""
        with self.server.client() as client:
            for key in client.keys(f"{self.namespace}:{{{STREAM}}}:[0-9]*"):
                for row in client.xpending_range(key, GROUP, "-", "+", 10_000):
                    idle = row["time_since_delivered"] + round(seconds * 1000)
                    if not row["consumer"].startswith(b"-"):
                        client.xclaim(
                            key,
                            GROUP,
                            row["consumer"],
                            0,
                            [row["message_id"]],
                            idle=idle,
                            justid=True,
                        )

    def close(self) -> None:
        """End the workers; nothing that they wrote may show what must be masked."""
        for worker in self._workers:
            worker.close()
            for line in worker.text.splitlines():
                assert not shown(line), f"a log line shows what it must not: {line}"

    # history

    def history(self) -> list[dict[str, Any]]:
        """Every line but a last one that is being written at this moment."""
        whole, _, _ = self.history_file.read_text("utf-8").rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def of(self, what: str, pid: int | None = None) -> list[dict[str, Any]]:
        return [
            line
            for line in self.history()
            if line["what"] == what and pid in (None, line["pid"])
        ]

    def attempts(self) -> dict[str, list[int]]:
        """Event id to the attempts that its handler saw, in order."""
        seen: dict[str, list[int]] = defaultdict(list)
        for line in self.of("start"):
            seen[line["event"]].append(line["attempt"])
        return dict(seen)

    def done(self) -> Counter[str]:
        """How often each event's handler came to its good end."""
        return Counter(line["event"] for line in self.of("end") if line["how"] == "ok")

    def started(self, count: int, pid: int | None = None) -> None:
        wait_until(lambda: len(self.of("start", pid)) >= count, what=f"{count} starts")

    def stats(self, worker: Worker) -> dict[str, int]:
        """What a worker counted; written when it ended in order."""
        (line,) = self.of("stats", worker.pid)
        return line

    # books

    def publish(
        self,
        orders: Iterable[dict[str, Any]],
        *,
        kind: str = "job",
        level: int = 0,
        meta: str = "",
    ) -> list[str]:
        """Add events as any foreign program would; returns their ids."""
        ids = []
        with self.client() as client, client.pipeline(transaction=False) as pipe:
            for order in orders:
                self._count += 1
                ids.append(f"e{self._count}")
                fields: dict[Any, Any] = {
                    "type": kind,
                    "id": ids[-1],
                    "data": json.dumps(order),
                }
                pipe.xadd(
                    self.keys.level(level), fields | ({"meta": meta} if meta else {})
                )
            pipe.execute()
        return ids

    @contextlib.contextmanager
    def client(self) -> Iterator[redis.Redis]:
        with self.server.client() as client:
            yield client

    def unfinished(self) -> dict[str, int]:
        """Whatever the server keeps of events that are neither done nor dead; {} once all are."""
        with self.client() as client:
            return unfinished(client, self.keys)

    def dead(self) -> dict[str, dict[str, Any]]:
        """Event id to reason and attempt record of each dead letter."""
        with self.client() as client:
            return dead_letters(client, self.keys)

    def drained(self, seconds: float = 40.0) -> None:
        """Wait until nothing is unfinished."""
        try:
            wait_until(lambda: not self.unfinished(), seconds=seconds)
        except AssertionError:
            raise AssertionError(
                f"not drained after {seconds} s: {self.unfinished()}"
            ) from None

    def balance(self, published: Iterable[str]) -> None:
        """Every event is done or dead, none is both, none was made up, and nothing is left over."""
        balance(published, self.done(), self.dead(), self.attempts())
        assert self.unfinished() == {}
