"""Workers of the version before and of this one, side by side on one server, as in every deployment."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.process.worker_app import ROOT, Site, Worker
from tests.servers import Server, wait_until

FIRST = "411a44c4208d4aea1240924d7430363af6000185"
"""Stands for the version before, for as long as there is no tag."""
ORDERS = [
    *({"do": "ok"},) * 20,
    *({"do": "sleep", "s": 0.1},) * 8,
    *({"do": "error", "times": 2},) * 8,
    *({"do": "sleep-snooze", "s": 0.05, "once": True},) * 4,
    *({"do": "error"},) * 4,
]


def _git(*words: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the version before."""
    try:
        tags = _git("tag", "--sort=-v:refname", "--no-contains", "HEAD").decode().split()
        archive = _git("archive", tags[0] if tags else FIRST)
    except (subprocess.CalledProcessError, OSError) as error:
        pytest.skip(f"the version before cannot be had from here: no git, or a clone without history ({error})")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tree:
        tree.extractall(folder, filter="data")
    return folder


@pytest.fixture
def site(make_server: Callable[..., Server], binary: str, tmp_path: Path, namespace: str):
    made = Site(make_server(binary), namespace, tmp_path)
    yield made
    made.close()


def finished(site: Site, count: int) -> Callable[[], bool]:
    return lambda: len(site.done()) + len(site.dead()) >= count


def test_old_and_new_workers_share_the_work(site: Site, before: Path) -> None:
    workers = [site.worker(root=root) for root in (before, ROOT, before, ROOT)]
    published = [*site.publish(ORDERS * 3), *site.publish(ORDERS, level=10), *site.publish(ORDERS, level=1)]
    site.drained(30)
    site.balance(published)
    assert max(site.done().values()) == 1
    assert {line["pid"] for line in site.of("start")} == {worker.pid for worker in workers}
    attempts = site.attempts()
    assert max(len(seen) for seen in attempts.values()) == 4, "old and new count attempts alike"


@pytest.mark.parametrize("forward", [True, False], ids=["upgrade", "way back"])
def test_a_rolling_change_of_version_loses_and_doubles_nothing(site: Site, before: Path, forward: bool) -> None:
    old, new = (before, ROOT) if forward else (ROOT, before)
    workers: list[Worker] = [site.worker(root=old) for _ in range(3)]
    published: list[str] = []
    for number in range(3):
        published += site.publish(ORDERS)
        begun = len(published) - len(ORDERS) // 2
        wait_until(lambda n=begun: len(site.attempts()) > n, what="half of it to be begun")
        workers[number].stop()
        workers[number] = site.worker(root=new)
        published += site.publish(ORDERS, level=5)
    site.drained(30)
    site.balance(published)
    assert max(site.done().values()) == 1


def test_a_killed_old_worker_is_replaced_by_a_new_one_with_all_that_it_held(site: Site, before: Path) -> None:
    old = site.worker(root=before, concurrency=8)
    published = site.publish([{"do": "never", "once": True}] * 4 + [{"do": "error", "times": 1}] * 10)
    site.started(14)
    old.kill()
    site.worker(root=ROOT)
    site.drained(30)
    site.balance(published)
