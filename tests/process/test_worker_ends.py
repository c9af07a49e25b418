"""How a worker process ends: by a signal, under load, with handlers that do not, and with which exit code."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from streams.worker.service import EXIT_FORCED
from tests import terminal
from tests.process.site import Site
from tests.process.site_fixtures import make_site as make_site
from tests.process.site_fixtures import one_server as one_server
from tests.process.site_fixtures import site as site
from tests.process.site_fixtures import sleeps
from tests.servers import Server, clean_environment, wait_until, whole_lines

# Asked to stop


def test_sigterm_lets_running_handlers_finish_and_starts_nothing_more(
    site: Site,
) -> None:
    """It ends when they have ended, and does not wait for the rest of its grace period."""
    worker = site.worker(concurrency=4, grace=300.0)
    events = site.publish(sleeps(12, 0.8))
    site.started(4)
    assert worker.stop(30.0) == 0
    assert len(site.of("start", worker.pid)) == 4
    assert len(site.done()) == 4
    assert worker.lines("stopped")
    site.worker(concurrency=8)
    site.drained()
    site.balance(events)
    assert set(map(tuple, site.attempts().values())) == {(1,)}


def test_replacing_workers_under_load_runs_everything_once(site: Site) -> None:
    events = site.publish(sleeps(3000, 0.002))
    worker = site.worker(concurrency=16)
    for round_number in range(1, 4):
        site.started(400 * round_number)
        following = site.worker(concurrency=16)
        asked = time.monotonic_ns()
        assert worker.stop(4.0) == 0
        late = [
            line for line in site.of("start", worker.pid) if line["at"] - asked > 300e6
        ]
        assert not late, "handlers were started after SIGTERM"
        assert site.stats(worker)["lost"] == 0
        worker = following
    site.drained()
    site.balance(events)
    assert set(map(tuple, site.attempts().values())) == {(1,)}


def test_sigterm_gives_back_what_outlasts_the_grace_period(site: Site) -> None:
    worker = site.worker(grace=0.4, lease=20.0)
    events = site.publish(sleeps(4, 60.0, once=True))
    site.started(4, worker.pid)
    other = site.worker(lease=20.0)
    assert worker.stop(3.0) == 0
    ended = time.monotonic()
    site.drained(2.0)
    assert time.monotonic() - ended < 1.0, "given back, but not due at once"
    site.balance(events)
    assert set(map(tuple, site.attempts().values())) == {(1, 1)}
    assert [line["how"] for line in site.of("end", worker.pid)] == ["cancelled"] * 4
    assert site.stats(worker)["released"] == 4
    assert site.dead() == {}
    assert other.stop() == 0


def test_a_second_sigterm_means_now(site: Site) -> None:
    worker = site.worker(grace=60.0, lease=20.0)
    events = site.publish(sleeps(3, 60.0, once=True))
    site.started(3, worker.pid)
    worker.signal(signal.SIGTERM)
    wait_until(lambda: worker.lines("stopping"), what="the first signal to be noticed")
    time.sleep(0.5)
    assert worker.process.poll() is None, "the first signal must wait for the handlers"
    assert worker.stop(2.5) == 0
    site.worker(lease=20.0)
    site.drained()
    site.balance(events)
    assert set(map(tuple, site.attempts().values())) == {(1, 1)}


def test_no_handler_can_hang_the_stop(make_site: Callable[[], Site]) -> None:
    """Deaf to cancellation, never returning, stuck in a thread, blocking the event loop: side by side, to save time."""
    cases = {
        "deaf": ({"do": "deaf", "once": True}, "job", 0, 1),
        "never": ({"do": "never", "once": True}, "job", 0, 1),
        "thread": ({"do": "never", "once": True}, "plain", 0, 1),
        # Nothing in the process can give this one back: its lease passes, which counts as a stall.
        "block": ({"do": "block", "s": 60.0, "once": True}, "job", EXIT_FORCED, 2),
    }
    running = {}
    for name, (order, kind, _, _) in cases.items():
        site = make_site()
        worker = site.worker(grace=0.4, cancel_grace=0.4, last_resort=1.0, lease=3.0)
        running[name] = (site, worker, site.publish([order], kind=kind))
    for site, worker, _ in running.values():
        site.started(1)
        worker.signal(signal.SIGTERM)
    asked = time.monotonic()
    assert {name: worker.wait(20.0) for name, (_, worker, _) in running.items()} == {
        n: c[2] for n, c in cases.items()
    }
    assert time.monotonic() - asked < 10.0
    for name, (site, _, events) in running.items():
        site.worker(lease=3.0)
        site.drained()
        site.balance(events)
        assert site.attempts()[events[0]] == [1, cases[name][3]], name


# Handlers that start processes, raise, block, take long


def test_a_child_that_a_handler_forks_ends_when_it_is_told_to(site: Site) -> None:
    """By the default of the signal, which is no business of the worker's: from the event loop and from a thread.

    Many times, for a signal that comes before the child has the defaults was lost now and then.
    """
    worker = site.worker()
    order = {"do": "fork", "times": 150}
    events = site.publish([order]) + site.publish([order], kind="plain")
    site.drained(90)
    site.balance(events)
    assert [end["codes"] for end in site.of("forked")] == [[[-signal.SIGTERM, 150]]] * 2
    assert worker.stop() == 0


STUCK = """
import asyncio, contextlib, time
from streams import Pipeline
pipeline = Pipeline.from_env()

def started():
    with open("started", "a") as file:
        file.write("one\\n")

@pipeline.handler("orders", group="plain")
def plain(event):
    started()
    time.sleep(60)
"""

DEAF = """
@pipeline.handler("mails", group="deaf")
async def deaf(event):
    started()
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
"""


@pytest.mark.parametrize(
    ("module", "count", "processes"),
    [(STUCK + DEAF, 2, ()), (STUCK, 1, ("--processes", "1"))],
)
def test_the_exit_code_tells_of_handlers_that_did_not_end(
    one_server: Server, namespace: str, tmp_path: Path, module, count: int, processes
) -> None:
    (tmp_path / "shop.py").write_text(module)
    own = {
        "STREAMS_URL": one_server.url,
        "STREAMS_NAMESPACE": namespace,
        "STREAMS_LOG": "json",
    }
    how = {"env": clean_environment() | own, "cwd": tmp_path}
    command = ("worker", "shop:pipeline", "--grace-period", "0.2", *processes)
    with (tmp_path / "log").open("w") as log:
        worker = terminal.streams(*command, stderr=log, **how)
    try:
        for stream in ("orders", "mails")[:count]:
            assert (
                terminal.run(
                    "publish", stream, "--type", "t", "--data", "1", env=how["env"]
                ).code
                == 0
            )
        wait_until(
            lambda: len(whole_lines(tmp_path / "started")) == count,
            what="handlers that are stuck",
        )
        worker.terminate()
        assert worker.wait(30) == EXIT_FORCED
    finally:
        worker.kill()
    lines = map(json.loads, whole_lines(tmp_path / "log"))
    assert [
        line["handlers"] for line in lines if "does not let go" in line["message"]
    ] == [count]
