"""Events that kill their worker, among others that do not: they die, and nothing dies with them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.site import Site, Worker
from tests.servers import BINARIES, Server, server_label, wait_until


@pytest.fixture
def site(binary: str, namespace: str, tmp_path: Path) -> Iterator[Site]:
    server = Server(binary).start()
    site = Site(server, namespace, tmp_path)
    yield site
    site.close()
    server.close()


@pytest.mark.parametrize(
    ("binary", "max_retries"),
    [*((binary, 0) for binary in BINARIES), (BINARIES[0], 3)],
    ids=lambda value: server_label(value) if isinstance(value, str) else str(value),
)
def test_four_killers_among_sixty_bury_no_innocent(
    site: Site, max_retries: int
) -> None:
    """One worker, started again as by a supervisor; what it had is due while killers are left that nobody suspects."""
    kill, work = {"do": "sleep-kill", "s": 0.3}, {"do": "sleep", "s": 0.3}
    orders = [kill if number % 15 == 7 else work for number in range(60)]
    events = site.publish(orders)
    killers = {
        event
        for event, order in zip(events, orders, strict=True)
        if order["do"] == "sleep-kill"
    }

    def worker() -> Worker:
        return site.worker(lease=0.5, max_retries=max_retries, concurrency=10)

    workers = [worker()]

    def drained() -> bool:
        if workers[-1].process.poll() is not None:
            workers.append(worker())
        return not site.unfinished()

    wait_until(drained, seconds=60.0, what="everything to be done or dead")
    site.balance(events)
    dead, last = site.dead(), max(1, max_retries) + 1
    assert set(dead) == killers
    assert {(letter["reason"], letter["stalls"]) for letter in dead.values()} == {
        ("stalled", last)
    }
    assert any(
        len(seen) > 1 for event, seen in site.attempts().items() if event not in killers
    ), "nothing ran beside"
    see_suspects_alone(site, last)


def see_suspects_alone(site: Site, last: int) -> None:
    """Each last attempt of an event ran in its process while nothing else did."""
    ends = {
        (line["pid"], line["event"], line["attempt"]): line["at"]
        for line in site.of("end")
    }
    ran: dict[int, list[tuple[int, float, int, str]]] = defaultdict(list)
    for line in site.of("start"):
        key = (line["pid"], line["event"], line["attempt"])
        ran[line["pid"]].append(
            (line["at"], ends.get(key, math.inf), line["attempt"], line["event"])
        )
    for runs in ran.values():
        for start, end, attempt, event in runs:
            beside = [
                other
                for begun, ended, _, other in runs
                if other != event and begun < end and start < ended
            ]
            assert attempt < last or not beside, (
                f"{event} ran its last attempt beside {beside}"
            )
