"""What an embedded server took while the real one was away is handed over, once, whatever state it is in."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest

from streams.settings import Settings
from streams.whatsapp import Application, Messages, Recipient, Text
from streams.whatsapp.relay import Relay
from streams.whatsapp.sandbox.phone import Fault
from streams.whatsapp.status import GROUP, STREAM
from tests.conftest import eventually
from tests.servers import Server
from tests.whatsapp.sandboxes import Sandboxes
from tests.whatsapp.stage import PHONE, QUICK, stage
from tests.whatsapp.test_sender import status_is


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr("streams.whatsapp.relay.QUIET", 1.0)
    monkeypatch.setattr("streams.whatsapp.relay._AWAY", 0.2)


async def test_everything_is_handed_over_once(server, namespace):
    there, here = (
        Settings(url=server.url, namespace=f"{namespace}-source"),
        Settings(url=server.url, namespace=namespace),
    )
    async with stage(server, f"{namespace}-source") as away:
        sent = await away.messages.add(
            PHONE, Text("sent"), tenant="acme", idempotency_key="k1"
        )
        await status_is(away, sent, "sent")
        away.phone.faults = [Fault(131026, share=1.0)]
        failed = await away.messages.add(PHONE, Text("failed"), tenant="acme")
        await status_is(away, failed, "failed")
        away.phone.faults = [Fault(131000, share=1.0)]
        retrying = await away.messages.add(
            PHONE, Text("retrying"), tenant="acme", max_retries=7, retry_delay=0.5
        )
        await status_is(away, retrying, "retrying")
        messages = away.messages
        scheduled = await messages.add(
            PHONE, Text("scheduled"), tenant="acme", delay=2.0, category="marketing"
        )
        await messages.add(
            PHONE,
            Text("far"),
            tenant="acme",
            delay=3600.0,
            idempotency_key="k2",
            expires=7200.0,
        )
        wamid = (await messages.show(sent)).provider_id
    # The worker there has ended; somebody still stores a message.
    application = Application(there, QUICK, environ={})
    async with application.pipeline.asynchronous as pipeline:
        pending = await Messages(pipeline, QUICK).add(
            "5511888880000", Text("pending"), tenant="acme", priority=5
        )
        await pipeline.pauses(STREAM).pause(instance="1")
    await application.providers.close()
    async with stage(server, namespace) as place:
        relay = Relay(there, here, place.application.settings)
        running = asyncio.create_task(relay.run())
        for ident in (pending, retrying, scheduled):
            await status_is(place, ident, "sent")
        await running
        assert (relay.done.messages, relay.done.statuses) == (4, 2)
        assert await place.messages.status(failed) == "failed"
        assert (await place.messages.show(wamid)).id == sent
        # What was sent from there is known here by its key, and not sent again.
        assert (
            await place.messages.add(
                PHONE, Text("sent"), tenant="acme", idempotency_key="k1"
            )
            == sent
        )
        far = await place.messages.add(
            PHONE, Text("far"), tenant="acme", idempotency_key="k2"
        )
        assert await place.messages.status(far) == "pending"
        texts = sorted(taken.body["text"]["body"] for taken in place.phone.taken)
        assert texts == ["pending", "retrying", "scheduled"]
        totals = await place.messages.totals()
        assert (totals["pending"], totals["sent"], totals["failed"]) == (6, 4, 1)
        assert len(await place.messages.sent_to(PHONE)) == 5
        found = await place.application.pipeline.asynchronous.status().find(STREAM, far)
        assert (
            3500
            < found[0].due - place.application.pipeline.asynchronous.broker.clock.now()
            <= 3600
        )
        again = Relay(there, here, place.application.settings)
        await again.run()
        assert (again.done.messages, again.done.statuses) == (0, 0)


async def test_what_nobody_knows_the_outcome_of_is_not_sent_again(server, namespace):
    there, here = (
        Settings(url=server.url, namespace=f"{namespace}-source"),
        Settings(url=server.url, namespace=namespace),
    )
    async with stage(
        server, f"{namespace}-source", replace(QUICK, timeout=0.3, unknown_after=600.0)
    ) as away:
        away.phone.faults = [Fault(-1, count=1)]
        ident = await away.messages.add(PHONE, Text("x"), tenant="acme")
        await eventually(lambda: away.sent(ident) == 1)

        async def open_() -> bool:
            return (await away.messages.show(ident)).reason == "unknown"

        await eventually(open_, what="the outcome to be unknown")
    async with stage(server, namespace) as place:
        relay = Relay(there, here, place.application.settings)
        await relay.run()
        assert relay.done.messages == 1  # The decision.
        assert await place.messages.status(ident) == "processing"
        assert (await place.messages.show(ident)).reason == "unknown"
        assert not place.phone.taken


async def test_an_outage_of_the_real_server_costs_nothing(
    binary, server, namespace, monkeypatch
):
    monkeypatch.setattr("streams.whatsapp.relay.QUIET", 100.0)
    there = Settings(url=server.url, namespace=f"{namespace}-source")
    application = Application(there, QUICK, environ={})
    other = Server(binary, aof=True).start()
    try:
        async with (
            application.pipeline.asynchronous as pipeline,
            stage(other, namespace) as place,
        ):
            messages = Messages(pipeline, QUICK)
            relay = Relay(
                there,
                Settings(url=other.url, namespace=namespace, timeout=0.5),
                place.application.settings,
            )
            running = asyncio.create_task(relay.run())
            first = await messages.add(PHONE, Text("x"))
            await eventually(lambda: place.sent(first), what="the relay works")
            other.kill()
            idents = [
                await messages.add(f"551199999{n:04}", Text("x"), max_retries=0)
                for n in range(20)
            ]
            retry = pipeline.broker.keys(STREAM).retry(GROUP)
            await eventually(
                lambda: pipeline.broker.control.call("ZCARD", retry),
                seconds=30.0,
                what="one waits",
            )
            other.start()
            for ident in idents:
                await eventually(
                    lambda ident=ident: place.sent(ident),
                    seconds=30.0,
                    what="it goes out",
                )
            relay.stop()
            await running
            assert {place.sent(ident) for ident in idents} == {1}
            assert await pipeline.dead_letters(STREAM, GROUP).count() == 0
    finally:
        other.close()


PROGRAM = f"""
    import json, sys, time
    from streams.whatsapp import get_message_queue, get_message_worker
    from streams.whatsapp import queue as module
    from streams.whatsapp.queue import reset

    queue = get_message_queue()
    sent = queue.add_message("{PHONE}", "now", idempotency_key="k")
    while queue.get_status(sent) != "sent":
        time.sleep(0.02)
    later = [queue.add_message("{PHONE}", "later", delay=3600, idempotency_key=f"later-{{n}}") for n in range(5)]
    before = get_message_worker().get_stats()
    print("ready", flush=True)
    sys.stdin.readline()
    # Statuses are handed over after what is scheduled, and both by a relay that runs beside this.
    while get_message_worker().get_stats()["handed_over"] < 5 or queue.get_status(sent) is None:
        time.sleep(0.05)
    stats = get_message_worker().get_stats()
    found = dict(before=[before["embedded"], before["running"]], after=[stats["embedded"], stats["running"]],
                 later=[queue.get_status(ident) for ident in later], sent=queue.get_status(sent),
                 again=queue.add_message("{PHONE}", "now", idempotency_key="k") == sent, size=queue.get_queue_size())
    reset()
    print(json.dumps(found))
