"""What operators do on the pages, as somebody uses them: each asks, is done, is written down, and can be seen after."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import asdict

from streams import Event, Filter, Limit, Pipeline, Retry, Settings
from streams.whatsapp.outbox.endpoints import KIND, Endpoint
from streams.whatsapp.registry import InstanceRegistry
from streams.whatsapp.status import STREAM
from tests.conftest import eventually
from tests.dashboard.board import board, do, fields_of, token_in, trouble
from tests.whatsapp.stage import PHONE

DEAD = "/streams/orders/dead?group=billing"


async def actions(place, stream: str = "orders") -> list[str]:
    rows = await place.dashboard._pages.queries.audit(stream, "", 100)
    return [facts["action"] for _, facts in rows if facts["by"].startswith("dashboard")]


async def test_what_waits_runs_now(server, namespace):
    await trouble(server, namespace)
    async with board(server, namespace) as place:
        client = await place.log_in("operator")
        for state in ("scheduled", "retrying"):
            page = (
                await client.get(f"/streams/orders?group=billing&state={state}")
            ).text
            form = page[page.index('action="/streams/orders/run-now"') :]
            fields = fields_of(form[: form.index("</form>")])
            asked = await client.post("/streams/orders/run-now", data=fields)
            assert "as soon as a worker is free" in asked.text
            assert (
                "is due now"
                in (await do(client, "/streams/orders/run-now", fields)).text
            )
        assert await actions(place) == ["run-now", "run-now"]
        reply = await do(
            client,
            "/streams/orders/run-now",
            {**fields, "id": "dies-0 plain", "group": ""},
        )
        assert reply.status_code == 409


async def test_a_letter_is_edited_and_replayed(server, namespace):
    await trouble(server, namespace)
    async with board(server, namespace) as place:
        admin, operator = await place.log_in("admin"), await place.log_in("operator")
        letters = place.pipeline.dead_letters("orders", "billing")
        (letter,) = await letters.page(Filter(type="dies"))
        path = f"/streams/orders/event?group=billing&letter={letter.id}"
        assert "Edit and replay" not in (await operator.get(path)).text
        page = (await admin.get(path)).text
        form = {"token": token_in(page), "group": "billing", "letter": letter.id}
        page = (await admin.post("/streams/orders/edit", data=form)).text
        assert "<textarea" in page
        assert "&#34;plain&#34;" in page
        wrong = await admin.post(
            "/streams/orders/edit", data={**form, "body": '{"say": "mend'}
        )
        assert wrong.status_code == 400
        assert "The body is no JSON." in wrong.text
        assert "mend" in wrong.text  # What somebody wrote is not lost.
        assert await letters.count() == 2
        done = await do(
            admin, "/streams/orders/edit", {**form, "body": '{"say": "mended"}'}
        )
        assert done.status_code == 303
        assert await letters.count() == 1
        assert await actions(place) == ["edit-and-replay", "reveal"]
        page = (await admin.get(done.headers["location"])).text
        assert "What became of replays" in page
        assert "(edited)" in page
        assert (await admin.post("/streams/orders/edit", data=form)).status_code == 404


async def test_all_that_match_are_replayed_at_a_rate_watched_and_stopped(
    server, namespace
):
    await trouble(server, namespace, [f"t{n}" for n in range(20)])
    async with board(server, namespace) as place:
        client = await place.log_in("operator")
        page = (await client.get(DEAD)).text
        form = {
            "token": token_in(page),
            "group": "billing",
            "scope": "all",
            "type": "dies",
        }
        asked = (await client.post("/streams/orders/replay", data=form)).text
        assert "<b>20</b> events" in asked
        assert 'name="rate" value="100" min="1" max="1000"' in asked
        letters = place.pipeline.dead_letters("orders", "billing")
        done = await client.post(
            "/streams/orders/replay", data={**fields_of(asked), "rate": "1"}
        )
        page = (await client.get(done.headers["location"])).text
        assert "The replay runs." in page
        (job,) = re.findall(r'name="job" value="([0-9a-f]+)"', page)

        async def one_moved() -> bool:
            return await letters.count() == 39

        await eventually(one_moved, what="the first to be put back")
        stopped = await do(
            client,
            "/streams/orders/stop",
            {"token": form["token"], "group": "billing", "job": job},
        )
        assert stopped.status_code == 303
        assert "Stopped" in (await client.get(DEAD)).text
        again = await do(
            client,
            "/streams/orders/stop",
            {"token": form["token"], "group": "billing", "job": job},
        )
        assert again.status_code == 409
        left = await letters.count()
        asked = (await client.post("/streams/orders/replay", data=form)).text
        await client.post(
            "/streams/orders/replay", data={**fields_of(asked), "rate": "99999999"}
        )

        async def all_moved() -> bool:
            return await letters.count() == 20

        await eventually(all_moved, what="the others to be put back")
        assert 37 <= left <= 39
        rows = await place.dashboard._pages.queries.audit("orders", "", 200)
        acts = [
            (facts["action"], facts.get("rate"))
            for _, facts in rows
            if "replay" in facts["action"]
        ]
        assert acts == [("replay", "1000"), ("stop-replay", None), ("replay", "1")]
        assert (
            sum(int(facts["count"]) for _, facts in rows if facts["action"] == "replay")
            == 20
        )


async def test_letters_are_exported_masked_or_whole(server, namespace):
    await trouble(server, namespace, [PHONE])
    async with board(server, namespace) as place:
        operator, admin = await place.log_in("operator"), await place.log_in("admin")
        for client, bodies, whole in (
            (operator, "", False),
            (operator, "yes", False),
            (admin, "yes", True),
        ):
            page = (await client.get(DEAD)).text
            form = {
                "token": token_in(page),
                "group": "billing",
                "bodies": bodies,
                "type": "dies",
            }
            asked = (await client.post("/streams/orders/export", data=form)).text
            assert ("unmasked" in asked) is whole
            done = await client.post("/streams/orders/export", data=fields_of(asked))
            assert (
                done.headers["content-disposition"]
                == 'attachment; filename="orders-billing-dead.jsonl"'
            )
            (row,) = [json.loads(line) for line in done.text.splitlines()]
            assert row["reason"] == "retries-used-up"
            assert (PHONE in done.text) is whole
        assert await actions(place) == ["export"] * 3


async def test_letters_are_filtered_by_time_and_text(server, namespace):
    await trouble(server, namespace, ["one", "two"])
    async with board(server, namespace) as place:
        client = await place.log_in("viewer")

        async def shown(**query: str) -> int:
            page = (
                await client.get(
                    "/streams/orders/dead", params={"group": "billing", **query}
                )
            ).text
            return page.count("/streams/orders/event?group=billing&amp;letter=")

        assert await shown() == 4
        assert await shown(text="TWO") == 2
        assert await shown(since="2020-01-01T00:00", until="2020-01-02T00:00") == 0
        assert await shown(since="2020-01-01T00:00") == 4
        assert await shown(since="nonsense") == 4


async def test_what_carries_a_value_is_paused_and_limits_are_set(server, namespace):
    pipeline = Pipeline(settings=Settings(url=server.url, namespace=namespace))

    @pipeline.handler(
        "orders", group="billing", limits=[Limit("tenant", rate="1000/s", burst=10)]
    )
    async def work(event: Event) -> None:
        return None

    running = asyncio.create_task(pipeline.run())
    async with pipeline.twin() as other, board(server, namespace) as place:
        await other.publish("orders", 1, type="t", tenant="acme")
        client = await place.log_in("operator")

        async def there() -> bool:
            return "1000/s burst 10" in (await client.get("/streams/orders")).text

        await eventually(there, what="the limit to be declared")
        token = token_in((await client.get("/streams/orders")).text)
        form = {
            "token": token,
            "group": "billing",
            "attribute": "tenant",
            "value": "acme",
            "reason": "asked for it",
        }
        assert (
            "orders/billing tenant=acme is paused"
            in (await do(client, "/streams/orders/pause", form)).text
        )
        (pause,) = await other.pauses("orders").list()
        assert (pause.attribute, pause.value, pause.group) == (
            "tenant",
            "acme",
            "billing",
        )
        form = {
            "token": token,
            "group": "billing",
            "limit": "tenant",
            "limit_rate": "5/s",
        }
        assert "is set" in (await do(client, "/streams/orders/limit", form)).text
        (limit,) = await other.limits("orders", "billing").list()
        assert limit.set.startswith("5/s")
        assert (
            await client.post(
                "/streams/orders/limit", data={**form, "limit_rate": "fast"}
            )
        ).status_code == 400
        assert (
            await client.post("/streams/orders/limit", data={**form, "limit": "x"})
        ).status_code == 404
        assert (
            "is set"
            in (
                await do(client, "/streams/orders/limit", {**form, "limit_rate": ""})
            ).text
        )
        (limit,) = await other.limits("orders", "billing").list()
        assert limit.set == ""
        pipeline.stop()
        await running


async def test_instances_are_paused_and_endpoints_are_enabled(server, namespace):
    async with board(server, namespace) as place:
        await InstanceRegistry(place.pipeline).add(
            "i-1", {"provider": "cloud", "name": "shop", "token_env": "X"}
        )
        await place.pipeline.publish(STREAM, 1, type="t", instance="i-1")
        made = Endpoint(
            "ep_1",
            "acme",
            "https://acme.example/hooks?secret=s3cret",
            disabled="answers 410",
        )
        await place.pipeline.records(STREAM, KIND).change(
            "ep_1", lambda _: asdict(made)
        )
        client = await place.log_in("operator")
        page = (await client.get("/whatsapp")).text
        (sign,) = re.findall(r'name="sign" value="([0-9a-f]+)"', page)
        form = {"token": token_in(page), "attribute": "instance", "sign": sign}
        assert (
            "instance=i-1 is paused"
            in (await do(client, f"/streams/{STREAM}/pause", form)).text
        )
        page = (await client.get("/whatsapp")).text
        (pause,) = re.findall(r'name="pause" value="([0-9a-f]+)"', page)
        assert (
            "goes on"
            in (
                await do(client, f"/streams/{STREAM}/resume", {**form, "pause": pause})
            ).text
        )
        assert (
            await client.post(f"/streams/{STREAM}/pause", data={**form, "sign": "x"})
        ).status_code == 404
        page = (await client.get("/whatsapp/endpoints")).text
        assert "acme.example" in page
        assert "s3cret" not in page
        assert "answers 410" in page
        form = {"token": form["token"], "endpoint": "ep_1"}
        stream = re.findall(r'action="/streams/([^/"]+)/endpoint"', page)[0]
        assert "goes on" in (await do(client, f"/streams/{stream}/endpoint", form)).text
        assert "answers 410" not in (await client.get("/whatsapp/endpoints")).text
        assert (
            await client.post(
                f"/streams/{stream}/endpoint", data={**form, "endpoint": "x"}
            )
        ).status_code == 404


async def test_what_a_worker_has_in_hand_and_the_life_of_an_event(server, namespace):
    pipeline, free = (
        Pipeline(settings=Settings(url=server.url, namespace=namespace)),
        asyncio.Event(),
    )

    @pipeline.handler("orders", group="billing", types=["waits"])
    async def work(event: Event) -> None:
        await free.wait()

    @pipeline.handler(
        "orders",
        group="billing",
        types=["fails"],
        retry=Retry(delay=3600.0, jitter=0.0),
    )
    async def fail(event: Event) -> None:
        raise OSError("the bank is closed")

    running = asyncio.create_task(pipeline.run())
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with pipeline.twin() as other, board(server, namespace) as place:
        await other.publish("orders", 1, type="waits", id="held")
        await other.publish(
            "orders",
            1,
            type="fails",
            id="failed",
            traceparent=f"00-{trace}-00f067aa0ba902b7-01",
        )
        client = await place.log_in("viewer")

        async def in_hand() -> bool:
            page = (await client.get("/workers")).text
            found = re.findall(r'href="(/streams/orders/consumer[^"]+)"', page)
            return (
                bool(found)
                and "held" in (await client.get(found[0].replace("&amp;", "&"))).text
            )

        await eventually(in_hand, what="the event in the worker's hand")
        for query in ("name=nobody", "name=", "group=x&name=y"):
            assert (
                await client.get(f"/streams/orders/consumer?{query}")
            ).status_code == 404

        async def failed() -> bool:
            return (
                "the bank is closed"
                in (await client.get("/streams/orders/event?id=failed")).text
            )

        await eventually(failed)
        page = (await client.get("/streams/orders/event?id=failed")).text
        assert f"Trace <code>{trace}</code>" in page
        assert "in fail</code>" in page  # Where it came from.
        life = page.partition('<ol class="timeline">')[2].partition("</ol>")[0]
        assert (
            life.index("<b>stored</b>")
            < life.index("<b>failed</b>")
            < life.index("<b>due</b>")
        )
        free.set()
        pipeline.stop()
        await running
