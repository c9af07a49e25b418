"""A failing test says something of the package only if the machine ran it. One that it did not run is repeated, alone.

Leases, retries and limits are about time, so their tests are too. On a machine that is shared, a virtual processor may
stand still for a second; a lease is lost in that, rightly, and the test of the lease fails. So a process beside the
tests sleeps, on each processor, and measures how much too late it is woken, and whether the clock of the day, which the
server goes by, was set meanwhile. When a test fails and the machine stalled, then the result is inconclusive: the test
is run again, and the other workers pause so long. When it fails on a machine that did not stall, or every time, then it
has failed. What was repeated is listed at the end of the run.

``STREAMS_TEST_REPEATS=0`` takes every first result.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from _pytest.runner import runtestprotocol
from pytest_timeout import _get_item_settings

STALL = 0.1
"""Seconds too late that make a failure inconclusive. A quiet machine wakes a sleeper within a few milliseconds."""

REPEATS = 3

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
        processors = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
        self._slots = struct.Struct(f"{len(processors)}d")
        with tempfile.NamedTemporaryFile() as file:
            file.write(bytes(self._slots.size))
            file.flush()
            self._page = mmap.mmap(file.fileno(), self._slots.size)
            command = [sys.executable, "-I", "-S", "-c", _METER, file.name, str(os.getpid()), *map(str, processors)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            # It measures once it has noted, of each, that sleeping takes longer than it should.
            while not all(self._slots.unpack(self._page)) and self._process.poll() is None:
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

    Who wants to be alone waits in the door, so that nobody comes in any more while the others finish.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._door, self._room = ((folder / name).open("w") for name in ("door", "room"))

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
        """Be there without the others."""
        with _locked(self._door, fcntl.LOCK_EX), _locked(self._room, fcntl.LOCK_EX):
            yield

    def close(self) -> None:
        """Leave nothing behind."""
        for file in (self._door, self._room):
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


class Repeating:
    """The plugin, in each process that runs tests."""

    def __init__(self, run: str, repeats: int) -> None:
        self._repeats = repeats
        self._meter = Meter()
        self._room = Room(Path(tempfile.gettempdir()) / f"streams-tests-{run}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Run it, and run it again while its result says nothing."""
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        cancel_timer = item.config.hook.pytest_timeout_cancel_timer
        cancel_timer(item=item)  # Waiting for the others is none of the test's time.
        with self._room.together():
            reports, stall = self._run(item, nextitem)
        stalls = []
        while any(report.failed for report in reports) and stall > STALL and len(stalls) < self._repeats:
            stalls.append(stall)
            cancel_timer(item=item)
            with self._room.alone():
                item._initrequest()  # type: ignore[attr-defined]  # As plugins do that rerun failures.
                reports, stall = self._run(item, nextitem)
        for report in reports:
            if stalls and report.when == "call":
                seconds = ", ".join(f"{stall:.2f}" for stall in stalls)
                report.user_properties.append(("repeated", f"{item.nodeid}: the machine stalled for {seconds} s"))
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _run(self, item: pytest.Item, nextitem: pytest.Item | None) -> tuple[list[pytest.TestReport], float]:
        settings = _get_item_settings(item)
        if settings.timeout:
            item.config.hook.pytest_timeout_set_timer(item=item, settings=settings)
        self._meter.reset()
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        return reports, self._meter.worst

    def pytest_unconfigure(self) -> None:
        """Leave nothing behind."""
        self._meter.close()
        self._room.close()


def configure(config: pytest.Config) -> None:
    """Have the tests of this process repeated, unless it only hands them out."""
    repeats = int(os.environ.get("STREAMS_TEST_REPEATS", REPEATS))
    hands_out = bool(config.getoption("tx", None)) and not hasattr(config, "workerinput")
    if repeats and not hands_out:
        run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
        config.pluginmanager.register(Repeating(run, repeats), "streams-repeating")


def summarize(reporter: Any) -> None:
    """List what was repeated."""
    reports = [report for group in reporter.stats.values() for report in group if isinstance(report, pytest.TestReport)]
    lines = sorted({text for report in reports for name, text in report.user_properties if name == "repeated"})
    if lines:
        reporter.section("repeated alone, since the machine stalled")
        for line in lines:
            reporter.write_line(line)
