"""The API as a program sees it: publishing, following, and mending."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any
from urllib.parse import quote

from jsonschema import Draft202012Validator

from streams import Event, Pipeline, Settings
from tests.conftest import eventually
from tests.dashboard.api import OPERATIONS, api, made
from tests.dashboard.board import trouble
from tests.whatsapp.stage import PHONE, stage

DEAD = "/streams/orders/groups/billing/dead"


async def test_a_service_in_any_language_publishes_and_follows(server, namespace):
    pipeline = Pipeline(settings=Settings(url=server.url, namespace=namespace))
    seen: list[tuple[Any, ...]] = []

    @pipeline.handler("orders", group="billing")
    async def work(event: Event) -> None:
        seen.append((event.id, event.type, event.data, event.tenant, event.priority))

    running = asyncio.create_task(pipeline.run())
    async with api(server, namespace) as clients:
        shop = clients["shop"]
        event = {
            "type": "order.created",
            "data": {"id": 1},
            "tenant": "acme",
            "priority": 5,
        }
        first = await shop.post(
            "/streams/orders/events", json=event, headers={"Idempotency-Key": "o-1"}
        )
        again = await shop.post(
            "/streams/orders/events", json=event, headers={"Idempotency-Key": "o-1"}
        )
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json()["event_id"] == again.json()["event_id"]
        many = {"events": [{"type": "t", "data": n} for n in range(10)]}
        for status in (201, 200):
            reply = await shop.post(
                "/streams/orders/batches", json=many, headers={"Idempotency-Key": "b"}
            )
            assert (reply.status_code, len(reply.json()["receipts"])) == (status, 10)
        more = {"events": [*many["events"], {"type": "t", "data": 10}]}
        reply = await shop.post(
            "/streams/orders/batches", json=more, headers={"Idempotency-Key": "b"}
        )
        assert (
            reply.status_code,
            sum(each["duplicate"] for each in reply.json()["receipts"]),
        ) == (201, 10)
        later = await shop.post("/streams/orders/events", json={**event, "delay": 600})
        found = (
            await shop.get(f"/streams/orders/events/{later.json()['event_id']}")
        ).json()
        assert [state["state"] for state in found["states"]] == ["scheduled"]
        await eventually(lambda: len(seen) == 12, what="the events")
        assert ("order.created", {"id": 1}, "acme", 5) in [row[1:] for row in seen]
        assert len({row[0] for row in seen}) == 12
        (row,) = (await shop.get("/streams")).json()["streams"]
        assert row["row"]["scheduled"] == 1
    pipeline.stop()
    await running


async def test_dead_letters_are_paged_replayed_and_discarded(server, namespace):
    await trouble(server, namespace, [f"t{n}" for n in range(4)])
    async with api(server, namespace) as clients:
        viewer, operator = clients["viewer"], clients["operator"]
        found, after = [], None
        while True:
            query = {"limit": 3, **({"after": after} if after else {})}
            page = (await viewer.get(DEAD, params=query)).json()
            found += page["letters"]
            after = page["next"]
            if not after:
                break
        assert len(found) == 8
        assert {letter["reason"] for letter in found} == {
            "retries-used-up",
            "no-handler",
        }
        reply = await viewer.get(DEAD, params={"reason": "rejcted"})
        assert reply.status_code == 400
        assert reply.json()["detail"].startswith(
            "reason 'rejcted': letters die by retries-used-up, stalled, rejected"
        )
        for action in ("replay", "discard"):
            reply = await operator.post(
                f"{DEAD}/{action}", json={"filter": {"reason": "rejcted"}}
            )
            assert (reply.status_code, "letters die by" in reply.json()["detail"]) == (
                422,
                True,
            )
        which = {"filter": {"tenant": "t2", "type": "dies"}}
        reply = await operator.post(f"{DEAD}/replay", json={**which, "dry_run": True})
        assert reply.json() == {"matched": 1, "moved": 0}
        assert (await operator.post(f"{DEAD}/replay", json=which)).json() == {
            "matched": 1,
            "moved": 1,
        }
        ids = [letter["id"] for letter in found if letter["meta"].get("tenant") == "t3"]
        assert (await operator.post(f"{DEAD}/discard", json={"ids": ids})).json() == {
            "deleted": 2
        }
        assert (
            await operator.post(f"{DEAD}/discard", json={"ids": ids})
        ).status_code == 404
        assert (await operator.post(f"{DEAD}/discard", json={})).status_code == 422
        assert (
            await operator.post(f"{DEAD}/discard", json={"filter": {}, "ids": ids})
        ).status_code == 422
        assert (await operator.post(f"{DEAD}/discard", json={"filter": {}})).json() == {
            "deleted": 5
        }
        rows = (await viewer.get("/streams/orders/audit")).json()["rows"]
        assert {
            row["by"] for row in rows if row["action"] in ("replay", "discard")
        } == {"api: operator"}


async def test_events_are_shown_masked_cancelled_and_revealed(server, namespace):
    await trouble(server, namespace, [PHONE])
    async with api(server, namespace) as clients:
        for path in ("/streams/orders/events/dies-0%20", DEAD, "/streams/orders/audit"):
            reply = await clients["viewer"].get(path)
            assert reply.status_code == 200
            assert PHONE not in reply.text, path
        reply = await clients["admin"].post(
            "/streams/orders/events/dies-0%20/reveal", json={}
        )
        assert json.loads(reply.json()["body"]) == {"say": PHONE}
        cancelled = await clients["operator"].post(
            "/streams/orders/events/later-0/cancel", json={}
        )
        assert cancelled.json()["cancelled"]["state"] == "scheduled"
        reply = await clients["operator"].post(
            "/streams/orders/events/dies-0%20/cancel", json={}
        )
        assert reply.status_code == 409
        for action in ("pause", "pause", "resume"):
            reply = await clients["operator"].post(
                f"/streams/orders/{action}", json={"attribute": "tenant", "value": "x"}
            )
            assert reply.status_code == 200
        reply = await clients["operator"].post(
            "/streams/orders/pause", json={"attribute": "tenant"}
        )
        assert reply.status_code == 422


async def test_messages_are_queued_and_followed(server, namespace):
    async with stage(server, namespace) as sending, api(server, namespace) as clients:
        message = {"to": PHONE, "text": "Olá!", "tenant": "acme"}
        first = await clients["shop"].post(
            "/messages", json=message, headers={"Idempotency-Key": "m"}
        )
        again = await clients["shop"].post(
            "/messages", json=message, headers={"Idempotency-Key": "m"}
        )
        assert (first.status_code, again.status_code) == (201, 200)
        ident = first.json()["message_id"]

        async def sent() -> bool:
            return (await clients["viewer"].get(f"/messages/{ident}")).json()[
                "status"
            ] == "sent"

        await eventually(sent, what="the message to be sent")
        assert len(sending.phone.taken) == 1
        wrong = await clients["shop"].post("/messages", json={**message, "to": "12"})
        assert wrong.status_code == 422
        assert "phone number with country code" in wrong.json()["detail"]


async def test_what_is_asked_wrongly_is_told_without_repeating_it(server, namespace):
    async with api(server, namespace) as clients:
        shop, viewer = clients["shop"], clients["viewer"]
        canary = "canary-5511999990000"
        for body, status in (
            ({"type": "t"}, 422), ({"type": "", "data": 1}, 422), ({"type": "t", "data": 1, "more": canary}, 422),
            ({"type": "t", "data": 1, "priority": canary}, 422), ([canary], 422), (canary, 422),
            ({"type": "t", "data": 1, "delay": -1}, 422), ({"type": "t", "data": 1, "delay": 1e300}, 422),
        ):  # fmt: skip
            reply = await shop.post("/streams/orders/events", json=body)
            assert reply.status_code == status, body
            assert canary not in reply.text
            assert reply.json()["title"] == "Not valid"
        reply = await shop.post(
            "/streams/orders/events",
            content=b"{",
            headers={"Content-Type": "application/json"},
        )
        assert reply.status_code == 400
        assert (
            await shop.post("/streams/orders/events", data={"a": "b"})
        ).status_code == 415
        huge = b'{"type": "t", "data": "' + b"x" * 5_000_000 + b'"}'
        reply = await shop.post(
            "/streams/orders/events",
            content=huge,
            headers={"Content-Type": "application/json"},
        )
        assert reply.status_code == 413
        assert (
            await shop.post("/streams/a b/events", json={"type": "t", "data": 1})
        ).status_code == 422
        for query in (
            "limit=0",
            "limit=1000000",
            "limit=x",
            "after=x",
            "nonsense=1",
            "limit=1&limit=2",
        ):
            assert (await viewer.get(f"{DEAD}?{query}")).status_code == 400, query
        for path in (
            "/streams/nowhere",
            "/nowhere",
            DEAD,
            "/messages/nothing",
            "/streams/orders/events/nothing",
        ):
            assert (await viewer.get(path)).status_code == 404, path
        assert (await viewer.delete("/streams")).status_code == 405


async def test_the_document_says_what_is_answered(server, namespace):
    """Each operation, asked with what its schemas allow and with what they do not, answers what the document says."""
    await trouble(server, namespace)
    chance = random.Random(7)
    async with api(server, namespace) as clients:
        told = (await clients["viewer"].get("/openapi.json")).json()
        assert told["openapi"] == "3.1.0"
        found = [
            (path, method, row)
            for path, rows in told["paths"].items()
            for method, row in rows.items()
        ]
        assert len(found) == len(OPERATIONS)
        assert len({row["operationId"] for _, _, row in found}) == len(found)
        problem = Draft202012Validator(told["components"]["schemas"]["Problem"])
        for path, method, row in found:
            publishes = any(p["name"] == "Idempotency-Key" for p in row["parameters"])
            for _ in range(10):
                values = {
                    p["name"]: made(p["schema"], chance) for p in row["parameters"]
                }
                where = path
                for name, value in values.items():
                    where = where.replace(f"{{{name}}}", quote(str(value), safe=""))
                query = {
                    p["name"]: values[p["name"]]
                    for p in row["parameters"]
                    if p["in"] == "query" and chance.random() < 0.5
                }
                body = (
                    made(
                        row["requestBody"]["content"]["application/json"]["schema"],
                        chance,
                    )
                    if "requestBody" in row
                    else None
                )
                client = clients["shop" if publishes else "admin"]
                reply = await client.request(
                    method.upper(), where, params=query, json=body
                )
                if reply.status_code == 429:
                    break
                assert str(reply.status_code) in row["responses"], (where, reply.text)
                if reply.status_code >= 400:
                    problem.validate(reply.json())


async def test_what_a_fuzzer_found_is_answered_as_the_document_says(server, namespace):
    await trouble(server, namespace)
    async with api(server, namespace) as clients:
        viewer, shop = clients["viewer"], clients["shop"]
        reply = await viewer.get("/streams/orders/audit", params={"before": "0-0"})
        assert (reply.status_code, reply.json()["rows"]) == (200, [])
        reply = await viewer.get(DEAD, params={"until": "2.2e-16", "since": "1e9"})
        assert (reply.status_code, reply.json()["letters"]) == (200, [])
        event = {"type": "t", "data": 1, "priority": 5.0, "max_retries": 3.0}
        assert (await shop.post("/streams/orders/events", json=event)).json()[
            "level"
        ] == 5
        reply = await shop.post(
            "/streams/orders/events", json=event, headers={"Idempotency-Key": "a b"}
        )
        assert reply.status_code == 400
        long = {"to": PHONE, "text": "x", "tenant": "t" * 90}
        assert (
            await shop.post(
                "/messages", json=long, headers={"Idempotency-Key": "k" * 400}
            )
        ).status_code == 201
        for path in (
            "/streams/orders/events/a%0Ab",
            "/streams/orders%0A",
            "/nowhere%0A",
        ):
            reply = await viewer.get(path)
            assert reply.status_code == 404
            assert reply.headers["content-type"] == "application/problem+json"
            assert "content-security-policy" in reply.headers
        # A pause of an attribute has no level.
        wrong = {"attribute": "tenant", "value": "x", "level": 1}
        assert (
            await clients["operator"].post("/streams/orders/pause", json=wrong)
        ).status_code == 422


async def test_operators_mend_by_the_api(server, namespace):
    await trouble(server, namespace, ["one", "two"])
    async with api(server, namespace) as clients:
        viewer, operator, admin = (
            clients["viewer"],
            clients["operator"],
            clients["admin"],
        )
        found = (await viewer.get("/search", params={"q": "one"})).json()
        assert {match["by"] for match in found["matches"]} == {"key"}
        assert (await viewer.get("/search")).status_code == 400
        reply = await operator.post("/streams/orders/events/later-0/run-now", json={})
        assert reply.json()["was"]["state"] == "scheduled"
        reply = await operator.post(
            "/streams/orders/events/dies-0 one/run-now", json={}
        )
        assert reply.status_code == 409
        (letter, *_) = (await viewer.get(DEAD, params={"text": "OSERROR"})).json()[
            "letters"
        ]
        reply = await admin.post(
            f"{DEAD}/edit", json={"letter": letter["id"], "data": {"say": "mended"}}
        )
        assert reply.json()["entry"].startswith("0|")
        assert (
            await admin.post(f"{DEAD}/edit", json={"letter": letter["id"], "data": 1})
        ).status_code == 404
        (row,) = (await viewer.get("/streams/orders/groups/billing/replays")).json()[
            "replays"
        ]
        assert (row["edited"], row["count"], row["by"]) == (True, 1, "api: admin")
        reply = await viewer.get("/streams/orders/groups/billing/workers/nobody")
        assert reply.json() == {"in_hand": [], "state": "unknown", "silent": None}
        for path in ("held/release", "held/skip"):
            reply = await operator.post(
                f"/streams/orders/groups/billing/{path}", json={"key": "x"}
            )
            assert reply.status_code == 404
        reply = await operator.post(
            "/streams/orders/groups/billing/limits", json={"limit": "x", "rate": "1/s"}
        )
        assert reply.status_code == 404


async def test_why_an_event_waits(server, namespace):
    await trouble(server, namespace, [PHONE])
    async with api(server, namespace) as clients:
        reply = await clients["viewer"].get(
            "/streams/orders/why", params={"event": "later-0"}
        )
        (reason,) = reply.json()["reasons"]
        assert (reply.status_code, reason["state"], reason["group"]) == (
            200,
            "scheduled",
            "",
        )
        reply = await clients["viewer"].get(
            "/streams/orders/why", params={"tenant": "nobody"}
        )
        assert reply.json() == {"reasons": [], "more": 0, "is_complete": True}
        for wrong in ({}, {"event": "x", "level": "5"}):
            assert (
                await clients["viewer"].get("/streams/orders/why", params=wrong)
            ).status_code == 422
        assert (
            await clients["viewer"].get("/streams/missing/why", params={"event": "x"})
        ).status_code == 404
