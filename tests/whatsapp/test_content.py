"""What a message may say, and that Meta's own schemas take every kind of it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from streams.errors import InvalidMessage
from streams.whatsapp import (
    Audio,
    Buttons,
    Choices,
    Contacts,
    Document,
    Image,
    Location,
    Reaction,
    Recipient,
    Row,
    Template,
    Text,
    Video,
)
from streams.whatsapp.message import Message
from streams.whatsapp.providers.cloud import request

SCHEMAS = json.loads(
    (Path(__file__).parent / "contracts" / "meta-messages.json").read_text()
)["components"]["schemas"]
LINK = "https://example.org/file"
CARD = {
    "name": {"formatted_name": "Ana Souza", "first_name": "Ana"},
    "phones": [{"phone": "+5511999999999"}],
}
EACH = {
    "text": (Text("Olá! https://example.org", preview_url=True), "TextMessage"),
    "template": (
        Template(
            "pedido",
            components=[
                {"type": "body", "parameters": [{"type": "text", "text": "Ana"}]}
            ],
        ),
        "TemplateMessage",
    ),
    "image by link": (Image(LINK, caption="c"), "ImageMessage"),
    "image by id": (Image(id="123"), "ImageMessage"),
    "document": (Document(LINK, caption="c", filename="a.pdf"), "DocumentMessage"),
    "audio": (Audio(LINK), "AudioMessage"),
    "video": (Video(LINK, caption="c"), "VideoMessage"),
    "location": (Location(-23.5, -46.6, "Sé", "Praça da Sé"), "LocationMessage"),
    "contacts": (Contacts([CARD]), "ContactsMessage"),
    "reaction": (Reaction("wamid.1", "😀"), "ReactionMessage"),
    "buttons": (
        Buttons("Confirma?", {"y": "Sim", "n": "Não"}, footer="f"),
        "InteractiveMessage",
    ),
    "list": (
        Choices(
            "Escolha",
            "Ver",
            {"A": [Row("1", "um", "d")], "B": [Row("2", "dois")]},
            footer="f",
        ),
        "InteractiveMessage",
    ),
}
DEVIATIONS = {
    "location": "Meta's file has latitude and longitude as texts; the API and its examples take numbers",
    "template": "Meta's file wants language.policy 'deterministic', which the API dropped",
}
"""Where the schemas are older than the API, and what is done about it below."""


def merged(name: str) -> dict:
    """A message's schema in one piece: in the file each half of an ``allOf`` forbids the fields of the other."""
    properties: dict = {}
    required: list = []

    def take(schema: dict) -> None:
        if "$ref" in schema:
            take(SCHEMAS[schema["$ref"].rsplit("/", 1)[1]])
        for part in schema.get("allOf", []):
            take(part)
        properties.update(schema.get("properties", {}))
        required.extend(schema.get("required", []))

    take(SCHEMAS[name])
    whole = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    return {**whole, "components": {"schemas": SCHEMAS}}


@pytest.mark.parametrize("kind", EACH)
@pytest.mark.parametrize("reply_to", ["", "wamid.42"])
def test_every_kind_fits_metas_schema(kind, reply_to):
    content, name = EACH[kind]
    body = json.loads(
        json.dumps(
            request(
                Message(Recipient.parse("+55 11 99999-9999"), content, reply_to), "id-1"
            )
        )
    )
    # Newer than the file: what comes back in status webhooks.
    assert body.pop("biz_opaque_callback_data") == "id-1"
    if kind == "location":
        body["location"] |= {
            place: str(body["location"][place]) for place in ("latitude", "longitude")
        }
    if kind == "template":
        body["template"]["language"]["policy"] = "deterministic"
    jsonschema.Draft202012Validator(merged(name)).validate(body)
    assert body["to"] == "+5511999999999"
    assert (body.get("context") == {"message_id": "wamid.42"}) == bool(reply_to)


