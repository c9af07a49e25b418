"""What importing costs: ``python benchmarks/import_time.py [rounds]``, or ``make import-time``.

Each figure is the median of fresh interpreters, less the median of an interpreter that runs nothing. The last table
names the slowest imports, as ``python -X importtime`` tells them.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

PROGRAMS = {
    "import streams": "import streams",
    "import streams.sync": "import streams.sync",
    "... and Pipeline('redis://...')": "import streams; streams.Pipeline('redis://localhost')",
    "... and Pipeline()": "import streams; streams.Pipeline()",
    "the pytest plugin": "import pytest; import streams.testing.plugin",
}


def seconds(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def slowest(code: str, most: int = 12) -> list[tuple[int, str]]:
    """Microseconds and names of the modules that take longest themselves."""
    report = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = (
        line.partition(":")[2].split("|") for line in report.stderr.splitlines()[1:]
    )
    return sorted(((int(own), name.strip()) for own, _, name in rows), reverse=True)[
        :most
    ]


def main(rounds: int) -> None:
    nothing = statistics.median(seconds("pass") for _ in range(rounds))
    print(f"{'the interpreter alone':<34}{nothing:7.3f} s")
    for name, code in PROGRAMS.items():
        times = [seconds(code) - nothing for _ in range(rounds)]
        print(
            f"{name:<34}{statistics.median(times):7.3f} s, from {min(times):.3f} to {max(times):.3f}"
        )
    print("\nslowest by themselves, in ms:")
    for micros, module in slowest(PROGRAMS["import streams"]):
        print(f"{micros / 1000:8.1f}  {module}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
