"""Ids of events and entries, and counts, are shown as they are; what people wrote stays masked."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from streams import Event, Pipeline, Retry, Settings
from streams.admin.queries import ident, shown, shown_facts
from streams.common.masking import masked
from tests.conftest import eventually
from tests.dashboard.board import board, do, token_in
from tests.servers import clean_environment

IDS = ["order-20261130-0001", "20261130000142", "018f3b2c-7d41-7000-8123-456789012345"]
PHONE = "5511987654321"


@pytest.mark.parametrize(
    "text",
    [
        "1796038289702-0", "0|1796038289702-0", "-5|1796038289702-12", "0|1796038289702-0 5|1796038289703-1",
        "key held by 10|1796038289702-0, since then", "(1796038289702-0)",
    ],
)  # fmt: skip
def test_the_id_of_an_entry_is_shown(text):
    assert shown(text) == text


@pytest.mark.parametrize(
    "text",
    [
        PHONE, f"+{PHONE}", f"{PHONE}-0", f"0|{PHONE}-0", "2348031234567-1", "179603828970-0", "17960382897021-0",
        "1796038289702", "1796038289702-12345678", f"1796038289702-0 {PHONE}", f"{PHONE} 1796038289702-0",
        "1796038289702-0-11",
        "55 1196038-289702-0", "x1796038289702-0", "+1796038289702-0", "123456789|1796038289702-0",
    ],
)  # fmt: skip
def test_what_only_looks_a_bit_like_one_is_masked(text):
    found = shown(text)
    assert PHONE not in found
    assert "******" in found


def test_facts_of_the_audit_record_are_shown_by_their_kind():
    facts = {
        "action": "replay", "by": f"ana {PHONE}", "count": "123456789",
        "entries": "0|1796038289702-0 5|1796038289702-1", "letters": "1796038289702-0 1796038289702-1",
        "event": IDS[1], "reason": f"call {PHONE}", "scope": f"tenant={PHONE}", "to": "16666 1", "key": PHONE,
    }  # fmt: skip
    told = shown_facts(facts)
    kept = ("action", "count", "entries", "letters", "event", "to")
    assert {name: told[name] for name in kept} == {name: facts[name] for name in kept}
    assert {told[name] for name in ("by", "reason", "scope", "key")} == {
        "ana ******21", "call ******21", "tenant=******21", "******21",
    }  # fmt: skip
    assert ident("a\nb\x1b") == "a b "


def test_logs_and_errors_show_it_too():
    assert masked("0|1796038289702-0") == "0|1796038289702-0"


async def test_every_page_the_api_and_the_terminal_show_ids_as_they_are(
    server, namespace
):
    place_ids = await dead_and_waiting(server, namespace)
    url = {"STREAMS_URL": server.url, "STREAMS_NAMESPACE": namespace}
    async with board(server, namespace, accounts={}) as place:
        client = place.client()
        dead = (await client.get("/streams/orders/dead?group=billing")).text
        assert all(found in dead for found in IDS)
        for event_id, letter in zip(IDS, place_ids, strict=True):
            for path in (
                f"event?id={event_id}",
                f"event?group=billing&letter={letter}",
            ):
                assert (
                    f"<h1>{event_id}</h1>"
                    in (await client.get(f"/streams/orders/{path}")).text
                )
        form = {"token": token_in(dead), "group": "billing", "letter": place_ids[0]}
        assert (
            f": {IDS[0]}</h1>"
            in (await client.post("/streams/orders/edit", data=form)).text
        )
        asked = await client.post(
            "/streams/orders/cancel", data={"token": token_in(dead), "id": IDS[2]}
        )
        assert f"<b>{IDS[2]}</b>" in asked.text
        assert f"{IDS[0]}</a>" in (await client.get("/search?q=key-0")).text
        again = {
            "token": token_in(dead),
            "group": "billing",
            "scope": "selected",
            "letter": place_ids[1],
        }
        assert (await do(client, "/streams/orders/replay", again)).status_code == 303
        paused = {
            "token": token_in(dead),
            "group": "billing",
            "attribute": "tenant",
            "value": PHONE,
            "reason": PHONE,
        }
        assert (
            "billing tenant=******21 is paused"
            in (await do(client, "/streams/orders/pause", paused)).text
        )
        rows = await place.dashboard._pages.queries.audit("orders", "", 50)
        (entries,) = [
            facts["entries"] for _, facts in rows if facts["action"] == "replay"
        ]
        page = (await client.get("/audit?stream=orders")).text
        api = (await client.get("/api/v1/streams/orders/audit")).text
    typed = [
        await run("audit", "orders", url=url),
        await run("audit", "orders", "--json", url=url),
    ]
    for text in (page, api, *typed):
        assert f"{entries}" in text
        assert IDS[0] in text  # Its body was revealed.
        assert PHONE not in text
        assert "******21" in text
    found = await run("find", "key-0", url=url)
    assert IDS[0] in found
    assert json.loads(typed[1])["rows"][0]["scope"].endswith("tenant=******21")


async def dead_and_waiting(server, namespace) -> list[str]:
    """Dead letters of the ids, in their order; the ids of the letters."""
    pipeline = Pipeline(settings=Settings(url=server.url, namespace=namespace))

    @pipeline.handler("orders", group="billing", retry=Retry(max_retries=0))
    async def dies(event: Event) -> None:
        raise OSError("no")

    running = asyncio.create_task(pipeline.run())
    async with pipeline.twin() as looking:
        letters = looking.dead_letters("orders", "billing")
        for n, event_id in enumerate(IDS):
            await looking.publish(
                "orders", {}, type="dies", id=event_id, key=f"key-{n}"
            )

        async def all_died() -> bool:
            return await letters.count() == len(IDS)

        await eventually(all_died, seconds=30, what="the letters")
        pipeline.stop()
        await running
        by_event = {letter.event_id: letter.id for letter in await letters.page()}
        return [by_event[event_id] for event_id in IDS]


async def run(*words: str, url: dict[str, str]) -> str:
    environment = clean_environment() | url | {"COLUMNS": "200"}
    command = (sys.executable, "-m", "streams", *words)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    told, errors = await process.communicate()
    assert process.returncode == 0, errors
    return told.decode()