def test_the_schema_can_fail():
    body = request(Message(Recipient.parse("5511999999999"), Text("x")), "")
    body["text"]["nothing"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(merged("TextMessage")).validate(body)


def test_a_user_id_goes_where_meta_wants_it():
    body = request(Message(Recipient.parse("BR.1502abc"), Text("x")), "id")
    assert body["recipient"] == "BR.1502abc"
    assert "to" not in body


@pytest.mark.parametrize("kind", EACH)
def test_what_is_stored_is_what_is_sent(kind):
    message = Message(Recipient.parse("5511999999999"), EACH[kind][0], "wamid.1")
    stored = json.loads(json.dumps(message.as_data()))
    assert request(Message.from_data(stored), "i") == json.loads(
        json.dumps(request(message, "i"))
    )
    assert Message.from_data(stored).kind == message.kind


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Text(""), "text: a text of 1 to 4096"),
        (lambda: Text("   "), "text"),
        (lambda: Text("x" * 4097), "of 4097"),
        (lambda: Text(7), "not int"),
        (lambda: Template(""), "name of the template"),
        (
            lambda: Template("t", components=[{"type": "nothing"}]),
            "header, body or button",
        ),
        (lambda: Image(), "link or id"),
        (lambda: Image(LINK, id="1"), "link or id"),
        (lambda: Image("ftp://example.org"), "https address"),
        (lambda: Image("https://user:secret@example.org"), "without a user"),
        (lambda: Image(LINK, caption="x" * 1025), "caption"),
        (lambda: Document(LINK, filename="x" * 241), "filename"),
        (lambda: Location(91, 0), "latitude"),
        (lambda: Location(0, True), "longitude"),
        (lambda: Contacts([]), "1 to 257 cards"),
        (lambda: Contacts([{"name": {}}]), "formatted_name"),
        (lambda: Reaction("", "x"), "message_id"),
        (lambda: Buttons("t", {}), "one to three"),
        (lambda: Buttons("t", {str(n): "x" for n in range(4)}), "one to three"),
        (lambda: Buttons("t", {"a": "x" * 21}), "title of a button"),
        (
            lambda: Choices("t", "b", {"": [Row(str(n), "x") for n in range(11)]}),
            "one to ten rows",
        ),
        (lambda: Choices("t", "b", {"": []}), "one to ten rows"),
        (lambda: Choices("t", "b", {"": [Row("1", "x" * 25)]}), "title of a row"),
        (lambda: Choices("t", "b" * 21, {"": [Row("1", "x")]}), "button"),
        (lambda: Message.from_data("x"), "JSON object"),
        (
            lambda: Message.from_data(
                {"to": "5511999999999", "type": "spell", "spell": {}}
            ),
            "type is one of",
        ),
        (
            lambda: Message(Recipient.parse("5511999999999"), Text("x"), "x" * 257),
            "reply_to",
        ),
    ],
)
def test_what_the_provider_would_refuse_is_refused_first(make, match):
    with pytest.raises(InvalidMessage, match=match) as refused:
        make()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "phone"),
    [
        ("5511999999999", "+5511999999999"),
        ("+55 (11) 99999-9999", "+5511999999999"),
        ("55.11.99999.9999", "+5511999999999"),
        ("15550001", "+15550001"),
    ],
)
def test_phone_numbers_are_read(text, phone):
    assert Recipient.parse(text).phone == phone


@pytest.mark.parametrize(
    "text",
    [
        "",
        "55",
        "0551199999999",
        "5511999999999999",
        "somebody",
        "BR.",
        "br.15",
        "+",
        "55119999x999",
    ],
)
def test_what_is_no_recipient_is_refused_and_not_repeated(text):
    with pytest.raises(InvalidMessage) as refused:
        Recipient.parse(text)
    assert len(text) < 4 or text not in str(refused.value)


def test_recipients_show_themselves_masked():
    recipient = Recipient.parse("5511987654321")
    assert "98765" not in f"{recipient} {recipient!r} {recipient.masked}"
    assert recipient.masked.startswith("+55")
