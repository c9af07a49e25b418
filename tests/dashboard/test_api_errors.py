"""Errors of the API: they say what is wrong with a request, and what to do."""

from __future__ import annotations

import orjson
import pytest

from streams import Pipeline, Settings
from streams.admin.status import EntryState
from streams.cli.lines import LineRefused, Parser
from streams.dashboard.tasks import entry_plain
from streams.errors import StreamsError
from streams.events.attributes import RULES, sentence
from tests.dashboard.api import GROUP, OPERATIONS, api, filled
from tests.dashboard.board import trouble
from tests.whatsapp.stage import PHONE


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (
            {"type": "t", "data": 1, "dealy": 5},
            "unknown field 'dealy': known are data, data_base64, datacontenttype",
        ),
        ({"data": 1}, "the field 'type' is missing"),
        ({"type": "t"}, "the field 'data' is missing"),
        (
            {"type": "t", "data": 1, "data_base64": "AA=="},
            "give data or data_base64, and not both",
        ),
        (
            {"type": "t", "data": 1, "headers": {"Bad-Name": 1}},
            "lower-case letters and digits",
        ),
        (
            {"type": "t", "data": 1, "headers": {"tenant": "x"}},
            "none of the wire format's",
        ),
        (
            {"type": "t", "data": {}, "datacontenttype": "text/plain"},
            "text, as datacontenttype is not JSON",
        ),
        (
            {"type": "t", "data": 1, "time": "yesterday"},
            "time is a time of RFC 3339 with a zone",
        ),
        (
            {"type": "t", "data": 1, "time": "2026-02-30T00:00:00Z"},
            "time is a time of RFC 3339 with a zone",
        ),
        ({"type": "t", "data": 1, "5511999990000": 1}, "unknown field '******00'"),
    ],
    ids=str,
)
async def test_what_is_wrong_with_an_event_is_said(server, namespace, body, detail):
    async with api(server, namespace) as clients:
        for path, sent in (
            ("events", body),
            ("batches", {"events": [{"type": "t", "data": 1}, body]}),
        ):
            reply = await clients["shop"].post(f"/streams/orders/{path}", json=sent)
            assert (reply.status_code, detail in reply.json()["detail"]) == (
                422,
                True,
            ), reply.text
            assert path == "events" or "events/1" in reply.json()["detail"]


WRONG = {
    "id": "a\n", "dedup_id": "", "type": "x" * 201, "priority": "high", "delay": 1e18, "expires": 0, "key": "",
    "tenant": 7, "instance": "", "subject": "x" * 501, "source": "", "time": "2026-02-30T00:00:00Z",
    "datacontenttype": "json", "dataschema": "", "version": 2, "traceparent": "x", "tracestate": "x" * 513,
    "max_retries": -1, "retry_delay": 1e18,
}  # fmt: skip
"""A value of each attribute that it cannot have, by whichever way an event is published."""


async def test_an_attribute_is_refused_by_the_same_sentence_whichever_way_it_is_given(
    server, namespace
):
    parser = Parser()
    async with (
        api(server, namespace) as clients,
        Pipeline(server.url, settings=Settings(namespace=namespace)) as pipeline,
    ):
        for name, value in WRONG.items():
            event = {"type": "t", "data": 1} | {name: value}
            reply = await clients["shop"].post("/streams/orders/events", json=event)
            assert (reply.status_code, reply.json()["detail"]) == (422, sentence(name))
            reply = await clients["shop"].post(
                "/streams/orders/batches", json={"events": [event]}
            )
            assert (reply.status_code, reply.json()["detail"]) == (
                422,
                f"events/0/{sentence(name)}",
            )
            with pytest.raises(StreamsError) as error:
                await pipeline.publish("orders", **event)
            assert str(error.value).startswith(sentence(name))
            with pytest.raises(LineRefused) as refused:
                parser.parse(orjson.dumps(event))
            assert refused.value.detail == sentence(name)
    assert set(WRONG) == set(RULES)


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("events", [], "the body is an object"),
        (
            "events",
            {"type": "t", "data": 1, "headers": {"a": []}},
            "headers/a is a text of at most 500 characters or a",
        ),
        ("batches", {"events": []}, "events is a list of 1 to 1000 items"),
        ("batches", {"events": 1}, "events is a list of 1 to 1000 items"),
        ("pause", {"level": "high"}, "level is an integer from -1000000 to 1000000"),
        (
            "pause",
            {"level": 1, "attribute": "tenant", "value": "a"},
            "level: it does not go with attribute",
        ),
        (
            "pause",
            {"attribute": "tenant"},
            "the field 'value' is missing: 'attribute' needs it",
        ),
        (
            "pause",
            {"attribute": "x", "value": "a"},
            "attribute is one of type, tenant, instance, key, subject, source",
        ),
        (
            "pause",
            {"group": "a b"},
            "group is a name of 1 to 100 letters, digits, dots, underscores and hyphens",
        ),
        (
            "groups/g/dead/replay",
            {"ids": ["x"]},
            "ids/0 is an id such as 1796083200000-0",
        ),
        (
            "groups/g/dead/replay",
            {"filter": {}, "rate": 0},
            "rate is a number from 1 to 10000",
        ),
        (
            "groups/g/dead/replay",
            {"filter": {}, "dry_run": 1},
            "dry_run is true or false",
        ),
        (
            "groups/g/dead/replay",
            {"filter": {"reson": "x"}},
            "filter: unknown field 'reson': known are",
        ),
    ],
    ids=str,
)
async def test_what_is_wrong_with_a_request_is_said_in_words(
    server, namespace, path, body, detail
):
    async with api(server, namespace) as clients:
        who = clients["shop"] if path in ("events", "batches") else clients["operator"]
        reply = await who.post(f"/streams/orders/{path}", json=body)
        assert reply.status_code == 422
        assert reply.json()["detail"].startswith(detail)


