"""Health: what an address is, how vitals are judged, and an HTTP server that no client can hold up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.address import Address
from streams.consuming.vitals import ConsumerVitals, Vitals
from streams.errors import ConfigurationError
from streams.health import (
    LIVE,
    LOOP_BOUND,
    READ_BOUND,
    READY,
    Check,
    Family,
    HealthServer,
    Report,
    ask,
)
from streams.health.judging import Probed, judge_live, judge_ready

NOW = 1000.0


def consumer(**changes) -> ConsumerVitals:
    facts = {
        "read_at": NOW - 0.4,
        "is_full": False,
        "trouble": "",
        "busy": 0,
        "missing": (),
    } | changes
    return ConsumerVitals("orders", "billing", (10, 0), **facts)


def vitals(
    *consumers: ConsumerVitals, stopping: bool = False, missing: tuple[str, ...] = ()
) -> Vitals:
    return Vitals("w", stopping, consumers or (consumer(),), missing)


def failed(report: Report) -> list[str]:
    return [check.name for check in report.failed]


# Addresses


@pytest.mark.parametrize(
    ("text", "spelled", "local"),
    [
        ("8080", "127.0.0.1:8080", "127.0.0.1:8080"),
        (":8080", ":8080", "127.0.0.1:8080"),
        ("0.0.0.0:8080", "0.0.0.0:8080", "127.0.0.1:8080"),
        ("[::]:8080", "[::]:8080", "[::1]:8080"),
        ("[::1]:1", "[::1]:1", "[::1]:1"),
        ("pod-1.local:65535", "pod-1.local:65535", "pod-1.local:65535"),
        ("unix:/run/s.sock", "unix:/run/s.sock", "unix:/run/s.sock"),
        ("unix:///run/s.sock", "unix:/run/s.sock", "unix:/run/s.sock"),
        ("unix:s", "unix:s", "unix:s"),
    ],
)
def test_an_address_and_where_a_neighbour_reaches_it(text, spelled, local):
    address = Address.parse(text)
    assert (str(address), str(address.local)) == (spelled, local)
    assert Address.parse(str(address)) == address


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_refused(text):
    try:
        address = Address.parse(text)
    except ConfigurationError:
        return
    assert Address.parse(str(address)) == address


# Judging


def test_a_worker_that_reads_is_alive_and_ready():
    assert judge_live(vitals(), 0.1).ok
    assert judge_ready(vitals(), 0.1, Probed(), NOW).ok


def test_alive_never_depends_on_the_server_ready_always_does():
    away = vitals(consumer(trouble="the connection to the server failed", read_at=0.0))
    assert judge_live(away, 0.0).ok
    report = judge_ready(
        away, 0.0, Probed(unreachable="redis://h:1 cannot be reached"), NOW
    )
    assert failed(report) == ["server", "groups", "reading"]


@pytest.mark.parametrize(
    "judge", [judge_live, lambda v, s: judge_ready(v, s, Probed(), NOW)]
)
def test_a_blocked_loop_is_neither(judge):
    assert judge(vitals(), LOOP_BOUND).ok
    assert failed(judge(vitals(), LOOP_BOUND + 0.01)) == ["loop"]


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        (vitals(missing=("reclaimer orders/billing",)), "roles"),
        (vitals(consumer(missing=("settler",))), "roles"),
        (vitals(consumer(missing=("lease keeper",))), "leases"),
    ],
)
def test_a_part_that_ended_is_seen(changed, name):
    assert failed(judge_live(changed, 0.0)) == [name]


def test_a_stopping_worker_is_alive_to_the_end_whatever_has_ended_and_not_ready():
    stopping = vitals(
        consumer(missing=("fetcher",)), stopping=True, missing=("scheduler orders",)
    )
    assert judge_live(stopping, 60.0).ok
    assert failed(judge_ready(vitals(stopping=True), 0.0, Probed(), NOW)) == ["running"]


@pytest.mark.parametrize(
    ("changed", "ok"),
    [
        (consumer(read_at=0.0), False),
        (consumer(read_at=NOW - READ_BOUND + 0.1), True),
        (consumer(read_at=NOW - READ_BOUND - 0.1), False),
        (consumer(read_at=NOW - 600, is_full=True), True),
        (consumer(trouble="WRONGTYPE"), False),
    ],
)
def test_a_consumer_that_does_not_read_is_not_ready_unless_all_its_handlers_are_busy(
    changed, ok
):
    assert judge_ready(vitals(consumer(), changed), 0.0, Probed(), NOW).ok is ok


def test_a_group_that_cannot_be_read_is_named_and_numbers_are_masked():
    report = judge_ready(
        vitals(),
        0.0,
        Probed(wrong=("orders/billing level 5: the group is missing",)),
        NOW,
    )
    assert [check.says for check in report.failed] == [
        "orders/billing level 5: the group is missing"
    ]
    report = judge_ready(
        vitals(consumer(trouble="refused +5511987654321")), 0.0, Probed(), NOW
    )
    assert "987654321" not in json.dumps(report.as_plain())


# Serving


class View:
    """Says what it is told to."""

    def __init__(self) -> None:
        self.report = Report((Check("loop", ok=True, says="fine"),))
        self.closed = 0

    async def live(self) -> Report:
        return self.report

    async def ready(self) -> Report:
        return Report((Check("server", ok=False, says="away"),))

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
async def served():
    view = View()
    async with HealthServer(Address.parse("0"), view) as server:
        yield server
    assert view.closed == 1


async def talk(address: Address, request: bytes) -> tuple[str, dict[str, str], bytes]:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(request)
    async with asyncio.timeout(10):
        raw = await reader.read()
    writer.close()
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *headers = head.decode().split("\r\n")
    return (
        status,
        {k.lower(): v for k, v in (line.split(": ", 1) for line in headers)},
        body,
    )


@pytest.mark.parametrize(
    ("request_line", "status", "body"),
    [
        ("GET /livez HTTP/1.1", "HTTP/1.1 200 OK", b"ok loop\n"),
        ("GET /livez HTTP/1.0", "HTTP/1.1 200 OK", b"ok loop\n"),
        ("HEAD /livez HTTP/1.1", "HTTP/1.1 200 OK", b""),
        (
            "GET /readyz HTTP/1.1",
            "HTTP/1.1 503 Service Unavailable",
            b"failed server\n",
        ),
        ("HEAD /readyz?verbose HTTP/1.1", "HTTP/1.1 503 Service Unavailable", b""),
        ("POST /livez HTTP/1.1", "HTTP/1.1 405 Method Not Allowed", b"GET or HEAD\n"),
        (
            "GET / HTTP/1.1",
            "HTTP/1.1 404 Not Found",
            b"there are /livez, /readyz and /metrics\n",
        ),
        (
            "GET /livez/ HTTP/1.1",
            "HTTP/1.1 404 Not Found",
            b"there are /livez, /readyz and /metrics\n",
        ),
        ("GET /livez", "HTTP/1.1 400 Bad Request", b"not HTTP\n"),
        ("\x16\x03\x01 \xff \x00", "HTTP/1.1 400 Bad Request", b"not HTTP\n"),
        (
            f"GET /livez?{'x' * 5000} HTTP/1.1",
            "HTTP/1.1 431 Request Header Fields Too Large",
            b"too large\n",
        ),
    ],
)
async def test_answers(served, request_line, status, body):
    found = await talk(
        served.address, request_line.encode("latin-1") + b"\r\nHost: x\r\n\r\n"
    )
    assert (found[0], found[2]) == (status, body)
    assert found[1]["connection"] == "close"
    if not request_line.startswith("HEAD"):
        assert int(found[1]["content-length"]) == len(body)
    if status.split()[1] == "405":
        assert found[1]["allow"] == "GET, HEAD"


async def test_verbose_names_every_check_in_json(served):
    _, headers, body = await talk(
        served.address, b"GET /livez?verbose HTTP/1.1\r\n\r\n"
    )
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {
        "ok": True,
        "checks": [{"name": "loop", "ok": True, "says": "fine"}],
    }


async def test_clients_that_say_nothing_or_too_little_hold_nobody_up(served):
    idle = [
        await asyncio.open_connection(served.address.host, served.address.port)
        for _ in range(80)
    ]
    for _, writer in idle[:40]:
        writer.write(b"GET /livez HT")
    # More connections than it keeps: some are dropped at once, the others when they have been silent for long enough.
    async with asyncio.timeout(10):
        for reader, writer in idle:
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
    assert (await ask(served.address, LIVE)).ok


async def test_asking(served, tmp_path):
    live, ready = await ask(served.address, LIVE), await ask(served.address, READY)
    assert (live.ok, live.says) == (True, "alive: loop")
    assert (ready.ok, ready.says) == (False, "not ready: server: away")
    nobody = await ask(Address(path=str(tmp_path / "none")), READY)
    assert not nobody.ok
    assert nobody.report is None
    assert "nobody answers at unix:" in nobody.says


async def test_asking_what_is_no_worker_or_does_not_answer():
    async def stranger(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\n\r\n{"checks": 1}')
        writer.close()

    async with await asyncio.start_server(stranger, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert "no worker" in (await ask(Address(port=port), LIVE)).says
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        answer = await ask(Address(port=deaf.getsockname()[1]), LIVE, within=0.1)
        assert "no answer" in answer.says


async def test_a_taken_address_is_a_sentence(served, tmp_path):
    with pytest.raises(ConfigurationError, match=f"{served.address.port}: .*--health"):
        async with HealthServer(served.address, View()):
            pass
    with pytest.raises(ConfigurationError, match="cannot be served"):
        async with HealthServer(Address.parse("192.0.2.1:8080"), View()):
            pass
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigurationError, match="cannot be served"):
        async with HealthServer(Address(path=str(tmp_path / "file")), View()):
            pass
    assert (tmp_path / "file").read_text() == "mine"


async def test_a_socket_that_a_killed_worker_left_is_replaced_one_that_is_served_is_not():
    path = Path("left.sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    address = Address(path=str(path))
    async with HealthServer(address, View()):
        assert path.stat().st_mode & 0o777 == 0o600
        assert (await ask(address, LIVE)).ok
        with pytest.raises(ConfigurationError, match="another process serves there"):
            async with HealthServer(address, View()):
                pass
        assert (await ask(address, LIVE)).ok
    assert not path.exists()


async def test_every_interface_answers():
    async with HealthServer(Address.parse(":0"), View()) as server:
        assert (await ask(server.address, LIVE)).ok
        assert (await ask(Address(port=server.address.port), LIVE)).ok


async def test_several_processes_behind_one_address():
    good, bad = View(), View()
    bad.report = Report((Check("loop", ok=False, says="blocked for 9.0 s"),))
    async with Family("127.0.0.1:0", 2) as family:
        for name in ("1", "2"):
            assert family.options_of(name)[0] == "--health"
        addresses = list(family._members.values())
        assert not (await family.ready()).ok
        assert (await family.live()).ok  # They have not come up yet.
        async with HealthServer(addresses[0], good):
            assert (await family.live()).ok
            async with HealthServer(addresses[1], bad):
                report = await family.live()
                assert [(c.name, c.ok) for c in report.checks[1:]] == [
                    ("process 1", True),
                    ("process 2", False),
                ]
                assert "blocked for 9.0 s" in report.failed[0].says
                family.is_stopping = True
                assert (await family.live()).ok
                family.is_stopping = False
            family.ended("2")
            assert (await family.live()).ok
            assert "processes" in failed(await family.ready())


async def test_a_family_without_an_address_does_nothing():
    async with Family("", 2) as family:
        assert family.options_of("1") == []
