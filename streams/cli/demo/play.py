"""The play: publish from two processes, consume in two, kill one, start another, wait for the end, read the books."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from streams.admin.dead_letters import DeadLetters
from streams.admin.status import StreamRow
from streams.cli.dead_output import brief_error
from streams.cli.demo.books import Books, DeadEnd, balance
from streams.cli.demo.stage import DemoFailed, DemoProcess, Stage
from streams.cli.lines import line_limit, read_lines
from streams.errors import NotFound
from streams.pipeline import Pipeline
from streams.settings import Settings

STREAM, GROUP = "orders", "billing"
_POLL = 0.2
_MOST_SECONDS = 55.0
_QUIET_SECONDS = 2.0


@dataclass
class DemoState:
    """What there is to see at one moment. ``levels``: per level waiting, processing, retrying, done, dead."""

    source: str
    lines: int
    seconds: float = 0.0
    published: int = 0
    scheduled: int = 0
    levels: dict[int, dict[str, int]] = field(default_factory=dict)
    news: list[str] = field(default_factory=list)

    def total(self, what: str) -> int:
        """Sum over the levels."""
        return sum(row[what] for row in self.levels.values())

    def tell(self, what: str) -> None:
        """Add a piece of news."""
        self.news.append(f"{self.seconds:4.1f} s  {what}")


class Tail:
    """The JSON lines of a file that others write, as far as they are complete."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self.rows: list[dict[str, Any]] = []

    def read(self) -> list[dict[str, Any]]:
        """What came since the last call; all of it is kept in ``rows``."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._at)
            whole, _, _ = file.read().rpartition(b"\n")
        if not whole:
            return []
        self._at += len(whole) + 1
        new = [orjson.loads(line) for line in whole.split(b"\n")]
        self.rows += new
        return new


class Play:
    """Plays the demo once.

    Args:
        stage: where children live.
        source: the input file.
        show: called with the scene about five times a second.
    """

    def __init__(
        self, stage: Stage, source: Path, show: Callable[[DemoState], None]
    ) -> None:
        self._stage = stage
        self._source = source
        self._show = show
        self._numbers = _line_numbers(source)
        self._began = time.monotonic()
        self._ledger = Tail(stage.ledger)
        self._receipts = [Tail(stage.receipts(number)) for number in (1, 2)]
        self._done: dict[str, int] = {}
        self._dead: list[DeadEnd] = []
        self._last_letter = ""
        self._workers: list[DemoProcess] = []
        self._producers: list[DemoProcess] = []
        self._killed = False
        self.scene = DemoState(source.name, len(self._numbers))

    async def run(self) -> Books:
        """Play to the end.

        Raises:
            DemoFailed: a child ended unexpectedly, or time is up.
        """
        settings = Settings(url=self._stage.url, namespace=self._stage.namespace)
        async with Pipeline(settings=settings) as pipeline:
            self._start()
            await self._until_quiet(pipeline)
            await self._stop()
            await self._look(pipeline)
            self._show(self.scene)
        receipts = [row for tail in self._receipts for row in tail.rows]
        return balance(self._numbers, receipts, self._ledger.rows, self._dead)

    def _start(self) -> None:
        if not self._numbers:
            raise DemoFailed(f"{self._source} has no lines")
        middle = self._numbers[(len(self._numbers) - 1) // 2]
        self._workers = [self._stage.worker(number) for number in (1, 2)]
        parts = ((1, middle), (middle + 1, max(self._numbers[-1], middle + 1)))
        self._producers = [
            self._stage.producer(self._source, part, number)
            for number, part in enumerate(parts, 1)
        ]
        self.scene.tell("two producers and two workers started")

    async def _until_quiet(self, pipeline: Pipeline) -> None:
        quiet_since: float | None = None
        while True:
            row = await self._look(pipeline)
            self._show(self.scene)
            self._check_children()
            if not self._killed and len(self._done) >= len(self._numbers) / 3:
                await self._kill_one(pipeline)
            busy = self._is_publishing() or row is None or row.stored or row.scheduled
            now = time.monotonic()
            quiet_since = None if busy else quiet_since or now
            if quiet_since is not None and (
                len(self._done) + len(self._dead) >= self.scene.published
                or now - quiet_since > _QUIET_SECONDS
            ):
                return
            if self.scene.seconds > _MOST_SECONDS:
                raise DemoFailed(f"not finished after {_MOST_SECONDS:.0f} s")
            await asyncio.sleep(_POLL)

    async def _look(self, pipeline: Pipeline) -> StreamRow | None:
        """Bring the scene up to date."""
        scene = self.scene
        scene.seconds = time.monotonic() - self._began
        for tail in self._receipts:
            scene.published += sum(
                receipt["outcome"] == "published" for receipt in tail.read()
            )
        try:
            row = await pipeline.status().stream(STREAM)
        except NotFound:
            return None
        await self._read_letters(pipeline.dead_letters(STREAM, GROUP))
        for line in self._ledger.read():
            self._done[line["entry"]] = line["level"]
        done = Counter(self._done.values())
        dead = Counter(int(letter.entry.partition("|")[0]) for letter in self._dead)
        scene.scheduled = row.scheduled
        for group in row.groups:
            for level in group.levels:
                scene.levels[level.level] = {
                    "waiting": level.waiting,
                    "processing": level.processing,
                    "retrying": level.retrying,
                    "done": done[level.level],
                    "dead": dead[level.level],
                }
        return row

    async def _read_letters(self, letters: DeadLetters) -> None:
        async for letter in letters.iterate(after=self._last_letter):
            entry = f"{letter.level}|{letter.entry_id}"
            self._dead.append(
                DeadEnd(
                    letter.event_id,
                    entry,
                    letter.reason,
                    brief_error(letter),
                    letter.attempts,
                )
            )
            self._last_letter = letter.id

    def _is_publishing(self) -> bool:
        return any(child.process.poll() is None for child in self._producers)

    def _check_children(self) -> None:
        for child in self._producers:
            if child.process.poll() not in (None, 0, 1):
                raise DemoFailed(
                    f"{child.name} ended with code {child.process.returncode}"
                )
        for child in self._workers:
            if child.process.poll() is not None:
                raise DemoFailed(
                    f"{child.name} ended with code {child.process.returncode}"
                )

    async def _kill_one(self, pipeline: Pipeline) -> None:
        """SIGKILL the first worker at a moment when it holds work, and start another.

        It is stopped first: what the server says it holds then is what it takes with it.
        """
        victim = self._workers[0]
        name = re.compile(rf".*-{victim.process.pid}-[0-9a-f]+")
        victim.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.05)
        row = await pipeline.status().stream(STREAM)
        held = sum(
            count
            for group in row.groups
            for worker, count in group.held.items()
            if name.fullmatch(worker)
        )
        if not held:
            victim.process.send_signal(signal.SIGCONT)
            return
        victim.end()
        self._killed = True
        self._workers[0] = self._stage.worker(3)
        self.scene.tell(
            f"worker 1 killed (SIGKILL) with {held} orders in hand; worker 3 started"
        )

    async def _stop(self) -> None:
        for child in self._workers:
            child.process.terminate()
        for child in self._workers:
            code = await asyncio.to_thread(child.process.wait, 15)
            if code != 0:
                raise DemoFailed(f"{child.name} ended with code {code} at SIGTERM")
        self.scene.tell("everything is quiet; the workers stopped in order (SIGTERM)")


def _line_numbers(source: Path) -> list[int]:
    def lines() -> Iterator[int]:
        with source.open("rb") as file:
            for batch in read_lines(file, line_limit(Settings())):
                for line in batch:
                    yield line.number

    try:
        return list(lines())
    except OSError as error:
        raise DemoFailed(f"{source}: {error.strerror}") from None
