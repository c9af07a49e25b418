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

from streams.broker.server import keeper
from streams.broker.server.binaries import _build_of, find_server, written_by
from streams.sync import Pipeline
from tests.servers import BINARIES, clean_environment, wait_until

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
    with (
        tempfile.TemporaryDirectory(prefix="cc", dir="/tmp") as place,
        ThreadPoolExecutor(2) as pool,
    ):
        told = list(
            pool.map(
                lambda n: interrupted(program, Path(place, f"data{n}"), delays[n]),
                range(TIMES),
            )
        )
        for delay, (code, err) in zip(delays, told, strict=True):
            noise = f"after {delay:.3f} s, code {code}: {err}"
            assert code in (0, 1, -signal.SIGINT, 130), noise
            assert "Traceback" not in err or err.rstrip().endswith(
                "KeyboardInterrupt"
            ), noise
            assert "never" not in err, noise
        expected = _build_of(find_server())
        for n in range(TIMES):
            folder = Path(place, f"data{n}")
            wait_until(
                lambda f=folder: not keeper.is_held(str(f / keeper.SERVER_LOCK)),
                seconds=30,
                what="its end",
            )
            assert written_by(folder) in (None, expected)
        with Pipeline(f"embedded://{folder}") as pipeline:
            pipeline.publish("orders", 2, type="t")
            assert pipeline.status().stream("orders").stored in (1, 2)


WORKER = """
from streams.sync import Pipeline
pipeline = Pipeline.from_env()

@pipeline.handler("orders", group="billing")
def charge(event):
    print("charged", event.data, flush=True)

if __name__ == "__main__":
    pipeline.run()
"""


@pytest.mark.parametrize("words", ["-m shop", "-m streams worker shop:pipeline"])
def test_a_worker_in_the_background_of_a_script_ignores_ctrl_c_and_ends_by_sigterm(
    make_server, tmp_path, words
) -> None:
    """A shell without job control starts it with SIGINT ignored, for Ctrl-C is for what runs in the foreground."""
    server = make_server(BINARIES[0])
    (tmp_path / "shop.py").write_text(WORKER)
    (tmp_path / "log").touch()
    environment = clean_environment() | {
        "PYTHONPATH": str(ROOT),
        "STREAMS_URL": server.url,
    }
    script = f"{sys.executable} {words} > log 2>&1 & echo $!; wait $!; echo $?"
    shell = subprocess.Popen(
        ["/bin/sh", "-c", script], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert shell.stdout is not None
    worker = int(shell.stdout.readline())
    try:
        wait_until(
            lambda: "started" in (tmp_path / "log").read_text(),
            what="the worker to start",
        )
        os.kill(worker, signal.SIGINT)
        with Pipeline(server.url) as pipeline:
            pipeline.publish("orders", 1, type="t")
            wait_until(
                lambda: "charged 1" in (tmp_path / "log").read_text(),
                what="an event to be handled after Ctrl-C",
            )
        assert "stopping" not in (tmp_path / "log").read_text()
        os.kill(worker, signal.SIGTERM)
        assert shell.stdout.readline() == "0\n"
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait(10)
        shell.stdout.close()


def interrupted(program: str, folder: Path, delay: float) -> tuple[int, str]:
    """Run it, press Ctrl-C so long after it has begun; its exit code, and what it says."""
    environment = clean_environment() | {
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(folder.parent),
    }
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
