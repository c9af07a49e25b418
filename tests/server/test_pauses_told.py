"""How pauses are set, ended, audited and shown."""

from __future__ import annotations

import json

import pytest

from streams import Broker, NotFound, Pauses, Status
from streams.admin.pauses import read_pause
from streams.errors import ConfigurationError, WrongKeyType
from tests.server.pausing import LEVELS, group_of


async def test_a_pause_is_stored_told_and_audited(broker):
    await group_of(broker)
    await broker.connect()
    pauses = Pauses(broker, "s", by="ada")
    first = await pauses.pause(group="g", reason='the "bank" is down\n☎')
    again = await Pauses(broker, "s", by="bob").pause(group="g", reason="other")
    assert first.new
    assert not again.new
    assert again.pause == first.pause == (await pauses.list())[0]
    assert (first.pause.scope, first.pause.group, first.pause.level) == (
        "group=g",
        "g",
        None,
    )
    assert (first.pause.by, first.pause.reason) == ("ada", 'the "bank" is down\n☎')
    assert abs(first.pause.at - broker.clock.now()) < 2
    stored = await broker.control.call("HGET", broker.keys("s").paused(), "group=g")
    assert set(json.loads(stored)) == {"by", "at", "reason"}
    await pauses.pause(level=5)
    await pauses.pause(group="g", level=0)
    assert [pause.scope for pause in await pauses.list()] == [
        "group=g",
        "group=g,level=0",
        "level=5",
    ]
    outcome = await Pauses(broker, "s", by="bob").resume(level=5)
    assert [pause.scope for pause in outcome.resumed] == ["level=5"]
    assert [pause.scope for pause in outcome.remaining] == [
        "group=g",
        "group=g,level=0",
    ]
    assert (await pauses.resume(level=5)).resumed == []
    assert [pause.scope for pause in (await pauses.resume_all()).resumed] == [
        "group=g",
        "group=g,level=0",
    ]
    assert await pauses.list() == (await pauses.resume_all()).resumed == []
    rows = [dict(zip(f[::2], f[1::2], strict=True)) for _, f in await audit(broker)]
    assert [(row[b"action"], row[b"scope"], row[b"by"]) for row in rows] == [
        (b"pause", b"group=g", b"ada"),
        (b"pause", b"level=5", b"ada"),
        (b"pause", b"group=g,level=0", b"ada"),
        (b"resume", b"level=5", b"bob"),
        (b"resume", b"group=g", b"ada"),
        (b"resume", b"group=g,level=0", b"ada"),
    ]


async def audit(broker: Broker) -> list:
    return await broker.control.call("XRANGE", broker.keys("s").audit(), "-", "+")


async def test_what_is_not_there_is_refused_with_what_is(broker):
    with pytest.raises(NotFound, match=r"no stream 's'.*there are: none"):
        await Pauses(broker, "s").pause()
    await group_of(broker, "billing")
    pauses = Pauses(broker, "s")
    with pytest.raises(NotFound, match="no group 'biling'; it has: billing"):
        await pauses.pause(group="biling")
    with pytest.raises(NotFound, match="no level 7; it has: 10, 5, 1, 0"):
        await pauses.pause(level=7)
    with pytest.raises(NotFound, match="there are: s"):
        await Pauses(broker, "t").pause()
    for unknown in ({"group": "biling"}, {"level": 7}):
        with pytest.raises(NotFound, match="no "):
            await pauses.resume(**unknown)
    with pytest.raises(NotFound, match="there are: s"):
        await Pauses(broker, "t").resume_all()
    with pytest.raises(ConfigurationError, match="500 characters"):
        await pauses.pause(reason="x" * 501)
    assert await pauses.list() == []
    assert await audit(broker) == []


async def test_a_pause_of_a_group_that_is_gone_can_be_ended(broker):
    await group_of(broker)
    await Pauses(broker, "s").pause(group="g")
    for level in LEVELS.ascending:
        await broker.control.call(
            "XGROUP", "DESTROY", broker.keys("s").level(level), "g"
        )
    assert (await Pauses(broker, "s").resume(group="g")).resumed


async def test_nothing_is_written_when_the_audit_record_cannot_be(broker):
    await group_of(broker)
    await broker.control.call("SET", broker.keys("s").audit(), "x")
    with pytest.raises(WrongKeyType, match="audit"):
        await Pauses(broker, "s").pause()
    assert await Pauses(broker, "s").list() == []
    with pytest.raises(WrongKeyType, match="audit"):
        await Pauses(broker, "s").resume_all()


@pytest.mark.one_server
async def test_a_server_without_memory_pauses_and_resumes(server, make_server):
    full = make_server(server.binary)
    async with Broker(full.url) as broker:
        await group_of(broker)
        with full.client() as client:
            client.config_set("maxmemory", 1)
        pauses = Pauses(broker, "s")
        assert (await pauses.pause()).new
        assert len((await pauses.resume_all()).resumed) == 1
        assert len(await audit(broker)) == 2


def test_words_of_other_programs_are_kept():
    pause = read_pause(("tenant=acme,level=x", b"no json"))
    assert (pause.scope, pause.group, pause.level, pause.by, pause.at) == (
        "tenant=acme,level=x",
        "",
        None,
        "",
        0.0,
    )
    assert not pause.covers("", 0)
    assert read_pause(("level=-5", b'{"at":1}')).level == -5


async def test_status_shows_pauses_and_whom_they_hold(broker):
    await group_of(broker, "g")
    await group_of(broker, "h")
    await Pauses(broker, "s", by="ada").pause(group="g", level=5, reason="why")
    await Pauses(broker, "s").pause(level=0)
    row = await Status(broker).stream("s")
    assert [(p.scope, p.by, p.reason) for p in row.paused] == [
        ("group=g,level=5", "ada", "why"),
        ("level=0", "unknown", ""),
    ]
    held = {
        (group.group, level.level)
        for group in row.groups
        for level in group.levels
        if level.paused
    }
    assert held == {("g", 5), ("g", 0), ("h", 0)}
