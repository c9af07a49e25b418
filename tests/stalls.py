"""A failing test says something of the package only if the machine ran it. One that it did not run is repeated, alone.

Leases, retries and limits are about time, so their tests are too. On a machine that is shared, a virtual processor may
stand still for a second; a lease is lost in that, rightly, and the test of the lease fails. So a process beside the
tests sleeps, on each processor, and measures how much too late it is woken, and whether the clock of the day, which the
server goes by, was set meanwhile. When a test fails and the machine stalled, then the result is inconclusive: the test
is run again in a process of its own, and the other workers pause so long. When it fails on a machine that did not
stall, or every time, then it has failed. What was repeated is listed at the end of the run.

Repeats have a budget, so that a suite that becomes nervous is noticed. ``STREAMS_TEST_REPEATS=0`` takes every first
result; another number is the budget.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import pytest

STALL = 0.1
"""Seconds too late that make a failure inconclusive. A quiet machine wakes a sleeper within a few milliseconds."""

TRIES = 3
"""How often one test is repeated at most, while the machine stalls."""

PATIENCE = 300.0
"""Seconds that a repeat may take."""

BUDGET = 3
"""How many tests of a run are repeated at most. A suite that needs more is not calm enough: the next failure counts."""

TIMELESS = ("tests/unit", "tests/virtual", "tests/architecture")
"""Tests in which no time passes, so a stall excuses nothing."""

_METER = """
import mmap, os, struct, sys, threading, time
parent, processors = int(sys.argv[2]), [int(number) for number in sys.argv[3:]]
with open(sys.argv[1], "r+b") as file:
    page = mmap.mmap(file.fileno(), 8 * len(processors))

def measure(place, processor):
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {processor})  # Of this thread alone.
    while os.getppid() == parent:
        began = time.monotonic(), time.time()
        time.sleep(0.02)
        passed, stepped = time.monotonic() - began[0], time.time() - began[1]
        late = max(passed - 0.02, abs(stepped - passed))
        if late > struct.unpack_from("d", page, place)[0]:
            struct.pack_into("d", page, place, late)

for number, processor in enumerate(processors):
    threading.Thread(target=measure, args=(8 * number, processor)).start()
