"""The doctor finds workers of a group that were not declared alike, and says in what."""

from __future__ import annotations

import pytest

from streams import Broker, Consumer, ConsumerOptions, Lanes, Levels, Limit, Retry
from streams.broker.entries.declare import Declaring
from streams.doctor import Bounds, Doctor
from streams.doctor.agreement import judge_agreement
from streams.doctor.finding import Finding
from streams.handlers.routes import Route, Router
from streams.policy.declaration import AS_IT_IS
from streams.worker.heartbeat import Heartbeat

pytestmark = pytest.mark.in_turn

NOW = 10_000.0
OLD = {
    "at": NOW,
    "since": 0.0,
    "version": "1.0",
    "declared": {"lease": "30 s", "order_by": ""},
}


def judged(**workers: dict) -> list[Finding]:
    return list(judge_agreement("s", "g", workers, NOW, Bounds()))


def test_workers_that_agree_or_say_nothing_or_are_gone_are_no_finding():
    assert not judged()
    assert not judged(a=OLD)
    assert not judged(a=OLD, b=OLD | {"since": NOW})
    assert not judged(a=OLD, b=OLD | {"declared": {"lease": "3 s"}, "at": NOW - 61})
    assert not judged(a=OLD, before={"at": NOW, "since": 0.0})
    assert not judged(a=OLD, odd={"at": NOW, "since": 0.0, "declared": "odd"})


def test_during_a_deployment_it_is_no_trouble_and_afterwards_it_is():
    new = OLD | {"declared": {"lease": "3 s", "order_by": "key"}}
    (during,) = judged(a=OLD, b=OLD, c=OLD, d=new | {"since": NOW - 60})
    assert (during.code, during.severity, during.where) == (
        "workers-disagree",
        "info",
        "s/g",
    )
    assert during.what == (
        "4 workers differ in lease: 3 s on d, 30 s on a, b and 1 more; in order_by: none on a, b and 1 more, key on d. "
        "The last one started 60 s ago"
    )
    (after,) = judged(a=OLD, d=new | {"since": NOW - 1000})
    assert after.severity == "warning"
    assert "17 min ago" in after.what
    assert "docs/workers.md" in after.todo


def test_versions_differ_too():
    (found,) = judged(a=OLD, b=OLD | {"version": "1.1", "since": NOW})
    assert "version: 1.0 on a, 1.1 on b" in found.what


async def test_it_is_found_by_what_workers_write_down(broker: Broker):
    async def handler(event) -> None: ...

    def made(name: str, limit: Limit, retry: Retry, **options) -> Consumer:
        routes = [
            Route(handler, types=["a"], limits=[limit], retry=retry),
            Route(handler),
        ]
        return Consumer(
            broker, "s", "g", Router(routes), ConsumerOptions(name=name, **options)
        )

    consumers = (
        made("old", Limit("tenant", concurrency=1), Retry(), lanes=Lanes(("key",), ("tenant",)), lease=60.0),
        made(
            *("new", Limit("tenant", rate="9/s"), Retry(max_retries=5)),
            levels=Levels((0, 1)), weights={0: 1, 1: 2}, max_wait=5.0,
        ),
    )  # fmt: skip
    await Declaring(broker.keys("s"), Levels(), "g", AS_IT_IS).declare(broker.control)
    for consumer in consumers:
        await Heartbeat(broker, [consumer], consumer.name).record()
    (found,) = [
        one
        for one in await Doctor(broker).examine("s")
        if one.code == "workers-disagree"
    ]
    for part in (
        "levels: 0,1 on new, 0,1,5,10 on old",
        "lease: 30 s on new, 60 s on old",
        "order_by: none on new, key on old",
        "fair_by: none on new, tenant on old",
        "on_dead: none on new, continue on old",
        "limits: tenant by tenant 9/s burst 1 on new, tenant by tenant concurrency 1 on old",
        "retry: * 3 exponential 5 s; a 3 exponential 5 s on old, * 3 exponential 5 s; a 5 exponential 5 s on new",
        "weights: none on old, 1=2,0=1 on new",
        "max_wait: none on old, 5 s on new",
    ):
        assert part in found.what
    assert found.severity == "info"
    later = await Doctor(broker, Bounds(deployment=-1.0)).examine("s")
    assert [one.severity for one in later if one.code == "workers-disagree"] == [
        "warning"
    ]


@pytest.mark.parametrize(
    "also", [{}, {"concurrency": 7, "serve": Levels((0,)), "cancel_grace": 1.0}]
)
async def test_what_is_each_workers_own_is_not_compared(broker: Broker, also):
    async def handler(event) -> None: ...

    one, other = (
        Consumer(broker, "s", "g", handler, ConsumerOptions(name=name, **more))
        for name, more in (("a", {}), ("b", also))
    )
    assert one.declared == other.declared
