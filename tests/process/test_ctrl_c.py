"""Ctrl-C while an embedded server starts, at any instant: no riddle in the folder, no process, no noise is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streams.broker import keeper
from streams.broker.binaries import _build_of, find_server, written_by
from streams.sync import Pipeline
from tests.servers import clean_environment, wait_until

ROOT = Path(__file__).parents[2]
BLOCKING = """
import sys
from streams.sync import Pipeline
pipeline = Pipeline(sys.argv[1])
print("calling", flush=True)
pipeline.publish("orders", 1, type="t")
pipeline.close()
"""
AWAITING = """
import asyncio, sys
from streams import Pipeline

async def main():
    print("calling", flush=True)
    async with Pipeline(sys.argv[1]) as pipeline:
        await pipeline.publish("orders", 1, type="t")

asyncio.run(main())
"""
SEED = os.environ.get("STREAMS_TEST_SEED", "")
TIMES = 6
LONGEST = 0.4
"""Seconds after which a Ctrl-C comes; a start takes about half of it."""


@pytest.mark.parametrize("program", [BLOCKING, AWAITING], ids=["blocking", "awaiting"])
def test_ctrl_c_at_any_instant_leaves_nothing_behind(program: str) -> None:
    chance = random.Random(SEED + program)
    delays = [chance.uniform(0, LONGEST) for _ in range(TIMES)]
    with tempfile.TemporaryDirectory(prefix="cc", dir="/tmp") as place, ThreadPoolExecutor(2) as pool:
        told = list(pool.map(lambda n: interrupted(program, Path(place, f"data{n}"), delays[n]), range(TIMES)))
        for delay, (code, err) in zip(delays, told, strict=True):
            noise = f"after {delay:.3f} s, code {code}: {err}"
            assert code in (0, 1, -signal.SIGINT, 130), noise
            assert "Traceback" not in err or err.rstrip().endswith("KeyboardInterrupt"), noise
            assert "never" not in err, noise
        expected = _build_of(find_server())
        for n in range(TIMES):
            folder = Path(place, f"data{n}")
            wait_until(lambda f=folder: not keeper.is_held(str(f / keeper.SERVER_LOCK)), seconds=30, what="its end")
            assert written_by(folder) in (None, expected)
        with Pipeline(f"embedded://{folder}") as pipeline:
            pipeline.publish("orders", 2, type="t")
            assert pipeline.status().stream("orders").stored in (1, 2)


def interrupted(program: str, folder: Path, delay: float) -> tuple[int, str]:
    """Run it, press Ctrl-C so long after it has begun; its exit code, and what it says."""
    environment = clean_environment() | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder.parent)}
    process = subprocess.Popen(
        [sys.executable, "-c", program, f"embedded://{folder}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(delay)  # The instant is what the test is about.
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    return process.returncode, err
