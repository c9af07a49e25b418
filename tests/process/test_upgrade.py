"""Workers of the version before and of this one, side by side on one server, as in every deployment."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tarfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streams import Broker, Event, Levels, Pauses, Producer, ProducerOptions
from tests.conftest import eventually
from tests.process.site import Site, Worker
from tests.process.worker_app import ROOT
from tests.servers import Server, wait_until, whole_lines

FIRST = "411a44c4208d4aea1240924d7430363af6000185"
"""Stands for the version before, for as long as there is no tag."""
IN_RECORDS = "0f8cc014f24fa839b5c2788a69d689a355946d68"
"""A version that wrote into attempt records what an entry waits for, and gave back slots ahead of outcomes."""
ORDERS = [
    *({"do": "ok"},) * 20,
    *({"do": "sleep", "s": 0.1},) * 8,
    *({"do": "error", "times": 2},) * 8,
    *({"do": "sleep-snooze", "s": 0.05, "once": True},) * 4,
    *({"do": "error"},) * 4,
]


def _git(*words: str) -> bytes:
    return subprocess.run(
        ["git", "-C", str(ROOT), *words], capture_output=True, check=True
    ).stdout


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the version before."""
    return _tree(tmp_path_factory.mktemp("before"), FIRST)


@pytest.fixture(scope="module")
def in_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the last version that wrote into attempt records what an entry waits for."""
    return _tree(tmp_path_factory.mktemp("in-records"), IN_RECORDS)


def _tree(folder: Path, commit: str) -> Path:
    try:
        tags = (
            _git("tag", "--sort=-v:refname", "--no-contains", "HEAD").decode().split()
        )
        archive = _git("archive", tags[0] if tags else commit)
    except (subprocess.CalledProcessError, OSError) as error:
        pytest.skip(
            f"the version before cannot be had from here: no git, or a clone without history ({error})"
        )
    with tarfile.open(fileobj=io.BytesIO(archive)) as tree:
        tree.extractall(folder, filter="data")
    return folder


@pytest.fixture
def site(
    make_server: Callable[..., Server], binary: str, tmp_path: Path, namespace: str
):
    made = Site(make_server(binary), namespace, tmp_path)
    yield made
    made.close()


def finished(site: Site, count: int) -> Callable[[], bool]:
    return lambda: len(site.done()) + len(site.dead()) >= count


def test_old_and_new_workers_share_the_work(site: Site, before: Path) -> None:
    workers = [site.worker(root=root) for root in (before, ROOT, before, ROOT)]
    published = [
        *site.publish(ORDERS * 3),
        *site.publish(ORDERS, level=10),
        *site.publish(ORDERS, level=1),
    ]
    site.drained(30)
    site.balance(published)
    assert max(site.done().values()) == 1
    assert {line["pid"] for line in site.of("start")} == {
        worker.pid for worker in workers
    }
    attempts = site.attempts()
    assert max(len(seen) for seen in attempts.values()) == 4, (
        "old and new count attempts alike"
    )


@pytest.mark.parametrize("forward", [True, False], ids=["upgrade", "way back"])
def test_a_rolling_change_of_version_loses_and_doubles_nothing(
    site: Site, before: Path, forward: bool
) -> None:
    old, new = (before, ROOT) if forward else (ROOT, before)
    workers: list[Worker] = [site.worker(root=old) for _ in range(3)]
    published: list[str] = []
    for number in range(3):
        published += site.publish(ORDERS)
        begun = len(published) - len(ORDERS) // 2
        wait_until(
            lambda n=begun: len(site.attempts()) > n, what="half of it to be begun"
        )
        workers[number].stop()
        workers[number] = site.worker(root=new)
        published += site.publish(ORDERS, level=5)
    site.drained(30)
    site.balance(published)
    assert max(site.done().values()) == 1


def test_a_killed_old_worker_is_replaced_by_a_new_one_with_all_that_it_held(
    site: Site, before: Path
) -> None:
    old = site.worker(root=before, concurrency=8)
    published = site.publish(
        [{"do": "never", "once": True}] * 4 + [{"do": "error", "times": 1}] * 10
    )
    site.started(14)
    old.kill()
    # The version before does not say how long its leases are: they count as long.
    site.pass_time(60.0)
    site.worker(root=ROOT)
    site.drained(30)
    site.balance(published)


# --- what is lined up by key

ORDERED = """
import asyncio, os
from streams import Event, Pipeline, Retry

pipeline = Pipeline.from_env()
log = os.open(os.environ["TEST_LOG"], os.O_WRONLY | os.O_APPEND)

@pipeline.handler("s", group="g", lease=3.0, concurrency=5, retry=Retry(max_retries=30, delay=0.02, jitter=0.0),
                  order_by="subject", fair_by="tenant")
