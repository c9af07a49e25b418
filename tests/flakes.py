"""Run the suite again and again, and tell which tests do not always pass: ``make flakes RUNS=10 LOAD=2``.

Each run is what ``make test`` runs. With ``--load N`` there are N busy loops beside it, at equal priority, since a test
that is calm on a machine of its own may not be so on a shared one. The table at the end has a line per run; below it
stand the tests that failed or were repeated, with how often. Exit code 1 if one failed, or if a run was too nervous.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
_CALM = 2
"""Repeats that a run may have. A suite that needs more is mended before it is believed."""


class Outcome(NamedTuple):
    """What came out of a run. ``tests``: how many ran; ``failed`` and ``repeated``: their names."""

    seconds: float
    tests: int
    failed: list[str]
    repeated: list[str]

    @property
    def calm(self) -> bool:
        """Whether nothing failed and little was repeated."""
        return self.tests > 0 and not self.failed and len(self.repeated) <= _CALM


@contextlib.contextmanager
def busy(loops: int) -> Iterator[None]:
    """Keep ``loops`` processors busy meanwhile."""
    command = [sys.executable, "-c", "while True: pass"]
    running = [
        subprocess.Popen(command, stdin=subprocess.DEVNULL) for _ in range(loops)
    ]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def read(report: Path) -> Outcome:
    """Read the JUnit report of a run."""
    failed, repeated, tests = [], [], 0
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        tests += 1
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(name)
        if any(each.get("name") == "repeated" for each in case.iter("property")):
            repeated.append(name)
    return Outcome(0.0, tests, failed, repeated)


def run(loops: int, tests: list[str]) -> Outcome:
    """Run the tests once, beside ``loops`` busy loops."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "3",
            "--dist",
            "worksteal",
            f"--junitxml={report}",
            *tests,
        ]
        began = time.monotonic()
        with busy(loops):
            done = subprocess.run(
                command,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
                errors="replace",
                check=False,
            )
        if not report.exists():
            print(done.stdout)
            raise SystemExit("the run ended without a report; its output stands above")
        outcome = read(report)._replace(seconds=time.monotonic() - began)
        if outcome.failed:
            print(done.stdout)
        return outcome


def main() -> int:
    """Run, print the table, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10, help="how often")
    parser.add_argument(
        "--load",
        type=int,
        default=0,
        help="how many busy loops beside every second run",
    )
    parser.add_argument(
        "tests", nargs="*", help="what to run; everything, if nothing is named"
    )
    options = parser.parse_args()
    outcomes, failed, repeated = [], Counter[str](), Counter[str]()
    print(f"{options.runs} runs on {os.cpu_count()} processors")
    print(
        f"{'RUN':>4} {'LOAD':>4} {'SECONDS':>8} {'TESTS':>6} {'FAILED':>6} {'REPEATED':>8}",
        flush=True,
    )
    for number in range(1, options.runs + 1):
        loops = options.load if number % 2 == 0 else 0
        outcome = run(loops, options.tests)
        counts = (
            f"{outcome.tests:>6} {len(outcome.failed):>6} {len(outcome.repeated):>8}"
        )
        print(f"{number:>4} {loops:>4} {outcome.seconds:>8.0f} {counts}", flush=True)
        outcomes.append(outcome)
        failed.update(outcome.failed)
        repeated.update(outcome.repeated)
    for word, names in (("failed", failed), ("repeated", repeated)):
        for name, times in names.most_common():
            print(f"{word} {times} of {options.runs}: {name}")
    calm = sum(outcome.calm for outcome in outcomes)
    print(
        f"{calm} of {options.runs} runs without a failure and with at most {_CALM} repeats"
    )
    return 0 if calm == options.runs else 1


if __name__ == "__main__":
    raise SystemExit(main())
