"""``streams why``, as it is typed."""

from __future__ import annotations

import json

from streams import Pauses, Producer
from tests.process.test_cli_keys import PHONE, typed


async def test_people_read_a_sentence_and_programs_facts(server, namespace, broker):
    where = ("--url", server.url, "--namespace", namespace)
    producer = Producer(broker, "orders")
    now = await producer.publish(1, type="t", tenant=PHONE)
    later = await producer.publish(2, type="t", tenant=PHONE, delay=3600)
    await Pauses(broker, "orders", by="ana").pause(tenant=PHONE, reason="unpaid")
    shown = await typed("why", "orders", now.event_id, *where)
    assert f"{now.event_id} orders  paused" in shown
    assert "is paused by ana since" in shown
    assert "unpaid" in shown
    found = json.loads(
        await typed("why", "orders", "--tenant", PHONE, "--json", *where)
    )
    assert {reason["event_id"]: reason["state"] for reason in found["reasons"]} == {
        now.event_id: "paused",
        later.event_id: "scheduled",
    }
    assert (found["more"], found["is_complete"]) == (0, True)


async def test_what_is_asked_wrongly_is_said(server, namespace, broker):
    where = ("--url", server.url, "--namespace", namespace)
    await Producer(broker, "orders").publish(1, type="t")
    assert "only one of them" in await typed("why", "orders", *where, code=2)
    assert "no stream" in await typed("why", "missing", "x", *where, code=3)
    assert "no such event waits" in await typed("why", "orders", "--key", "x", *where)
    assert "no trace of it" in await typed("why", "orders", "never", *where)
