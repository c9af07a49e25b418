"""The doctor on what is left behind, on permissions, and on what its look costs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams import Broker, Producer
from streams.broker.admin.access import OPERATOR, ROLES
from streams.broker.keys import PARKED, Keys
from streams.cli.app import app
from streams.doctor import Bounds, Doctor, Finding
from streams.doctor.finding import SERVER_CODES, STREAM_CODES
from streams.doctor.repair import Repair
from streams.doctor.servers import depends_on_default_user
from streams.errors import NotFound
from streams.policy.retry import AttemptRecord
from tests.process.load import MINIMAL_ACL
from tests.process.worker_app import GROUP, STREAM
from tests.server.test_doctor import FIT, acl_user, examine, group

RECORD = AttemptRecord().to_json()


@pytest.fixture
def keys(broker: Broker) -> Keys:
    return broker.keys(STREAM)


async def parked(server, broker: Broker, keys: Keys, count: int) -> list[str]:
    """Entries of level 5 that wait for a retry without a due time."""
    group(server, keys)
    await Producer(broker, STREAM).publish_many([{}] * count, type="job", priority=5)
    with server.client() as client:
        rows = client.xreadgroup(GROUP, PARKED, {keys.level(5): ">"}, count=count)
    return [entry.decode() for entry, _ in rows[0][1]]


async def test_pending_entries_whose_payload_is_gone(broker, server, keys):
    ids = await parked(server, broker, keys, 3)
    with server.client() as client:
        client.zadd(keys.retry(GROUP), {f"5|{entry}": 9e15 for entry in ids})
        client.hset(keys.attempts(GROUP), f"5|{ids[0]}", "{}")
        client.xdel(keys.level(5), ids[0])
        found = (await examine(broker))["payload-gone"]
        assert (found.severity, found.where) == ("warning", f"{STREAM}/{GROUP}")
        assert found.what.startswith("1 entry pending")
        assert (await Repair(broker, "me").mend(STREAM))[STREAM].payloads_gone == 1
        assert client.xpending(keys.level(5), GROUP)["pending"] == 2
        assert (client.zcard(keys.retry(GROUP)), client.hlen(keys.attempts(GROUP))) == (
            2,
            0,
        )
    assert "payload-gone" not in await examine(broker)


async def test_what_a_consumer_has_in_hand_is_left_alone(broker, server, keys):
    group(server, keys)
    await Producer(broker, STREAM).publish({}, type="job", priority=5)
    with server.client() as client:
        ((_, ((entry, _),)),) = client.xreadgroup(
            GROUP, "busy", {keys.level(5): ">"}, count=1
        )
        client.xdel(keys.level(5), entry)
        assert (await Repair(broker, "me").mend())[STREAM].payloads_gone == 0
        assert client.xpending(keys.level(5), GROUP)["pending"] == 1
        assert (await Repair(broker, "me", silence=0.0).mend())[
            STREAM
        ].payloads_gone == 1


async def test_retries_that_lost_their_due_time(broker, server, keys):
    ids = await parked(server, broker, keys, 450)  # More than two slices.
    found = (await examine(broker))["retry-lost"]
    assert found.what.startswith("200 retries without a due time")
    assert (await Repair(broker, "me").look(STREAM))[STREAM].due_times_lost == 450
    with server.client() as client:
        assert client.zcard(keys.retry(GROUP)) == 0, "looking changes nothing"
        assert (await Repair(broker, "me").mend(STREAM))[STREAM].due_times_lost == 450
        assert {row.decode() for row in client.zrange(keys.retry(GROUP), 0, -1)} == {
            f"5|{entry}" for entry in ids
        }
        done = client.xrange(keys.audit())
    assert sum(int(row[b"due_times_lost"]) for _, row in done) == 450
    assert {(row[b"action"], row[b"by"]) for _, row in done} == {(b"repair", b"me")}


async def test_rows_without_an_entry(broker, server, keys):
    (entry,) = await parked(server, broker, keys, 1)
    with server.client() as client:
        client.zadd(
            keys.retry(GROUP),
            {f"5|{n}-9": n for n in range(1, 451)} | {f"5|{entry}": 1, "7|1-1": 1},
        )
        client.hset(
            keys.attempts(GROUP),
            mapping={f"5|{n}-8": RECORD for n in range(1, 1001)}
            | {f"5|{entry}": RECORD},
        )
        assert (await examine(broker))["stray-rows"].severity == "info"
        mended = (await Repair(broker, "me").mend())[STREAM]
        assert (mended.due_times_stray, mended.records_stray) == (450, 1000)
        # Of a level that is not there nobody can tell.
        assert client.zrange(keys.retry(GROUP), 0, -1) == [
            f"5|{entry}".encode(),
            b"7|1-1",
        ]
        assert client.hkeys(keys.attempts(GROUP)) == [f"5|{entry}".encode()]
    assert "stray-rows" not in await examine(broker)


async def test_scheduled_events_that_lost_one_half(broker, server, keys):
    group(server, keys)
    await Producer(broker, STREAM).publish({}, type="job", delay=1000)
    with server.client() as client:
        client.zadd(keys.scheduled(), {"5|empty": 9e15})
        client.hset(keys.scheduled_fields(), "5|stranded", b"\x92\xa4type\xa3job")
        found = await examine(broker)
        assert (
            found["scheduled-empty"].severity,
            found["scheduled-stranded"].severity,
        ) == ("warning", "warning")
        mended = (await Repair(broker, "me").mend())[STREAM]
        assert (mended.scheduled_empty, mended.scheduled_stranded) == (1, 1)
        assert client.zcard(keys.scheduled()) == 1
        assert client.hexists(keys.scheduled_fields(), "5|stranded"), (
            "an event is never deleted"
        )
    found = await examine(broker)
    assert "scheduled-empty" not in found
    assert "scheduled-stranded" in found


async def test_a_stream_of_half_empty_nodes(broker, server, keys):
    group(server, keys)
    await Producer(broker, STREAM).publish_many(
        [{"text": "x" * 250}] * 6000, type="job", priority=5
    )
    assert "half-empty" not in await examine(broker), "6,000 entries cost what they are"
    with server.client() as client:
        ids = [entry for entry, _ in client.xrange(keys.level(5))]
        client.xdel(keys.level(5), *(entry for n, entry in enumerate(ids) if n % 20))
    found = (await examine(broker))["half-empty"]
    assert found.severity == "info"
    assert "for 300 entries" in found.what


async def test_dead_letters_that_come_fast(broker, server, keys):
    group(server, keys)
    with server.client() as client:
        for _ in range(150):
            client.xadd(keys.dead(GROUP), {"reason": "failed"})
    found = (await examine(broker))["dead-letters"]
    assert found.severity == "critical"
    assert found.what.startswith("150 dead letters")
    assert "an hour" in found.what
    calm = (await examine(broker, Bounds(dead_rate=1e9)))["dead-letters"]
    assert calm.severity == "warning"


async def access(url: str, namespace: str, role: str = "worker") -> dict[str, Finding]:
    async with Broker(url, namespace=namespace) as broker:
        return {
            finding.code: finding
            for finding in await Doctor(broker, role=role).examine()
        }


async def test_a_user_with_too_few_permissions(make_server, binary, namespace):
    server = make_server(binary, aof=True)
    with server.client() as client:
        client.sadd(f"{namespace}:index", f"{STREAM}|0")
    url = acl_user(
        server, namespace, *FIT, "-xclaim", "-zadd", "-xgroup|create", "-sadd"
    )
    found = (await access(url, namespace))["permissions"]
    assert found.severity == "critical"
    assert found.todo == "ACL SETUSER app +sadd +zadd +xgroup|create +xclaim"
    with server.client() as client:
        client.execute_command(*found.todo.split())
    found = await access(url, namespace, "operator")
    assert "permissions" not in found
    assert "excess" not in found
    found = (await access(acl_user(server, "elsewhere", *FIT), namespace))[
        "permissions"
    ]
    assert found.todo == f"ACL SETUSER app ~{namespace}:*"


def server_is_old(server) -> bool:
    with server.client() as client:
        return client.info("server")["redis_version"].startswith("6.")


@pytest.mark.parametrize("role", sorted(ROLES))
async def test_every_permission_of_a_role_is_found_missing_and_asking_writes_nothing(
    make_server, binary, namespace, role
):
    server = make_server(binary, aof=True)
    with server.client() as client:
        client.sadd(f"{namespace}:index", f"{STREAM}|0")
    asked = [
        name
        for name in ROLES[role]
        if name not in ("time", "smembers", "script|load", "evalsha")
    ]
    url = acl_user(server, namespace, *FIT, *(f"-{name}" for name in asked))
    found = (await access(url, namespace, role))["permissions"]
    assert set(found.todo.split()[3:]) == {f"+{name}" for name in asked}
    url = acl_user(server, namespace, "+@all")
    assert "permissions" not in await access(url, namespace, role)
    with server.client() as client:
        assert client.keys("*") == [f"{namespace}:index".encode()]
        assert client.smembers(f"{namespace}:index") == {f"{STREAM}|0".encode()}


async def test_a_user_with_too_many_permissions(make_server, binary, namespace):
    server = make_server(binary, aof=True)
    everything = (await access(server.url, namespace))["excess"]
    assert everything.severity == "warning"
    assert "administer" in everything.what
    assert "keys outside" in everything.what
    if not server_is_old(server):
        assert "FLUSHALL" in everything.what
    wide = (await access(acl_user(server, namespace, *FIT, "~*"), namespace))["excess"]
    assert wide.what.endswith(
        "than any role needs: touch keys outside of the namespace"
    )


async def test_replicas_that_are_asked_for_and_not_there(
    make_server, binary, namespace
):
    server = make_server(binary, aof=True)
    with server.client() as client:
        client.config_set("min-replicas-to-write", 1)
    found = (await access(acl_user(server, namespace, *FIT), namespace))["replication"]
    assert found.severity == "critical"
    assert found.what.startswith("0 replicas are online and min-replicas-to-write is 1")


async def test_what_is_looked_at_in_part_names_the_permission(
    make_server, binary, namespace
):
    server = make_server(binary, aof=True)
    keys = Keys(STREAM, namespace)
    group(server, keys)
    url = acl_user(server, namespace, *FIT, "-memory|usage", "-hscan")
    async with Broker(url, namespace=namespace) as broker:
        found = [
            finding
            for finding in await Doctor(broker).examine()
            if finding.code == "part"
        ]
    assert {finding.severity for finding in found} == {"unknown"}
    assert any("memory|usage" in finding.todo for finding in found)
    assert any("hscan" in finding.todo for finding in found)


async def test_the_cost_does_not_grow_with_what_is_stored(
    make_server, binary, namespace
):
    server = make_server(binary, aof=True)
    keys = Keys(STREAM, namespace)
    async with Broker(server.url, namespace=namespace) as broker:
        ids = await parked(server, broker, keys, 10)
        few = await cost(server, broker)
        ids += await parked_more(server, broker, keys, 3000)
        with server.client() as client:
            client.hset(
                keys.attempts(GROUP), mapping={f"5|{entry}": RECORD for entry in ids}
            )
            for _ in range(500):
                client.xadd(keys.dead(GROUP), {"reason": "failed"})
        many = await cost(server, broker)
    with server.client() as client:
        asks = depends_on_default_user(
            {name: str(value) for name, value in client.info().items()}
        )
    levels = 4
    documented = (
        6 + 6 * asks + len(ROLES["worker"]) + 3 + 7 + 5 * levels + 4 * levels + 7
    )
    documented += 2 + levels + 2 * levels + 2  # What waits although nothing holds it.
    documented += 1  # What workers say.
    assert few[0] == many[0] == documented
    # What scripts do counts on some servers: a few commands per row of each slice.
    assert many[1] <= documented + 4 * 200 * (levels + 2)


async def cost(server, broker: Broker) -> tuple[int, int]:
    """How many commands the doctor sends for an examination, and how many the server runs."""
    await Doctor(broker).examine()  # Loads the scripts.
    sent, send = 0, broker.control.batch

    async def counted(commands, **options):
        nonlocal sent
        sent += len(commands)
        return await send(commands, **options)

    with server.client() as client, pytest.MonkeyPatch.context() as patch:
        patch.setattr(broker.control, "batch", counted)
        before = client.info("stats")["total_commands_processed"]
        await Doctor(broker).examine()
        return sent, client.info("stats")["total_commands_processed"] - before


async def parked_more(server, broker: Broker, keys: Keys, count: int) -> list[str]:
    await Producer(broker, STREAM).publish_many([{}] * count, type="job", priority=5)
    with server.client() as client:
        rows = client.xreadgroup(GROUP, PARKED, {keys.level(5): ">"}, count=count)
    return [entry.decode() for entry, _ in rows[0][1]]


async def test_repairing_from_the_command_line(make_server, binary, namespace):
    server = make_server(binary, aof=True)
    keys = Keys(STREAM, namespace)

    def run(*arguments: str, say: str | None = None):
        words = [
            "doctor",
            "--url",
            server.url,
            "--namespace",
            namespace,
            "--repair",
            *arguments,
        ]
        return asyncio.to_thread(CliRunner().invoke, app, words, input=say)

    async with Broker(server.url, namespace=namespace) as broker:
        await parked(server, broker, keys, 1)
        refused = await run()
        assert refused.exit_code != 0
        assert "--yes" in str(refused.exception) + refused.output
        with pytest.raises(NotFound):
            await Repair(broker, "me").look("nowhere")
    with server.client() as client:
        assert client.zcard(keys.retry(GROUP)) == 0
        done = await run("--yes")
        assert done.exit_code == 0
        assert f"{STREAM}: 1 retry without a due time: make it due now" in done.stdout
        assert client.zcard(keys.retry(GROUP)) == 1
    again = await run("--yes", "--json")
    assert json.loads(again.stdout)["repaired"][STREAM]["due_times_lost"] == 0
    assert "nothing to repair" in (await run("--yes")).stdout


def test_every_finding_is_explained_and_every_explanation_has_a_finding():
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    explained = {word.strip(" `") for row in rows for word in row.split(",")}
    assert explained == {*SERVER_CODES, *STREAM_CODES}


def test_the_roles_are_those_of_the_page_on_operations():
    assert {f"+{name}" for name in ROLES["operator"]} == set(MINIMAL_ACL.split()) - {
        "+auth",
        "+select",
    }
    assert set(OPERATOR) < set(ROLES["operator"])