"""


async def test_a_program_goes_on_with_the_real_server_by_itself(
    binary, make_server, tmp_path, namespace
):
    """Started while that is away; what it queued meanwhile is there afterwards, and what it sent is known."""
    real = make_server(binary)
    real.kill()
    async with Sandboxes() as sandbox:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("STREAMS_", "REDIS", "USE_"))
        } | {"XDG_DATA_HOME": str(tmp_path), "STREAMS_URL": real.url, "STREAMS_NAMESPACE": namespace,
             "STREAMS_TIMEOUT": "1", **sandbox.environment}  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", textwrap.dedent(PROGRAM)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=tmp_path,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdin is not None
            assert await asyncio.wait_for(process.stdout.readline(), 60) == b"ready\n"
            assert len(sandbox.phone.taken) == 1
            real.start()
            process.stdin.write(b"\n")
            output, log = await asyncio.wait_for(process.communicate(), 60)
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode == 0, log.decode()
        found = json.loads(output.splitlines()[-1])
        assert found == {
            "before": [True, True], "after": [False, False], "later": ["pending"] * 5, "sent": "sent", "again": True,
            "size": 5,
        }  # fmt: skip
        assert b"the server is back" in log
        assert len(sandbox.phone.taken) == 1
        with real.client() as client:
            assert client.zcard(f"{namespace}:{{whatsapp}}:scheduled") == 5
    assert Recipient.parse(PHONE).text not in log.decode()
