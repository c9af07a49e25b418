"""What the doctor makes of what a server says of itself: states that no test brings a server into."""

from __future__ import annotations

import pytest

from streams.broker.admin.diagnose import DeadFacts, Denied, GroupFacts, StreamFacts
from streams.doctor import Bounds
from streams.doctor.servers import (
    depends_on_default_user,
    judge_memory,
    judge_persistence,
    judge_replication,
    judge_skew,
    judge_transport,
    judge_version,
)
from streams.doctor.stream import judge_stream

GOOD = {
    "aof_enabled": "1",
    "aof_last_write_status": "ok",
    "rdb_last_bgsave_status": "ok",
}


def found(findings) -> list[tuple[str, str]]:
    return [(finding.code, finding.severity) for finding in findings]


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"redis_version": "6.0.16"}, [("version", "critical")]),
        ({"redis_version": "6.2.14"}, []),
        ({"redis_version": "7.0.15"}, []),
        ({"redis_version": "8.0.2"}, [("version", "warning")]),
        ({"redis_version": "8.2.1"}, [("version", "warning")] * 2),
        ({"redis_version": "8.10.2"}, []),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, []),
        (
            {"redis_version": "7.2.4", "valkey_version": "7.2.9"},
            [("version", "critical")],
        ),
        ({}, [("version", "unknown")]),
    ],
)
def test_versions(info, expected):
    assert found(judge_version(info)) == expected


@pytest.mark.parametrize(
    ("info", "config", "expected"),
    [
        (GOOD, {"save": "", "appendfsync": "everysec"}, []),
        (GOOD, Denied("config|get"), []),
        (GOOD, {"save": "", "appendfsync": "no"}, [("persistence", "warning")]),
        (GOOD | {"aof_enabled": "0"}, {"save": ""}, [("persistence", "critical")]),
        (GOOD | {"aof_enabled": "0"}, {"save": "3600 1"}, [("persistence", "warning")]),
        (
            GOOD | {"aof_enabled": "0"},
            Denied("config|get"),
            [("persistence", "warning")],
        ),
        (GOOD | {"aof_last_write_status": "err"}, {}, [("aof-failed", "critical")]),
        (GOOD | {"rdb_last_bgsave_status": "err"}, {}, [("save-failed", "critical")]),
    ],
)
def test_persistence(info, config, expected):
    assert found(judge_persistence(info, config)) == expected


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"maxmemory": "0", "used_memory": "5"}, []),
        ({"maxmemory": "100", "used_memory": "80"}, []),
        ({"maxmemory": "100", "used_memory": "81"}, [("memory", "warning")]),
        ({"maxmemory": "100", "used_memory": "96"}, [("memory", "critical")]),
        ({"maxmemory_policy": "allkeys-lru"}, [("eviction", "critical")]),
        ({"maxmemory_policy": "noeviction"}, []),
    ],
)
def test_memory(info, expected):
    assert found(judge_memory(info, Bounds())) == expected


PRIMARY = {
    "role": "master",
    "connected_slaves": "1",
    "slave0": "ip=h,state=online,offset=1,lag=0",
}


@pytest.mark.parametrize(
    ("info", "least", "expected"),
    [
        ({"role": "master", "connected_slaves": "0"}, "0", [("replication", "info")]),
        (PRIMARY, "1", []),
        (PRIMARY, "0", [("replication", "info")]),
        (PRIMARY, "2", [("replication", "critical")]),
        (
            PRIMARY | {"slave0": "ip=h,state=online,lag=11"},
            "1",
            [("replication", "warning")],
        ),
        (
            PRIMARY | {"slave0": "ip=h,state=wait_bgsave"},
            "0",
            [("replication", "warning"), ("replication", "info")],
        ),
    ],
)
def test_replication(info, least, expected):
    assert (
        found(judge_replication(info, {"min-replicas-to-write": least}, Bounds()))
        == expected
    )


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("redis://10.0.0.5:6379/0", [("plain-text", "info")]),
        ("valkey://queue.internal", [("plain-text", "info")]),
        ("rediss://10.0.0.5:6379/0", []),
        ("redis://localhost:6379", []),
        ("redis://127.0.0.9", []),
        ("redis://[::1]:6379/0", []),
        ("unix:///run/redis.sock", []),
        ("redis://[broken", []),
    ],
)
def test_plain_text_over_a_network(address, expected):
    assert found(judge_transport(address)) == expected


@pytest.mark.parametrize(
    ("recent", "since", "newest", "severity"),
    [
        (0, 0, 7200, "info"),
        (3, 3000, 60, "warning"),
        (60, 3000, 60, "critical"),
        (100, 7200, 60, "warning"),
    ],
)
def test_dead_letters_are_judged_by_how_fast_they_come(recent, since, newest, severity):
    now = 1e9
    dead = DeadFacts(200, now - 9000, now - newest, recent, now - since)
    facts = StreamFacts(
        "orders",
        {0: 0},
        [],
        groups=[GroupFacts("billing", 0, 0, {}, None)],
        dead={"billing": dead},
    )
    (finding,) = judge_stream(facts, [], now, Bounds())
    assert (finding.code, finding.severity) == ("dead-letters", severity)
    assert "the oldest 2 h old" in finding.what


@pytest.mark.parametrize(
    ("skew", "expected"),
    [(0.1, []), (-5.1, [("clock", "warning")]), (6, [("clock", "warning")])],
)
def test_clocks(skew, expected):
    assert found(judge_skew(skew, Bounds())) == expected


@pytest.mark.parametrize(
    ("version", "drops"),
    [
        ("6.2.14", False), ("7.0.0", True), ("7.4.9", True), ("8.2.8", True), ("8.4.3", True), ("8.4.4", False),
        ("8.5.240", True), ("8.6.0", False), ("8.10.2", False), ("9.0", False), ("", False),
    ],
)  # fmt: skip
def test_servers_whose_restart_depends_on_the_default_user(version, drops):
    assert (
        depends_on_default_user({"redis_version": version, "aof_enabled": "1"}) is drops
    )
    assert not depends_on_default_user({"redis_version": version, "aof_enabled": "0"})


@pytest.mark.parametrize(
    ("version", "drops"),
    [("8.0.1", True), ("9.1.1", True), ("9.1.2", False), ("9.2.0", False)],
)
def test_valkey_is_known_by_its_own_version(version, drops):
    info = {"redis_version": "7.2.4", "valkey_version": version, "aof_enabled": "1"}
    assert depends_on_default_user(info) is drops