async def handle(event: Event) -> None:
    await asyncio.sleep(0.004)
    if event.attempt == 1 and event.data % 7 == 0:
        raise RuntimeError("one in seven")
    os.write(log, f"{os.getpid()} {event.priority} {event.subject} {event.data}\\n".encode())
"""


class Crew:
    """Workers of either version with ordered keys, and what they wrote down."""

    def __init__(self, url: str, folder: Path, app: str) -> None:
        self.log, self._app, self._said = (
            folder / "log",
            folder / "app.py",
            folder / "said",
        )
        self.log.touch()
        self._app.write_text(app)
        self._environment = os.environ | {
            "STREAMS_URL": url,
            "TEST_LOG": str(self.log),
            "STREAMS_LOG_LEVEL": "error",
        }
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, root: Path, levels: str = "0,1") -> subprocess.Popen[bytes]:
        environment = self._environment | {
            "PYTHONPATH": str(root),
            "STREAMS_LEVELS": levels,
        }
        command = [sys.executable, "-m", "streams", "worker", f"{self._app}:pipeline"]
        with self._said.open("ab") as out:
            self.running.append(
                subprocess.Popen(
                    command, env=environment, cwd=root, stdout=out, stderr=out
                )
            )
        return self.running[-1]

    def rows(self) -> list[tuple[str, str, str, int]]:
        lines = (line.split() for line in whole_lines(self.log))
        return [(pid, level, key, int(data)) for pid, level, key, data in lines]

    def said(self) -> str:
        return self._said.read_text("utf-8")


@contextlib.contextmanager
def crew_on(server: Server, folder: Path, app: str = ORDERED) -> Iterator[Crew]:
    crew = Crew(server.url, folder, app)
    try:
        yield crew
    finally:
        for worker in crew.running:
            worker.terminate()
        for worker in crew.running:
            worker.wait(30)


def in_order(rows: list[tuple[str, str, str, int]]) -> bool:
    """Of each key and level, in the order of publishing."""
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for _, level, key, data in rows:
        found[level, key].append(data)
    return all(numbers == sorted(numbers) for numbers in found.values())


class Feed:
    """Events of eight keys on some levels, as many as it takes."""

    def __init__(self, broker: Broker, crew: Crew) -> None:
        self._broker, self._crew = broker, crew
        self.count = 0

    async def publish(self, levels: tuple[int, ...], count: int) -> None:
        producer = Producer(self._broker, "s", ProducerOptions(levels=Levels(levels)))
        numbers = range(self.count, self.count + count)
        self.count += count
        await producer.publish_many(
            Event(
                "t",
                n,
                subject=f"k{n % 8}",
                tenant=f"t{n % 3}",
                priority=levels[n % len(levels)],
            )
            for n in numbers
        )

    async def until(
        self, condition: Callable[[], bool], levels: tuple[int, ...], what: str
    ) -> None:
        """Keep a backlog until the condition holds."""

        async def holds() -> bool:
            if self.count - len(self._crew.rows()) < 50:
                await self.publish(levels, 100)
            return condition()

        await eventually(holds, seconds=40, what=what)


@pytest.mark.one_server
async def test_old_and_new_workers_share_what_is_lined_up(
    make_server: Callable[..., Server], binary: str, tmp_path: Path, before: Path
) -> None:
    """Rows of either are rows of both: no worker refuses any, and none waits for a sweep."""
    server, levels = make_server(binary), (0, 1)
    with crew_on(server, tmp_path) as crew:
        async with Broker(server.url) as broker:
            feed = Feed(broker, crew)
            crew.start(before)
            await feed.until(
                lambda: len(crew.rows()) > 20,
                levels,
                "the old one to have lined some up",
            )
            for root in (ROOT, before, ROOT):
                crew.start(root)
            await feed.until(
                lambda: len({pid for pid, *_ in crew.rows()}) == 4,
                levels,
                "each to have done some",
            )
            await feed.publish(levels, 100)
            await eventually(
                lambda: len(crew.rows()) == feed.count, seconds=40, what="all of it"
            )
    rows = crew.rows()
    assert in_order(rows)
    assert (
        max(Counter((level, key, data) for _, level, key, data in rows).values()) == 1
    )
    assert not crew.said(), "none complained"


@pytest.mark.one_server
async def test_a_new_version_with_another_level_loses_and_doubles_nothing(
    make_server: Callable[..., Server], binary: str, tmp_path: Path, before: Path
) -> None:
    """Version and levels in one deployment. The old one can not read rows of a level that is new, and changes none."""
    server, narrow, wide = make_server(binary), (0, 1), (0, 1, 5)
    with crew_on(server, tmp_path) as crew:
        async with Broker(server.url) as broker:
            feed = Feed(broker, crew)
            old = crew.start(before)
            await feed.until(
                lambda: len(crew.rows()) > 20,
                narrow,
                "the old one to have lined some up",
            )
            crew.start(ROOT, "0,1,5")
            await feed.until(
                lambda: len({pid for pid, *_ in crew.rows()}) == 2,
                narrow,
                "both to have done some",
            )
            await feed.publish(wide, 100)
            await eventually(
                lambda: any(level == "5" for _, level, *_ in crew.rows()),
                what="the new level to begin",
            )
            old.terminate()
            await eventually(
                lambda: len(crew.rows()) == feed.count, seconds=40, what="all of it"
            )
    rows = crew.rows()
    assert in_order(rows)
    assert (
        max(Counter((level, key, data) for _, level, key, data in rows).values()) == 1
    )


# --- what waits for limits and pauses

LIMITED = """
import asyncio, os
from streams import Event, Limit, Pipeline, Retry

