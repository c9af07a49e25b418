"""Worker processes that are killed, stopped and blocked at any moment."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streams.settings import Settings
from streams.sync import Pipeline as SyncPipeline
from tests.process.site import Site
from tests.process.site_fixtures import make_site as make_site
from tests.process.site_fixtures import one_server as one_server
from tests.process.site_fixtures import site as site
from tests.process.site_fixtures import sleeps
from tests.servers import clean_environment, wait_until

OK = {"do": "ok"}


def in_flight(site: Site, pid: int) -> set[str]:
    """Events whose handler started in that process and did not end there."""
    ended = {line["event"] for line in site.of("end", pid)}
    return {line["event"] for line in site.of("start", pid)} - ended


# Killed


def test_sigkill_of_one_of_two_workers_loses_nothing_and_burns_only_what_had_started(
    site: Site,
) -> None:
    victim, _ = site.worker(lease=0.6), site.worker(lease=0.6)
    events = site.publish(sleeps(60, 0.1))
    site.started(10, victim.pid)
    victim.kill()
    site.drained()
    site.balance(events)
    running = in_flight(site, victim.pid)
    assert running, "nothing ran when the worker was killed: the test shows nothing"
    touched = {line["event"] for line in site.of("start", victim.pid)}
    for event, attempts in site.attempts().items():
        if event in running:
            assert attempts == [1, 2], event
        elif event in touched:
            # Done there; its acknowledgement may or may not have left.
            assert attempts in ([1], [1, 2]), event
        else:
            assert attempts == [1], event


def test_sigkill_without_retries_runs_what_had_started_once_more_and_alone(
    site: Site,
) -> None:
    victim = site.worker(lease=0.5, max_retries=0, concurrency=4)
    events = site.publish(sleeps(14, 0.4))
    site.started(4, victim.pid)
    victim.kill()
    running = in_flight(site, victim.pid)
    other = site.worker(lease=0.5, max_retries=0, concurrency=4)
    site.drained()
    site.balance(events)
    assert site.dead() == {}
    assert running
    again = {event for event, attempts in site.attempts().items() if attempts == [1, 2]}
    assert again == running
    starts = [
        (line["at"], line["event"])
        for line in site.of("start", other.pid)
        if line["event"] in running
    ]
    ends = [
        (line["at"], line["event"])
        for line in site.of("end", other.pid)
        if line["event"] in running
    ]
    alone = [event for _, event in sorted(starts + ends)]
    assert alone[::2] == alone[1::2], "two ran beside each other"


def test_after_a_sigkill_the_others_run_as_wide_as_before(site: Site) -> None:
    """What an ordinary kill leaves behind is retried together, not one after the other, and soon."""
    lease = 1.5
    victim = site.worker(lease=lease, concurrency=50)
    held = site.publish(sleeps(40, 2.5))
    site.started(40, victim.pid)
    other = site.worker(lease=lease, concurrency=50)
    victim.kill()
    killed = time.monotonic()
    site.drained()
    took = time.monotonic() - killed
    site.balance(held)
    assert set(map(tuple, site.attempts().values())) == {(1, 2)}
    again = intervals(site, other.pid, attempt=2)
    assert len(again) == 40
    together = max(sum(start <= at < end for start, end in again) for at, _ in again)
    assert together >= 30
    # One lease, one sweep (a third of it), one look, one run, and slack; one by one it would be 100 s.
    assert took < lease * 4 / 3 + 0.5 + 2.5 + 20.0


def intervals(site: Site, pid: int, attempt: int) -> list[tuple[float, float]]:
    """When the attempts of this number ran in a process, in seconds, as they started; a killed one never ends."""
    ends = {line["event"]: line["at"] / 1e9 for line in site.of("end", pid)}
    starts = [line for line in site.of("start", pid) if line["attempt"] == attempt]
    return sorted(
        (line["at"] / 1e9, ends.get(line["event"], math.inf)) for line in starts
    )


# Stopped and continued


def test_a_zombie_changes_nothing(site: Site) -> None:
    """SIGSTOP beyond the lease; while another worker runs the entries again, the zombie writes its own outcomes."""
    zombie = site.worker(lease=0.6, concurrency=8, delay=0.02)
    retried, snoozed, handled = site.publish(
        [
            {"do": "sleep-fail", "s": 0.8, "times": 2},
            {"do": "sleep-snooze", "s": 0.8, "times": 2, "once": True},
            {"do": "sleep", "s": 0.8, "times": 2},
        ]
    )
    (buried,) = site.publish([{"do": "sleep-fail", "s": 0.5}], meta='{"max_retries":0}')
    (rejected,) = site.publish(
        [{"do": "sleep-fail", "s": 0.8}], meta='{"max_retries":1}'
    )
    site.started(5, zombie.pid)
    zombie.signal(signal.SIGSTOP)
    other = site.worker(lease=0.6, concurrency=8, delay=0.02)
    # `buried` has no retry left and runs once more, alone; the others run again elsewhere.
    site.started(4, other.pid)
    zombie.signal(signal.SIGCONT)
    site.drained()
    events = [retried, snoozed, handled, buried, rejected]
    site.balance(events)
    assert site.attempts()[retried] == [1, 2, 3]
    assert site.attempts()[snoozed] == [1, 2]
    assert site.attempts()[handled] == [1, 2]
    assert site.attempts()[rejected] == [1, 2]
    dead = site.dead()
    assert {
        event: (d["reason"], d["failures"], d["stalls"]) for event, d in dead.items()
    } == {
        buried: ("retries-used-up", 1, 1),
        rejected: ("retries-used-up", 1, 1),
    }
    assert (zombie.stop(), other.stop()) == (0, 0)
    assert site.stats(zombie)["lost"] >= 4
    assert (
        site.stats(zombie)["retried"]
        == site.stats(zombie)["dead"]
        == site.stats(zombie)["snoozed"]
        == 0
    )
    assert site.stats(other)["stalled"] + site.stats(zombie)["stalled"] == 5


def test_whatever_a_handler_raises_is_a_failure_and_the_worker_lives_on(
    site: Site,
) -> None:
    kinds = ("error", "exit", "interrupt", "generator-exit", "cancelled", "group")
    worker = site.worker()
    orders = [{"do": kind, "times": 2} for kind in kinds]
    events = site.publish(orders) + site.publish(orders, kind="plain")
    hopeless = site.publish([{"do": kind} for kind in kinds], meta='{"max_retries":1}')
    after = site.publish([OK])
    site.drained()
    site.balance(events + hopeless + after)
    attempts = site.attempts()
    assert all(attempts[event] == [1, 2, 3] for event in events), attempts
    assert all(attempts[event] == [1, 2] for event in hopeless), attempts
    dead = site.dead()
    assert set(dead) == set(hopeless)
    for event, kind in zip(hopeless, kinds, strict=True):
        letter = dead[event]
        assert (letter["reason"], letter["failures"], letter["stalls"]) == (
            "retries-used-up",
            2,
            0,
        ), kind
        assert [error["attempt"] for error in letter["errors"]] == [1, 2]
    assert worker.process.poll() is None
    assert worker.stop() == 0
    stats = site.stats(worker)
    assert (stats["retried"], stats["dead"], stats["lost"]) == (
        2 * len(events) + len(hopeless),
        len(hopeless),
        0,
    )


def test_handlers_longer_than_the_lease_run_once(site: Site) -> None:
    """In the event loop, in a thread, and blocking the event loop for three leases: the lease holds."""
    workers = [site.worker(lease=1.2, concurrency=6) for _ in range(2)]
    events = site.publish(sleeps(2, 3.8))
    events += site.publish([{"do": "block", "s": 3.8}], kind="plain")
    site.started(3)
    events += site.publish([{"do": "block", "s": 3.8}])
    site.started(4)
    site.drained()
    site.balance(events)
    assert set(map(tuple, site.attempts().values())) == {(1,)}
    assert [worker.stop() for worker in workers] == [0, 0]
    for worker in workers:
        assert site.stats(worker)["lost"] == site.stats(worker)["stalled"] == 0
    assert any(
        worker.lines(
            "the event loop was blocked: a handler computes or waits without awaiting"
        )
        for worker in workers
    )


def test_a_timeout_is_a_failure_even_for_a_handler_that_ignores_it(site: Site) -> None:
    """One slot only: an abandoned handler must not keep it."""
    worker = site.worker(
        timeout=0.3, cancel_grace=0.3, concurrency=1, lease=1.0, max_retries=1
    )
    events = site.publish(
        [
            {"do": "never"},
            {"do": "deaf"},
            {"do": "never", "times": 1},
            {"do": "deaf", "s": 0.4},
        ]
    )
    events += site.publish([{"do": "never"}], kind="plain")
    events += site.publish([OK])
    site.drained()
    never, deaf, second_try, _, stuck, _ = events
    with site.client() as client:
        assert client.xlen(site.keys.dead("work")) == 3
    dead = site.dead()
    assert set(dead) == {never, deaf, stuck}
    for letter in dead.values():
        assert (letter["reason"], letter["failures"]) == ("retries-used-up", 2)
        assert {error["type"] for error in letter["errors"]} == {"TimeoutError"}
    assert site.attempts()[second_try] == [1, 2]
    site.balance(events)
    assert worker.stop() == 0
    assert site.stats(worker)["abandoned"] == 2


def test_two_workers_without_faults_run_everything_once(site: Site) -> None:
    """The quiet run: with a short lease and more work than slots, no lease is lost and nothing is reclaimed."""
    workers = [site.worker(lease=1.2, concurrency=8) for _ in range(2)]
    events = site.publish([{"do": "sleep", "s": 0.03 * (n % 7)} for n in range(600)])
    site.drained()
    site.balance(events)
    assert set(site.done().values()) == {1}
    assert [worker.stop() for worker in workers] == [0, 0]
    total = {
        name: sum(site.stats(worker)[name] for worker in workers)
        for name in ("fetched", "done", "lost", "stalled")
    }
    assert total == {"fetched": 600, "done": 600, "lost": 0, "stalled": 0}


def test_a_blocked_loop_does_not_burn_its_neighbours(site: Site) -> None:
    """What was fetched beside a handler that blocks the loop has not started, so it dies with nobody."""
    blocked, *_ = site.publish([{"do": "block", "s": 60, "once": True}] + [OK] * 3)
    victim = site.worker(lease=3.0, max_retries=0, concurrency=4)
    site.started(1)
    wait_until(
        lambda: site.unfinished().get("retry") == 3,
        what="the neighbours to be given back",
    )
    victim.kill()
    site.worker(lease=0.5, max_retries=0, concurrency=4)
    site.drained()
    assert [
        event for event, attempts in site.attempts().items() if attempts != [1]
    ] == [blocked]


@pytest.mark.parametrize(
    "configured",
    [
        "logging.config.dictConfig({'version': 1})",
        "logging.config.dictConfig({'version': 1, 'root': {'level': 'INFO', 'handlers': ['h']},"
        " 'handlers': {'h': {'class': 'logging.StreamHandler'}}})",
        "logging.basicConfig(level='DEBUG', format='%(message)s')",
        "logging.basicConfig(force=True)",
    ],
)
def test_a_worker_is_heard_whatever_its_module_does_to_logging(tmp_path, configured):
    (tmp_path / "shop.py").write_text(
        f"import logging.config\nfrom streams import Pipeline\npipeline = Pipeline('redis://127.0.0.1:1')\n"
        f"pipeline.handler('orders', group='g')(print)\n{configured}\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "streams", "worker", "shop:pipeline", "--wait", "never"],
        cwd=tmp_path,
        env=clean_environment() | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 4
    assert "the worker ends" in ended.stderr.splitlines()[-1]
    assert ("disable_existing_loggers" in ended.stderr) == ("dictConfig" in configured)


_BASIC = """
import logging
from streams import Pipeline, Retry

