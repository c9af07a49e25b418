"""What the pages show and do, as somebody uses them."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from streams import Event, Limit, Pipeline, Retry, Settings
from streams.dashboard.accounts import is_password
from streams.dashboard.words import PORTUGUESE, language_of
from streams.whatsapp import Text
from streams.whatsapp.pages import board as messages
from tests.conftest import eventually
from tests.dashboard.board import board, do, token_in, trouble
from tests.servers import clean_environment
from tests.whatsapp.stage import PHONE, stage
from tests.whatsapp.test_sender import status_is

TEMPLATES = Path(__file__).parents[2] / "streams" / "dashboard" / "templates"


async def test_the_overview_says_what_stands_where(server, namespace):
    await trouble(server, namespace)
    async with board(server, namespace) as place:
        page = (await (await place.log_in("viewer")).get("/")).text
        row = re.search(
            r'<th scope="row"><a [^>]*>billing</a></th>(.*?)</tr>', page, re.DOTALL
        )
        assert row is not None
        cells = [
            re.sub(r"<[^>]+>", "", cell).strip()
            for cell in re.findall(r"<td.*?</td>", row[1], re.DOTALL)
        ]
        assert cells[:2] == ["0", ""]  # Nothing waits, on no level,
        # nothing runs, one waits for its retry, two are dead.
        assert cells[3:6] == ["0", "1", "2"]
        assert "tenant=plain" in page
        assert "1 Scheduled" in page


async def test_an_empty_server_has_pages_too(server, namespace):
    async with board(server, namespace) as place:
        client = await place.log_in("viewer")
        for path in ("/", "/workers", "/audit", "/whatsapp", "/search?q=x"):
            reply = await client.get(path)
            assert reply.status_code == 200
            assert "Nothing here." in reply.text
        for path in (
            "/streams/nowhere",
            "/streams/orders%20x",
            "/streams/nowhere/dead",
            "/whatsapp/message?id=x",
            "/x",
        ):
            assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize("state", ["stored", "processing", "retrying", "scheduled"])
async def test_entries_are_listed_by_state_and_found(server, namespace, state):
    await trouble(server, namespace)
    async with board(server, namespace) as place:
        client = await place.log_in("viewer")
        page = (await client.get(f"/streams/orders?state={state}")).text
        shown = {
            "stored": "waits-0",
            "retrying": "waits-0",
            "scheduled": "later-0",
            "processing": "Nothing here.",
        }
        assert shown[state] in page
        for query in (
            "level=99999999999999999999999",
            "level=x",
            "first=-5",
            "first=99999999999",
            "after=x",
            "group=<b>",
        ):
            assert (
                await client.get(f"/streams/orders?state={state}&{query}")
            ).status_code in (200, 400), query


async def test_one_event_with_its_errors_and_its_body_for_admins(server, namespace):
    await trouble(server, namespace)
    async with board(server, namespace) as place:
        viewer, admin = await place.log_in("viewer"), await place.log_in("admin")
        found = (await viewer.get("/search", params={"q": "dies-0 plain"})).text
        assert "/streams/orders/event?group=billing&amp;letter=" in found
        assert (
            "it is scheduled for"
            in (
                await viewer.get("/streams/orders/event", params={"id": "later-0"})
            ).text
        )
        page = (
            await viewer.get("/streams/orders/event", params={"id": "dies-0 plain"})
        ).text
        assert "OSError" in page
        assert "The body is hidden." in page
        assert "Show the body" not in page
        page = (
            await admin.get("/streams/orders/event", params={"id": "dies-0 plain"})
        ).text
        form = {"token": token_in(page), "id": "dies-0 plain"}
        page = (await do(admin, "/streams/orders/reveal", form)).text
        assert "&#34;say&#34;" in page
        audit = (await viewer.get("/audit?stream=orders")).text
        assert "reveal" in audit
        assert "dashboard: admin" in audit
        rows = len(await place.dashboard._pages.queries.audit("orders", "", 200))
        assert (
            await do(admin, "/streams/orders/reveal", {**form, "id": "nothing"})
        ).status_code == 404
        assert (
            len(await place.dashboard._pages.queries.audit("orders", "", 200)) == rows
        )


async def test_dead_letters_are_filtered_replayed_and_discarded(server, namespace):
    await trouble(server, namespace, ["one", "two", "three"])
    async with board(server, namespace) as place:
        client = await place.log_in("operator")
        page = (await client.get("/streams/orders/dead?group=billing")).text
        assert "(6)" in page
        page = (
            await client.get(
                "/streams/orders/dead?group=billing&tenant=two&reason=retries-used-up"
            )
        ).text
        (ident,) = re.findall(r'name="letter" value="([\d-]+)"', page)
        form = {
            "token": token_in(page),
            "group": "billing",
            "scope": "selected",
            "letter": ident,
        }
        asked = await client.post("/streams/orders/replay", data=form)
        assert "Are you sure?" in asked.text
        assert "<b>1</b> event<" in asked.text
        letters = place.pipeline.dead_letters("orders", "billing")
        assert await letters.count() == 6  # Only asked.
        done = await client.post("/streams/orders/replay", data={**form, "sure": "yes"})
        assert done.status_code == 303
        assert (
            "1 event was put back" in (await client.get(done.headers["location"])).text
        )
        assert await letters.count() == 5
        again = await client.post(
            "/streams/orders/replay", data={**form, "sure": "yes"}
        )
        assert again.status_code == 409  # Somebody was faster.
        form = {
            "token": token_in(page),
            "group": "billing",
            "scope": "all",
            "type": "dies",
        }
        asked = (await client.post("/streams/orders/discard", data=form)).text
        assert "<b>2</b> events" in asked
        assert "deleted for good" in asked
        await client.post("/streams/orders/discard", data={**form, "sure": "yes"})
        assert await letters.count() == 3
        page = (await client.get("/audit?stream=orders")).text
        assert "discard" in page
        assert "replay" in page
        assert "dashboard: operator" in page


async def test_a_stream_is_paused_and_goes_on_and_events_are_cancelled(
    server, namespace
):
    await trouble(server, namespace)
    async with board(server, namespace) as place:
        client = await place.log_in("operator")
        page = (await client.get("/streams/orders?state=scheduled")).text
        form = {"token": token_in(page), "group": "billing", "reason": "bank closed"}
        assert "is paused" in (await do(client, "/streams/orders/pause", form)).text
        page = (await client.get("/streams/orders")).text
        assert "bank closed" in page
        sign = re.findall(r'name="pause" value="([0-9a-f]+)"', page)
        assert len(sign) == 2  # That of the tenant, and this one.
        for pause in sign:
            assert (
                "goes on"
                in (
                    await do(client, "/streams/orders/resume", {**form, "pause": pause})
                ).text
            )
        assert (
            await client.post("/streams/orders/resume", data={**form, "pause": sign[0]})
        ).status_code == 404
        assert "bank closed" not in (await client.get("/streams/orders")).text
        page = (await client.get("/streams/orders?state=scheduled")).text
        (ident,) = set(re.findall(r'name="id" value="([^"]+)"', page))
        form = {"token": token_in(page), "id": ident, "group": ""}
        assert (
            "was cancelled" in (await do(client, "/streams/orders/cancel", form)).text
        )
        assert (await do(client, "/streams/orders/cancel", form)).status_code in (
            404,
            409,
        )
        assert (
            "Nothing here."
            in (await client.get("/streams/orders?state=scheduled")).text
        )
        reply = await client.post(
            "/streams/orders/pause", data={**form, "group": "nobody"}
        )
        assert reply.status_code == 404


async def test_workers_are_seen_with_what_they_do(server, namespace):
    pipeline = Pipeline(settings=Settings(url=server.url, namespace=namespace))
    free = asyncio.Event()

    @pipeline.handler("orders", group="billing", concurrency=7)
    async def work(event: Event) -> None:
        await free.wait()

    running = asyncio.create_task(pipeline.run())
    async with pipeline.twin() as looking, board(server, namespace) as place:
        await looking.publish("orders", 1, type="t")
        client = await place.log_in("viewer")

        async def seen() -> bool:
            return "0 / 7" in (await client.get("/workers")).text

        await eventually(seen, what="the worker")
        free.set()

        async def gone() -> bool:
            return "Nothing here." in (await client.get("/workers")).text

        async def done() -> bool:
            return (
                await looking.broker.control.call(
                    "XLEN", looking.broker.keys("orders").level(0)
                )
                == 0
            )

        await eventually(done)
        pipeline.stop()
        await running
        await eventually(gone, what="the worker to leave")
        page = (await client.get("/streams/orders")).text
        assert "1 done, 0 retried, 0 dead" in page
        assert ": 1 done, 0 retried, 0 dead</title>" in page


async def test_held_keys_limits_and_findings(server, namespace):
    pipeline = Pipeline(settings=Settings(url=server.url, namespace=namespace))

    @pipeline.handler("orders", group="billing", order_by="subject", on_dead="hold", retry=Retry(max_retries=0),
                      limits=[Limit("tenant", rate="1000/s", burst=10)])  # fmt: skip
    async def work(event: Event) -> None:
        if event.data == 0:
            raise OSError

    running = asyncio.create_task(pipeline.run())
    async with pipeline.twin() as looking, board(server, namespace) as place:
        for subject in (PHONE, "second"):
            await looking.publish_many(
                "orders", range(3), type="t", subject=subject, tenant="acme"
            )
        keys = looking.ordered_keys("orders", "billing")

        async def both() -> bool:
            return len(await keys.list(state="held")) == 2

        await eventually(both, what="both keys to be held")
        client = await place.log_in("operator")
        page = (await client.get("/streams/orders")).text
        assert "Held keys" in page
        assert PHONE not in page
        assert "1000/s burst 10" in page
        assert "orders" in (await client.get("/doctor")).text
        for action in ("skip", "release"):
            page = (await client.get("/streams/orders")).text
            sign = re.findall(r'name="key" value="([0-9a-f]+)"', page)[0]
            form = {"token": token_in(page), "group": "billing", "key": sign}
            assert (
                "goes on" in (await do(client, f"/streams/orders/{action}", form)).text
            )
            assert (
                await client.post(
                    f"/streams/orders/{action}", data={**form, "key": "x"}
                )
            ).status_code == 404

        async def one_left() -> bool:
            # The one that was released died again.
            return len(await keys.list(state="held")) == 1

        await eventually(one_left, what="one key to go on")
        pipeline.stop()
        await running


async def test_messages_instances_and_tenants(server, namespace):
    async with stage(server, namespace) as sending, board(server, namespace) as place:
        ident = await sending.messages.add(PHONE, Text("x"), tenant="acme")
        await status_is(sending, ident, "sent")
        wamid = (await sending.messages.show(ident)).provider_id
        client = await place.log_in("viewer")
        page = (await client.get("/whatsapp")).text
        assert (
            '<th scope="row">acme</th><td class="n">1</td><td class="n">1</td>' in page
        )
        assert "open" in page
        for wanted in (ident, wamid):
            found = (await client.get("/search", params={"q": wanted})).text
            assert f"/whatsapp/message?id={ident}" in found
        page = (await client.get("/whatsapp/message", params={"id": ident})).text
        assert page.index("pending") < page.index("processing") < page.rindex("sent")
        assert PHONE not in page


async def test_many_viewers_cost_the_server_no_more_than_one(server, namespace):
    await trouble(server, namespace)
    async with board(server, namespace) as place:
        clients = [await place.log_in("viewer") for _ in range(3)]
        asked = [clients[n % 3].get("/") for n in range(50)]
        assert {reply.status_code for reply in await asyncio.gather(*asked)} == {200}
        assert place.dashboard._pages.queries.looks <= 3


async def test_a_server_that_is_away_is_said(make_server, namespace, binary):
    other = make_server(binary)
    async with board(other, namespace) as place:
        client = await place.log_in("viewer")
        other.kill()
        for path in ("/", "/streams/orders/event?id=x", "/search?q=x"):
            reply = await client.get(path, timeout=30.0)
            assert reply.status_code == 503, path
            assert "does not answer" in reply.text
        other.start()

        async def back() -> bool:
            return (await client.get("/", timeout=30.0)).status_code == 200

        await eventually(back, seconds=30.0)


async def test_the_pages_speak_portuguese(server, namespace):
    async with board(server, namespace) as place:
        client = await place.log_in("viewer", **{"Accept-Language": "pt-BR,en;q=0.8"})
        page = (await client.get("/")).text
        assert '<html lang="pt-BR">' in page
        assert "Visão geral" in page
    assert [language_of(header) for header in ("", "de, pt;q=0.5", "en-US", "pt")] == [
        "en",
        "pt",
        "en",
        "pt",
    ]


def words_of(templates):
    used = set()
    for path in templates.glob("**/*.html"):
        text = path.read_text("utf-8")
        used |= set(re.findall(r"_\(['\"]([^'\"]+)['\"]\)", text))
    return used


def test_every_word_of_the_pages_is_translated():
    used, theirs = words_of(TEMPLATES), words_of(messages.TEMPLATES)
    assert len(used) > 50
    assert len(theirs) > 10
    assert sorted(used - PORTUGUESE.keys()) == []
    assert sorted(theirs - PORTUGUESE.keys() - messages.PORTUGUESE.keys()) == []


async def test_the_command_serves_it(server, namespace, tmp_path):
    environment = clean_environment() | {
        "STREAMS_URL": server.url,
        "STREAMS_NAMESPACE": namespace,
    }
    command = (sys.executable, "-m", "streams", "dashboard")
    refused = subprocess.run(
        [*command, "--host", "0.0.0.0"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=30,
        check=False,
    )
    assert refused.returncode == 2
    assert "can be reached by others" in refused.stderr
    hashed = subprocess.run(
        [*command, "--hash-password"], input="secret\n", capture_output=True, text=True, env=environment,
        timeout=30, check=True,
    )  # fmt: skip
    assert is_password("secret", hashed.stdout.strip())
    process = await asyncio.create_subprocess_exec(
        *command, "--port", "0", stderr=subprocess.PIPE, env=environment
    )
    try:
        assert process.stderr is not None
        line = (await asyncio.wait_for(process.stderr.readline(), 30)).decode()
        assert "the dashboard at http://127.0.0.1:" in line
        assert b"put no proxy before it" in await asyncio.wait_for(
            process.stderr.readline(), 30
        )
        async with httpx.AsyncClient() as client:
            reply = await client.get(line.split(" at ")[1].split(";")[0] + "/")
        assert reply.status_code == 200
        assert "uvicorn" not in reply.headers.get("server", "")
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 20)