pipeline = Pipeline.from_env()
log = os.open(os.environ["TEST_LOG"], os.O_WRONLY | os.O_APPEND)
LIMITS = [Limit("tenant", concurrency=2), Limit("instance", rate="80/s", burst=2)]

@pipeline.handler("s", group="g", lease=3.0, concurrency=5, retry=Retry(max_retries=30, delay=0.02, jitter=0.0),
                  limits=LIMITS)
async def handle(event: Event) -> None:
    os.write(log, f"{os.getpid()} begins {event.tenant} {event.data}\\n".encode())
    await asyncio.sleep(0.01)
    fails = event.attempt == 1 and event.data % 7 == 0
    os.write(log, f"{os.getpid()} {'fails' if fails else 'ends'} {event.tenant} {event.data}\\n".encode())
    if fails:
        raise RuntimeError("one in seven")
"""


@pytest.mark.one_server
@pytest.mark.parametrize("forward", [True, False], ids=["upgrade", "way back"])
async def test_what_waits_for_limits_and_pauses_is_lost_and_doubled_by_no_change_of_version(
    make_server: Callable[..., Server],
    binary: str,
    tmp_path: Path,
    in_records: Path,
    forward: bool,
) -> None:
    """Either version finds what the other put aside; slots are counted by both, and nobody's in the end."""
    server, (old, new) = (
        make_server(binary),
        (in_records, ROOT) if forward else (ROOT, in_records),
    )
    with crew_on(server, tmp_path, LIMITED) as crew:
        async with Broker(server.url) as broker:
            producer, pauses = Producer(broker, "s"), Pauses(broker, "s")

            count = 0

            def ended() -> list[tuple[str, int]]:
                lines = (line.split() for line in whole_lines(crew.log))
                return [
                    (pid, int(data)) for pid, word, _, data in lines if word == "ends"
                ]

            async def feed(until: Callable[[], bool], what: str) -> None:
                """Keep a backlog of what is not paused until something holds."""

                async def holds() -> bool:
                    nonlocal count
                    if count * 2 // 3 - sum(data % 3 > 0 for _, data in ended()) < 20:
                        numbers = range(count, count + 30)
                        events = [
                            Event("t", n, tenant=f"t{n % 3}", instance=f"i{n % 2}")
                            for n in numbers
                        ]
                        await producer.publish_many(events)
                        count += 30
                    return until()

                await eventually(holds, seconds=40, what=what)

            def workers(number: int) -> Callable[[], bool]:
                return lambda: len({pid for pid, _ in ended()}) == number

            crew.start(old, "0")
            await feed(lambda: len(ended()) > 10, "the old one to have done some")
            await pauses.pause(tenant="t0")
            crew.start(new, "0")
            await feed(workers(2), "the new one to do some")
            held = await pauses.held()
            crew.running[0].terminate()
            crew.start(old, "0")
            await feed(workers(3), "another old one to do some")
            crew.running[2].terminate()
            await pauses.resume(tenant="t0")
            await eventually(
                lambda: len(ended()) == count, seconds=40, what="all of it"
            )
            lines = [line.split() for line in whole_lines(crew.log)]
            await eventually(
                lambda: _nobody_has_anything(broker, forward),
                seconds=40,
                what="the slots to be gone",
            )
    assert held["tenant=t0"] > 0
    assert (
        max(Counter(data for _, word, _, data in lines if word == "ends").values()) == 1
    )
    running: Counter[str] = Counter()
    for _, word, tenant, _ in lines:
        running[tenant] += 1 if word == "begins" else -1
        assert running[tenant] <= 2, "more of a tenant at once than its limit says"
    assert not crew.said(), "none complained"


async def _nobody_has_anything(broker: Broker, knows_rows: bool) -> bool:
    """Of the rows of admissions an older version knows nothing: they expire, or go with the next sweep of a new one."""
    keys, call = broker.keys("s"), broker.control.call
    left = [
        await call("KEYS", f"{broker.namespace}:{{s}}:g:{kind}:*")
        for kind in ("busy", "queue")
    ]
    rows = await call("EXISTS", keys.admissions("g")) if knows_rows else 0
    return not any(left) and not rows and not await call("EXISTS", keys.attempts("g"))