pipeline = Pipeline.from_env()

@pipeline.handler("orders", group="g", retry=Retry(max_retries=1, delay=0.0))
def charge(event):
    raise LookupError(f"{event.data['sku']} of +55 (11) 99999-9999 is not there")
"""

_MANAGE = """
import os, sys
from django.core.management import execute_from_command_line

sys.path.insert(0, os.getcwd())
os.environ["DJANGO_SETTINGS_MODULE"] = "own_settings"
execute_from_command_line(["manage.py", "work"])
"""

_SETTINGS = """
INSTALLED_APPS = ["sold"]
SECRET_KEY = "of a test"
LOGGING = {
    "version": 1,
    "formatters": {"plain": {"format": "%(levelname)s|%(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"level": "INFO", "handlers": ["console"]},
}
"""

_COMMAND = """
from django.core.management.base import BaseCommand

class Command(BaseCommand):
    def handle(self, *args, **options):
        import asyncio
        import shop
        asyncio.run(shop.pipeline.run())
"""


@pytest.mark.parametrize("way", ["basicConfig", "manage.py"])
def test_a_format_of_somebodys_own_says_why_an_attempt_failed(
    site: Site, tmp_path: Path, way: str
) -> None:
    commands = tmp_path / "sold" / "management" / "commands"
    commands.mkdir(parents=True)
    for folder in (commands, commands.parent, commands.parent.parent):
        (folder / "__init__.py").touch()
    (commands / "work.py").write_text(_COMMAND)
    (tmp_path / "manage.py").write_text(_MANAGE)
    (tmp_path / "own_settings.py").write_text(_SETTINGS)
    own = "logging.basicConfig(force=True, level='INFO', format='%(levelname)s|%(message)s')"
    (tmp_path / "shop.py").write_text(
        f"{_BASIC}{own if way == 'basicConfig' else ''}\n"
    )
    command = (
        ["-m", "streams", "worker", "shop:pipeline"]
        if way == "basicConfig"
        else ["manage.py"]
    )
    environment = clean_environment() | {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "STREAMS_URL": site.server.url, "STREAMS_NAMESPACE": site.namespace,
    }  # fmt: skip
    with SyncPipeline(
        settings=Settings(url=site.server.url, namespace=site.namespace)
    ) as pipeline:
        pipeline.publish(
            "orders", {"sku": "no such sku", "text": "canary"}, type="order.created"
        )
    worker = subprocess.Popen(
        [sys.executable, *command],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert worker.stderr is not None
    said: list[str] = []
    try:
        for line in worker.stderr:
            said.append(line)
            if "dead letter" in line:
                break
    finally:
        worker.terminate()
        rest = worker.communicate(timeout=60)[1]
    retry = next(
        (line for line in said if line.startswith("WARNING|retry ")), "".join(said)
    )
    assert "where=orders/g " in retry
    assert "attempt=1 " in retry
    assert (
        "error=LookupError error_message='no such sku of +******99 is not there'"
        in retry
    )
    assert said[-1].startswith("ERROR|dead letter where=orders/g ")
    assert "reason=retries-used-up" in said[-1]
    assert "INFO|stopped done=0 retried=1 dead=1 released=0" in rest
    assert "9999" not in "".join(said) + rest
