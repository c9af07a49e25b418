"""The play: publish from two processes, consume in two, kill one, read the books."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections.abc import Callable
from pathlib import Path

from streams.admin.status import StreamRow
from streams.cli.dead_output import brief_error
from streams.cli.demo.books import Books, DeadEnd, balance
from streams.cli.demo.stage import DemoFailed, DemoProcess, Stage
from streams.cli.lines import line_limit, read_lines
from streams.errors import NotFound
from streams.pipeline import Pipeline
from streams.settings import Settings

STREAM, GROUP = "orders", "billing"
_LOOKS_A_SECOND = 5
_QUIET_LOOKS = 3
_MOST_SECONDS = 55.0


class Play:
    """Plays the demo once.

    Args:
        stage: where children live.
        source: the input file.
        tell: called with each line of the story.

    Attributes:
        news: the turns of the story, each with its second.
    """

    def __init__(self, stage: Stage, source: Path, tell: Callable[[str], None]) -> None:
        self._stage = stage
        self._source = source
        self._tell = tell
        self._began = time.monotonic()
        self._workers: list[DemoProcess] = []
        self._producers: list[DemoProcess] = []
        self.news: list[str] = []

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    async def run(self) -> Books:
        """Play to the end.

        Raises:
            DemoFailed: a child ended unexpectedly, or time is up.
        """
        lines = _line_numbers(self._source)
        stage = self._stage
        settings = Settings(url=stage.url, namespace=stage.namespace)
        async with Pipeline(settings=settings) as pipeline:
            self._start(lines)
            try:
                async with asyncio.timeout(_MOST_SECONDS):
                    await self._until_quiet(pipeline, len(lines))
            except TimeoutError:
                raise DemoFailed(f"not finished after {_MOST_SECONDS:.0f} s") from None
            await self._stop()
            dead = await _dead_ends(pipeline)
        return balance(lines, stage.receipts(), stage.ledger(), dead)

    def _say(self, what: str) -> None:
        self._tell(f"{self.seconds:4.1f} s  {what}")

    def _announce(self, what: str) -> None:
        self._say(what)
        self.news.append(f"{self.seconds:4.1f} s  {what}")

    def _start(self, lines: list[int]) -> None:
        if not lines:
            raise DemoFailed(f"{self._source} has no lines")
        middle, last = lines[(len(lines) - 1) // 2], lines[-1]
        self._workers = [self._stage.worker(number) for number in (1, 2)]
        self._producers = [
            self._stage.producer(1, self._source, (1, middle)),
            self._stage.producer(2, self._source, (middle + 1, max(last, middle + 1))),
        ]
        self._announce("two producers and two workers started")

    async def _until_quiet(self, pipeline: Pipeline, lines: int) -> None:
        is_killed = False
        quiet_looks = 0
        for look in itertools.count():
            row = await _status(pipeline)
            done = len({line["entry"] for line in self._stage.ledger()})
            if look % _LOOKS_A_SECOND == 0:
                self._say(self._progress(row, done))
            if not is_killed and done >= lines / 3:
                is_killed = await self._kill_one(pipeline)

            _check(self._workers, {None})
            _check(self._producers, {None, 0, 1})
            is_publishing = any(
                child.process.poll() is None for child in self._producers
            )
            is_busy = is_publishing or row.stored or row.scheduled
            # An event that comes due may be in neither for a moment.
            quiet_looks = 0 if is_busy else quiet_looks + 1
            if quiet_looks == _QUIET_LOOKS:
                return
            await asyncio.sleep(1 / _LOOKS_A_SECOND)

    def _progress(self, row: StreamRow, done: int) -> str:
        outcomes = [receipt["outcome"] for receipt in self._stage.receipts()]
        figures = {"published": outcomes.count("published")}
        for state in ("waiting", "processing", "retrying"):
            figures[state] = sum(group.total(state) for group in row.groups)
        figures |= {"done": done, "dead": sum(group.dead for group in row.groups)}
        return "  ".join(f"{name} {figure:,}" for name, figure in figures.items())

    async def _kill_one(self, pipeline: Pipeline) -> bool:
        """SIGKILL the first worker if it holds work, and start another.

        It is stopped first: what the server says it holds then is what it takes with
        it.
        """
        victim = self._workers[0]
        victim.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.05)
        row = await _status(pipeline)
        held = sum(
            count
            for group in row.groups
            for worker, count in group.held.items()
            if f"-{victim.process.pid}-" in worker
        )
        if not held:
            victim.process.send_signal(signal.SIGCONT)
            return False
        victim.end()
        self._workers[0] = self._stage.worker(3)
        self._announce(
            f"worker 1 killed (SIGKILL) with {held} orders in hand; worker 3 started"
        )
        return True

    async def _stop(self) -> None:
        for child in self._workers:
            child.process.terminate()
        for child in self._workers:
            await asyncio.to_thread(child.process.wait, 15)
        _check(self._workers, {0})
        self._announce("everything is quiet; the workers stopped in order (SIGTERM)")


def _check(children: list[DemoProcess], fine: set[int | None]) -> None:
    for child in children:
        code = child.process.poll()
        if code not in fine:
            raise DemoFailed(f"{child.name} ended with code {code}")


async def _status(pipeline: Pipeline) -> StreamRow:
    try:
        return await pipeline.status().stream(STREAM)
    except NotFound:
        return StreamRow(STREAM, stored=0, scheduled=0, groups=[])


async def _dead_ends(pipeline: Pipeline) -> list[DeadEnd]:
    return [
        DeadEnd(
            letter.event_id,
            f"{letter.level}|{letter.entry_id}",
            letter.reason,
            brief_error(letter),
            letter.attempts,
        )
        async for letter in pipeline.dead_letters(STREAM, GROUP).iterate()
    ]


def _line_numbers(source: Path) -> list[int]:
    with source.open("rb") as file:
        batches = read_lines(file, line_limit(Settings()))
        return [line.number for batch in batches for line in batch]