"""


Stalled = Callable[[], float]


class Meter:
    """Measures, in a process of its own, how late the machine wakes who sleeps, on each processor.

    They may stall one by one: a sleeper is woken on another one, on time, while a test stands still.
    """

    def __init__(self) -> None:
        processors = (
            sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
        )
        self._slots = struct.Struct(f"{len(processors)}d")
        with tempfile.NamedTemporaryFile() as file:
            file.write(bytes(self._slots.size))
            file.flush()
            self._page = mmap.mmap(file.fileno(), self._slots.size)
            command = [
                sys.executable,
                "-I",
                "-S",
                "-c",
                _METER,
                file.name,
                str(os.getpid()),
                *map(str, processors),
            ]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            # It measures once it has noted, of each, that sleeping takes longer than it should.
            while (
                not all(self._slots.unpack(self._page)) and self._process.poll() is None
            ):
                os.sched_yield()

    @property
    def worst(self) -> float:
        """Seconds that the latest of all wakings since ``reset`` was late, or that the clock was set by."""
        return float(max(self._slots.unpack(self._page)))

    def reset(self) -> None:
        """Measure anew."""
        self._page[:] = bytes(self._slots.size)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


class Room:
    """Where the workers of one run are at work, each with its test, or one of them alone.

    A worker that wants to be alone waits in the door, so that no other comes in any more while the rest finishes.
    """

    def __init__(self, folder: Path, budget: int) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._budget = budget
        self._door, self._room, self._used = (
            (folder / name).open("a+") for name in ("door", "room", "used")
        )

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Be there with the others."""
        with _locked(self._door, fcntl.LOCK_EX):
            fcntl.flock(self._room, fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Send the others out, for a worker that is there with them; it is with them again afterwards."""
        # Two that want to be alone would wait for each other for ever.
        fcntl.flock(self._room, fcntl.LOCK_UN)
        with _locked(self._door, fcntl.LOCK_EX):
            fcntl.flock(self._room, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._room, fcntl.LOCK_SH)

    def spend(self) -> bool:
        """Take one repeat out of the budget of the run; false if it is used up. Only for a worker that is alone."""
        self._used.seek(0)
        if len(self._used.read()) >= self._budget:
            return False
        self._used.write("x")
        self._used.flush()
        return True

    def close(self) -> None:
        """Leave nothing behind."""
        for file in (self._door, self._room, self._used):
            file.close()
            Path(file.name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()


@contextlib.contextmanager
def _locked(file: IO[str], kind: int) -> Iterator[None]:
    fcntl.flock(file, kind)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


class Repeat(NamedTuple):
    """How the repeats of a test ended. ``stalls``: seconds of the machine's stalls; ``output``: of the last repeat."""

    passed: bool
    stalls: list[float]
    output: str


class Repeating:
    """The plugin, in each process that runs tests."""

    def __init__(self, run: str, budget: int) -> None:
        self._meter = Meter()
        self._room = Room(Path(tempfile.gettempdir()) / f"streams-tests-{run}", budget)
        # Tests take variables out of it.
        self._environment = {**os.environ, "STREAMS_TEST_REPEATS": "0"}
        self._repeats: dict[str, Repeat] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """Come in before the timer of the test starts: waiting for the others is none of its time."""
        with self._room.together():
            self._meter.reset()
            return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """Do not run a test whose set-up failed here and that passed when it was repeated."""
        return True if pyfuncitem.nodeid in self._repeats else None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Repeat the test while its result says nothing, and report the last result."""
        report = yield
        if (
            report.failed
            and item.nodeid not in self._repeats
            and self._meter.worst > STALL
            and _may_repeat(item)
        ):
            repeat = self._repeat(item)
            if repeat.stalls:
                self._repeats[item.nodeid] = repeat
                seconds = ", ".join(f"{stall:.2f}" for stall in repeat.stalls)
                text = f"{item.nodeid}: the machine stalled for {seconds} s"
                report.user_properties.append(("repeated", text))
        repeat = self._repeats.get(
            item.nodeid, Repeat(passed=False, stalls=[], output="")
        )
        if report.failed and repeat.passed:
            report.outcome, report.longrepr = "passed", None
        elif report.failed and repeat.output:
            report.sections.append(("the last repeat, alone", repeat.output))
        return report

    def _repeat(self, item: pytest.Item) -> Repeat:
        """Run the test in a process of its own, while the other workers wait."""
        item.config.hook.pytest_timeout_cancel_timer(item=item)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:xdist",
            "-p",
            "no:cacheprovider",
            item.nodeid,
        ]
        stalls: list[float] = []
        passed, output, stall = False, "", self._meter.worst
        with self._room.alone():
            while not passed and stall > STALL and len(stalls) < TRIES:
                if not stalls and not self._room.spend():
                    break
                stalls.append(stall)
                self._meter.reset()
                passed, output = self._run(command, item.config.rootpath)
                stall = self._meter.worst
        return Repeat(passed, stalls, output)

    def _run(self, command: list[str], folder: Path) -> tuple[bool, str]:
        """Run a command; whether it ended well in time, and what it printed."""
        with subprocess.Popen(
            command,
            cwd=folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            try:
                output, _ = process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                return False, f"no end within {PATIENCE} s"
            return process.returncode == 0, output

    def pytest_unconfigure(self) -> None:
        """Leave nothing behind."""
        self._meter.close()
        self._room.close()


def _may_repeat(item: pytest.Item) -> bool:
    """Whether time has a part in the test. Of pure logic and of virtual time each result counts."""
    path = (
        item.path.relative_to(item.config.rootpath)
        if item.path.is_relative_to(item.config.rootpath)
        else item.path
    )
    return not any(path.is_relative_to(folder) for folder in TIMELESS)


def configure(config: pytest.Config) -> None:
    """Have the tests of this process repeated, unless it only hands them out."""
    budget = int(os.environ.get("STREAMS_TEST_REPEATS", BUDGET))
    hands_out = bool(config.getoption("tx", None)) and not hasattr(
        config, "workerinput"
    )
    if budget and not hands_out:
        run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
        config.pluginmanager.register(Repeating(run, budget), "streams-repeating")


def summarize(reporter: Any) -> None:
    """List what was repeated."""
    reports = [
        report
        for group in reporter.stats.values()
        for report in group
        if isinstance(report, pytest.TestReport)
    ]
    lines = sorted(
        {
            str(text)
            for report in reports
            for name, text in report.user_properties
            if name == "repeated"
        }
    )
    if lines:
        reporter.section("repeated alone, since the machine stalled")
        for line in lines:
            reporter.write_line(line)
