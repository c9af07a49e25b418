"""Run the mutants: ``python -m tests.mutants.run [NAME ...]``; exit code 1 if one survives.

The package and the tests are copied, one mutant is put in, its tests run against the copy. Two run at a time. A mutant
is killed by a failing test; an error at collection or a broken script at import kills nothing and is a defect here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from streams.broker.server.binaries import find_servers
from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant
from tests.mutants.places import find

ROOT = Path(__file__).parents[2]
_PATIENCE = 240
_FAILED = 1
"""Exit code of pytest when tests were run and one failed."""


class Verdict(NamedTuple):
    """What became of a mutant. ``by``: the first test that failed."""

    mutant: Mutant
    killed: bool
    by: str
    seconds: float


def applied(mutant: Mutant, root: Path) -> tuple[Path, str]:
    """The file below ``root`` that has the bug, and its text with the bug in it.

    Raises:
        ValueError: no place, or more than one, has the name and the text of the mutant.
    """
    place = find(mutant, root)
    text = place.path.read_text("utf-8")
    return place.path, text[: place.start] + mutant.new + text[place.end :]


def judge(mutant: Mutant) -> Verdict:
    """Put one mutant into a copy and run its tests there."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        for name in ("streams", "tests", "examples", "docs"):
            # With the compiled modules: they are most of a start.
            shutil.copytree(ROOT / name, copy / name)
        shutil.copy(ROOT / "pyproject.toml", copy)
        path, text = applied(mutant, ROOT)
        (copy / path.relative_to(ROOT)).write_text(text, "utf-8")
        command = (
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "--no-header",
            "--tb=no",
            "-p",
            "no:cacheprovider",
        )
        environment = os.environ | {
            "PYTHONPATH": folder,
            "STREAMS_TEST_SERVERS": find_servers()[0],
        }
        environment["STREAMS_TEST_REPEATS"] = "0"
        try:
            done = subprocess.run(
                [*command, "--timeout=60", "--hypothesis-profile=no-shrink", *mutant.tests],
                cwd=copy, env=environment, capture_output=True, text=True, timeout=_PATIENCE, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Verdict(
                mutant, True, f"no end within {_PATIENCE} s", time.monotonic() - began
            )
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    by = (
        failed[0].removeprefix("FAILED ").partition(" - ")[0]
        if failed
        else done.stdout[-300:]
    )
    return Verdict(
        mutant,
        done.returncode == _FAILED and bool(failed),
        by,
        time.monotonic() - began,
    )


def main(names: list[str]) -> int:
    wanted = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    unknown = set(names) - {mutant.name for mutant in MUTANTS}
    if unknown or not wanted:
        print(
            f"there is no mutant {', '.join(sorted(unknown))}; there are: {', '.join(m.name for m in MUTANTS)}"
        )
        return 2
    began = time.monotonic()
    survivors = []
    with ThreadPoolExecutor(2) as pool:
        for verdict in pool.map(judge, wanted):
            word = "killed" if verdict.killed else "SURVIVED"
            print(
                f"{word:9}{verdict.seconds:6.1f} s  {verdict.mutant.name:38}{verdict.by}",
                flush=True,
            )
            if not verdict.killed:
                survivors.append(verdict.mutant)
    print(
        f"\n{len(wanted) - len(survivors)} of {len(wanted)} mutants killed in {time.monotonic() - began:.0f} s"
    )
    for mutant in survivors:
        print(f"survived: {mutant.name} ({mutant.place}): {mutant.harm}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
