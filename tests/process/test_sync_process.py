"""The blocking form in whole programs: forks, interruptions, and how they end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.servers import BINARIES, Server, clean_environment, wait_until

ROOT = Path(__file__).parents[2]


def start(code: str, *arguments: str, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-W",
            "error",
            "-W",
            "ignore:This process:DeprecationWarning",
            "-c",
            code,
            *arguments,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment() | {"PYTHONPATH": str(ROOT), **options},
    )


def ended(
    process: subprocess.Popen[str], seconds: float = 30.0
) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


FORKING = """
import gc, multiprocessing, os, sys, threading
from streams.sync import Pipeline

def client(): return pipeline.portal.call(lambda p: p.broker.control.call("CLIENT", "ID"))

pipeline = Pipeline(sys.argv[1])
mine = client()
busy, receipts = threading.Event(), []
def work():
    while not done.is_set():
        receipts.append(pipeline.publish("orders", "parent", type="t"))
        busy.set()
done = threading.Event()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
busy.wait(10)
half_read = pipeline.portal.iterate(lambda p: p.dead_letters("orders", "g").iterate())

def child(n):
    assert client() != mine
    receipts = pipeline.publish_many("orders", (["child", n, m] for m in range(100)), type="t")
    assert len({r.entry_id for r in receipts}) == 100
    gc.collect()

pids = []
for n in range(3):
    pid = os.fork()
    if pid == 0:
        child(n)
        sys.exit(7)
    pids.append(pid)
statuses = [os.waitpid(pid, 0)[1] for pid in pids]
assert all(os.waitstatus_to_exitcode(status) == 7 for status in statuses), statuses
pool = multiprocessing.get_context("fork").Process(target=child, args=(3,))
pool.start(); pool.join(20)
assert pool.exitcode == 0
assert client() == mine  # Nothing that the children did has cost this process its connection.
busy.clear(); busy.wait(10)
done.set()
for thread in threads: thread.join(10)
ids = [r.event_id for r in receipts]
assert len(set(ids)) == len(ids)
stored = pipeline.status().stream("orders").stored
assert stored == 400 + len(receipts), (stored, len(receipts))
print("ok")
"""


def test_children_of_a_fork_have_connections_of_their_own(make_server):
    server = make_server(BINARIES[0], port=True)
    assert ended(start(FORKING, server.url)) == (0, "ok\n", "")


ENDING = """
import sys, threading
from streams.sync import Pipeline
pipeline = Pipeline(sys.argv[1])  # a global, never closed
pipeline.publish("orders", 1, type="t")
if sys.argv[2] == "stuck":
    async def hang(p):
        import asyncio
        started.set()
        await asyncio.sleep(1000)
    started = threading.Event()
    threading.Thread(target=pipeline.portal.call, args=(hang,), daemon=True).start()
    started.wait(10)
letters = pipeline.dead_letters("orders", "g").iterate()
if sys.argv[2] == "raises":
    raise SystemExit(3)
"""


def test_a_program_ends_by_itself_and_leaves_nothing():
    began = time.monotonic()
    assert ended(start(ENDING, "memory://", "plain")) == (0, "", "")
    assert time.monotonic() - began < 10


def test_a_program_ends_although_a_call_hangs(make_server):
    server = make_server(BINARIES[0])
    began = time.monotonic()
    assert ended(start(ENDING, server.url, "stuck"))[0] == 0
    assert time.monotonic() - began < 10
    assert ended(start(ENDING, server.url, "raises")) == (3, "", "")
    with server.client() as client:
        wait_until(lambda: len(client.client_list()) == 1, what="only this connection")


CALLING = """
import sys
from streams import Settings
from streams.sync import Pipeline
pipeline = Pipeline(sys.argv[1], settings=Settings(timeout=60.0))
pipeline.publish("orders", 1, type="t")
print("ready", flush=True)
sys.stdin.readline()
async def publish(p):
    print("calling", flush=True)
    await p.publish("orders", 2, type="t")
pipeline.portal.call(publish)
"""


def test_ctrl_c_ends_a_call(make_server):
    server: Server = make_server(BINARIES[0])
    process = subprocess.Popen(
        [sys.executable, "-c", CALLING, server.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment() | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout.readline() == "ready\n"
    server.signal(signal.SIGSTOP)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "calling\n"
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    code, _, err = ended(process)
    assert time.monotonic() - began < 5
    assert code == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt")
    server.signal(signal.SIGCONT)


STARTING = """
import sys
from streams.sync import Pipeline
pipeline = Pipeline(sys.argv[1])
print("calling", flush=True)
pipeline.publish("orders", 1, type="t")
"""


def test_ctrl_c_while_the_server_starts_says_no_more_than_that(tmp_path):
    slow = tmp_path / "slow-server"
    slow.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] || sleep 3\nexec {BINARIES[0]} "$@"\n'
    )
    slow.chmod(0o755)
    process = start(
        STARTING,
        f"embedded://{tmp_path / 'data'}",
        STREAMS_SERVER_BINARY=str(slow),
        TMPDIR="/tmp",
    )
    assert process.stdout.readline() == "calling\n"
    # From here on it calls, or is about to: at each moment it says the same.
    process.send_signal(signal.SIGINT)
    _, _, err = ended(process)
    assert err.count("Traceback") == err.count("KeyboardInterrupt") == 1, err
    assert "never" not in err


WORKING = """
from streams.sync import Pipeline
pipeline = Pipeline()

@pipeline.handler("orders", group="billing")
def charge(event):
    if event.data < 3:
        pipeline.publish("orders", event.data + 1, type="t")
    else:
        print("last", flush=True)

if __name__ == "__main__":
    pipeline.publish("orders", 1, type="t")
    pipeline.run()
"""


def test_a_worker_serves_a_blocking_pipeline(tmp_path):
    (tmp_path / "shop.py").write_text(WORKING)
    environment = clean_environment() | {
        "PYTHONPATH": str(ROOT),
        "STREAMS_URL": f"embedded://{tmp_path / 'data'}",
        "TMPDIR": "/tmp",
    }
    code = WORKING.replace("Pipeline()", "Pipeline.from_env()")
    (tmp_path / "shop.py").write_text(code)
    worker = subprocess.Popen(
        [sys.executable, "-m", "streams", "worker", "shop.py:pipeline"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    publish = "from shop import pipeline; pipeline.publish('orders', 1, type='t')"
    assert (
        ended(
            subprocess.Popen(
                [sys.executable, "-c", publish],
                env=environment,
                cwd=tmp_path,
                text=True,
            )
        )[0]
        == 0
    )
    assert worker.stdout.readline() == "last\n"
    worker.terminate()
    assert ended(worker)[0] == 0