async def test_parameters_that_are_unknown_are_named(server, namespace):
    async with api(server, namespace) as clients:
        reply = await clients["viewer"].get(f"{GROUP}/dead?tenent=x")
        assert reply.json()["detail"].startswith(
            "unknown parameter 'tenent': known are after, error,"
        )
        reply = await clients["viewer"].get("/streams?x=1")
        assert reply.json()["detail"] == "unknown parameter 'x': known are none"


async def test_the_errors_of_an_event_have_numbers_and_a_list(server, namespace):
    await trouble(server, namespace, [PHONE])
    async with api(server, namespace) as clients:
        for event, kind in (("waits-0 ", "ValueError"), ("dies-0 ", "OSError")):
            found = await clients["viewer"].get(f"/streams/orders/events/{event}")
            assert PHONE not in found.text
            (error,) = found.json()["states"][0]["errors"]
            assert (error["attempt"], error["kind"], error["type"]) == (
                1,
                "failure",
                kind,
            )
            assert error["at"] > 1e9
            assert error["traceback"][-1] == error["where"] != ""


def test_an_error_that_another_program_wrote_is_told_as_far_as_it_is_one():
    strange = {
        "at": "soon",
        "attempt": True,
        "kind": "failure",
        "message": None,
        "traceback": "x",
        "more": PHONE,
    }
    state = EntryState("orders", "billing", "retrying", errors=[strange])
    assert entry_plain(state)["errors"] == [{"kind": "failure"}]


async def test_an_unknown_parameter_is_refused_whatever_the_method(server, namespace):
    async with api(server, namespace) as clients:
        for operation in OPERATIONS:
            client = clients["shop" if operation.publishes else "admin"]
            reply = await client.request(
                operation.method,
                filled(operation.path),
                params={"colour": "red"},
                json={},
            )
            said = f"unknown parameter 'colour': known are {', '.join(sorted(operation.query)) or 'none'}"
            assert (reply.status_code, reply.json().get("detail")) == (400, said), (
                operation.name
            )


async def test_a_dry_run_beside_the_body_deletes_nothing(server, namespace):
    await trouble(server, namespace, ["one", "two"])
    async with api(server, namespace) as clients:
        before = (await clients["viewer"].get(f"{GROUP}/dead")).json()["letters"]
        reply = await clients["operator"].post(
            f"{GROUP}/dead/discard?dry_run=true", json={"filter": {}}
        )
        said = "unknown parameter 'dry_run': known are none; dry_run is a field of the body"
        assert (reply.status_code, reply.json()["detail"]) == (400, said)
        assert (
            (await clients["viewer"].get(f"{GROUP}/dead")).json()["letters"]
            == before
            != []
        )


async def test_a_full_stream_and_a_server_without_memory_are_told_apart(
    make_server, binary, namespace
):
    running = make_server(binary)
    event = {"type": "t", "data": "x" * 1000}
    async with api(running, namespace, max_len=3) as clients:
        shop = clients["shop"]
        replies = [
            await shop.post("/streams/orders/events", json=event) for _ in range(4)
        ]
        assert [reply.status_code for reply in replies] == [201, 201, 201, 503]
        full = replies[-1].json()
        assert (full["code"], "the stream is full" in full["detail"]) == (
            "stream-full",
            True,
        )
        many = {"events": [event] * 5}
        reply = (await shop.post("/streams/others/batches", json=many)).json()
        assert (reply["code"], [row["event"] for row in reply["stored"]]) == (
            "stream-full",
            [0, 1, 2],
        )
        with running.client() as client:
            client.config_set("maxmemory", 1)
        reply = await shop.post("/streams/new/events", json=event)
        assert (reply.status_code, reply.json()["code"]) == (503, "out-of-memory")
        assert "no memory left" in reply.json()["detail"]
        assert reply.headers["retry-after"] == "5"
