"""The provider for Evolution servers, against a server with that API's answers."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from streams.whatsapp import (
    Audio,
    Buttons,
    Document,
    Image,
    Location,
    Reaction,
    Recipient,
    Template,
    Text,
)
from streams.whatsapp.message import Message
from streams.whatsapp.outcome import Again, Blocked, Hopeless, Sent, Unknown
from streams.whatsapp.providers import Connection, EvolutionProvider, Instance
from tests.whatsapp.servers import serving

TO = Recipient.parse("5511999999999")


class Evolution:
    """An Evolution server: wants its key, answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict]] = []
        self.answer: tuple[int, object] = (
            201,
            {"key": {"id": "BAE5"}, "status": "PENDING"},
        )
        self.state: tuple[int, object] = (200, {"instance": {"state": "open"}})
        self.app = Starlette(
            routes=[
                Route("/message/{path}/{name}", self.send, methods=["POST"]),
                Route("/instance/connectionState/{name}", self.connection),
            ]
        )

    async def send(self, request: Request) -> Response:
        if request.headers.get("apikey") != "secret":
            return JSONResponse({"status": 401, "error": "Unauthorized"}, 401)
        self.requests.append((request.path_params["path"], await request.json()))
        return JSONResponse(self.answer[1], self.answer[0])

    async def connection(self, _: Request) -> Response:
        return JSONResponse(self.state[1], self.state[0])


def refused(status: int, message: object) -> tuple[int, object]:
    return status, {"status": status, "error": "x", "response": {"message": message}}


@pytest.mark.parametrize(
    ("content", "path", "body"),
    [
        (
            Text("Olá", preview_url=True),
            "sendText",
            {"text": "Olá", "linkPreview": True},
        ),
        (
            Image("https://x.org/i", caption="c"),
            "sendMedia",
            {"mediatype": "image", "caption": "c"},
        ),
        (
            Document("https://x.org/d", filename="d.pdf"),
            "sendMedia",
            {"mediatype": "document", "fileName": "d.pdf"},
        ),
        (Audio("https://x.org/a"), "sendWhatsAppAudio", {"audio": "https://x.org/a"}),
        (
            Location(1, 2, "n"),
            "sendLocation",
            {"name": "n", "latitude": 1, "longitude": 2},
        ),
    ],
)
async def test_each_kind_has_its_request(content, path, body):
    evolution, provider = Evolution(), EvolutionProvider()
    async with serving(evolution.app) as url:
        instance = Instance("1", "evolution", url, "secret", "shop")
        outcome = await provider.send(instance, Message(TO, content, "ABC"), "id")
        await provider.close()
    assert outcome == Sent(reason="accepted", provider_id="BAE5")
    ((called, sent),) = evolution.requests
    assert called == path
    assert (
        sent.items()
        >= {"number": "5511999999999", "quoted": {"key": {"id": "ABC"}}, **body}.items()
    )


async def test_a_reaction_names_its_message():
    evolution, provider = Evolution(), EvolutionProvider()
    async with serving(evolution.app) as url:
        await provider.send(
            Instance("1", "evolution", url, "secret"),
            Message(TO, Reaction("ID", "😀")),
            "id",
        )
        await provider.close()
    ((path, sent),) = evolution.requests
    assert path == "sendReaction"
    assert sent["key"]["id"] == "ID"


@pytest.mark.parametrize(
    "content", [Template("t"), Buttons("t", {"a": "b"}), Image(id="1")]
)
async def test_what_it_cannot_send_fails_without_a_request(content):
    provider = EvolutionProvider()
    instance = Instance("1", "evolution", "http://127.0.0.1:9", "secret")
    assert isinstance(
        await provider.send(instance, Message(TO, content), "id"), Hopeless
    )
    user = Message(Recipient.parse("BR.12ab"), Text("x"))
    assert isinstance(await provider.send(instance, user, "id"), Hopeless)
    await provider.close()


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        (refused(400, [{"exists": False, "number": "x"}]), Hopeless, "undeliverable"),
        (refused(400, ["Error: Connection Closed"]), Blocked, "disconnected"),
        (refused(500, "Connection Closed"), Blocked, "disconnected"),
        (refused(500, ["Connection Closed"]), Blocked, "disconnected"),
        (refused(400, [['instance requires property "text"']]), Hopeless, "refused"),
        (refused(400, ["TypeError: nothing"]), Unknown, "failed after partial work"),
        (
            refused(404, ['The "x" instance does not exist']),
            Blocked,
            "instance_missing",
        ),
        (refused(403, ["no"]), Blocked, "forbidden"),
        (
            refused(500, "Cannot read properties of undefined (reading 'textMessage')"),
            Blocked,
            "disconnected",
        ),
        (
            (503, {"error": "service not activated", "code": "LICENSE_REQUIRED"}),
            Blocked,
            "license_required",
        ),
        (refused(502, "bad gateway"), Again, "server_error"),
        ((201, {"nothing": 1}), Unknown, "accepted without an id"),
    ],
)
async def test_each_answer_means_what_the_table_says(answer, kind, reason):
    evolution, provider = Evolution(), EvolutionProvider()
    evolution.answer = answer
    async with serving(evolution.app) as url:
        outcome = await provider.send(
            Instance("1", "evolution", url, "secret"), Message(TO, Text("x")), "id"
        )
        await provider.close()
    assert isinstance(outcome, kind)
    assert outcome.reason == reason


async def test_a_wrong_key_holds_the_instance_and_a_server_that_is_away_is_tried_again():
    evolution, provider = Evolution(), EvolutionProvider(timeout=0.5)
    async with serving(evolution.app) as url:
        wrong = await provider.send(
            Instance("1", "evolution", url, "wrong"), Message(TO, Text("x")), "id"
        )
        assert isinstance(wrong, Blocked)
    away = await provider.send(
        Instance("1", "evolution", url, "secret"), Message(TO, Text("x")), "id"
    )
    assert isinstance(away, Again)
    assert (
        await provider.connection(Instance("1", "evolution", url, "secret"))
        is Connection.UNKNOWN
    )
    await provider.close()


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        ((200, {"instance": {"state": "open"}}), Connection.OPEN),
        ((200, {"instance": {"state": "connecting"}}), Connection.CONNECTING),
        ((200, {"instance": {"state": "close"}}), Connection.CLOSED),
        ((200, {"instance": {}}), Connection.CLOSED),
        ((404, {}), Connection.CLOSED),
        ((500, {}), Connection.UNKNOWN),
    ],
)
async def test_anything_but_open_is_not_connected(state, wanted):
    evolution, provider = Evolution(), EvolutionProvider()
    evolution.state = state
    async with serving(evolution.app) as url:
        assert (
            await provider.connection(Instance("1", "evolution", url, "secret"))
            is wanted
        )
    await provider.close()
