"""What a message says: one class per kind, checked against the limits that Meta documents before it is queued.

``body()`` is the part of a Cloud API request that is named after the kind; it is also how a message is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit

from streams.errors import InvalidMessage

Json = dict[str, Any]


class Content:
    """Base of the kinds. ``kind`` is Meta's word for it."""

    kind: ClassVar[str]
    __slots__ = ()

    def body(self) -> Json:
        """As the Cloud API takes it."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Text(Content):
    """A text of 1 to 4,096 characters; ``preview_url`` shows a preview of its first link."""

    text: str
    preview_url: bool = False
    kind: ClassVar[str] = "text"

    def __post_init__(self) -> None:
        _text("text", self.text, 4096)

    def body(self) -> Json:
        return {"body": self.text, "preview_url": self.preview_url}


@dataclass(frozen=True, slots=True)
class Template(Content):
    """An approved template: its name, language and the components with their parameters, as Meta writes them."""

    name: str
    language: str = "pt_BR"
    components: Sequence[Mapping[str, Any]] = ()
    kind: ClassVar[str] = "template"

    def __post_init__(self) -> None:
        _text("name of the template", self.name, 512)
        _text("language of the template", self.language, 20)
        if isinstance(self.components, (str, bytes, Mapping)) or not isinstance(
            self.components, Sequence
        ):
            raise InvalidMessage("components of a template are a list")
        for component in self.components:
            if not isinstance(component, Mapping) or component.get("type") not in (
                "header",
                "body",
                "button",
            ):
                raise InvalidMessage(
                    "components of a template are objects of type header, body or button"
                )
            if not isinstance(component.get("parameters", []), Sequence):
                raise InvalidMessage("parameters of a template's component are a list")

    def body(self) -> Json:
        found: Json = {"name": self.name, "language": {"code": self.language}}
        if self.components:
            found["components"] = [dict(component) for component in self.components]
        return found


@dataclass(frozen=True, slots=True)
class Media(Content):
    """A file, by its https link or by the id that Meta gave it when it was uploaded."""

    link: str = ""
    id: str = ""

    def __post_init__(self) -> None:
        if bool(self.link) == bool(self.id):
            raise InvalidMessage(f"{self.kind}: give link or id, one of the two")
        if self.link:
            _link(self.kind, self.link)
        else:
            _text(f"id of the {self.kind}", self.id, 256)

    def body(self) -> Json:
        return {"link": self.link} if self.link else {"id": self.id}


@dataclass(frozen=True, slots=True)
class Image(Media):
    """JPEG or PNG up to 5 MB, with a caption of up to 1,024 characters."""

    caption: str = ""
    kind: ClassVar[str] = "image"

    def __post_init__(self) -> None:
        Media.__post_init__(self)
        _text("caption", self.caption, 1024, least=0)

    def body(self) -> Json:
        return _captioned(Media.body(self), self.caption)


@dataclass(frozen=True, slots=True)
class Video(Media):
    """MP4 or 3GP up to 16 MB, with a caption of up to 1,024 characters."""

    caption: str = ""
    kind: ClassVar[str] = "video"

    def __post_init__(self) -> None:
        Media.__post_init__(self)
        _text("caption", self.caption, 1024, least=0)

    def body(self) -> Json:
        return _captioned(Media.body(self), self.caption)


@dataclass(frozen=True, slots=True)
class Audio(Media):
    """AAC, AMR, MP3, M4A or OGG (opus) up to 16 MB."""

    kind: ClassVar[str] = "audio"


@dataclass(frozen=True, slots=True)
class Document(Media):
    """Any file up to 100 MB, with a caption and the name that it is shown under."""

    caption: str = ""
    filename: str = ""
    kind: ClassVar[str] = "document"

    def __post_init__(self) -> None:
        Media.__post_init__(self)
        _text("caption", self.caption, 1024, least=0)
        _text("filename", self.filename, 240, least=0)

    def body(self) -> Json:
        found = _captioned(Media.body(self), self.caption)
        return found | ({"filename": self.filename} if self.filename else {})


@dataclass(frozen=True, slots=True)
class Location(Content):
    """A point on the map; degrees."""

    latitude: float
    longitude: float
    name: str = ""
    address: str = ""
    kind: ClassVar[str] = "location"

    def __post_init__(self) -> None:
        for name, value, most in (
            ("latitude", self.latitude, 90),
            ("longitude", self.longitude, 180),
        ):
            if (
                isinstance(value, bool)
                or not isinstance(value, (int, float))
                or not -most <= value <= most
            ):
                raise InvalidMessage(f"{name} is a number from -{most} to {most}")
        _text("name of the location", self.name, 1000, least=0)
        _text("address of the location", self.address, 1000, least=0)

    def body(self) -> Json:
        found: Json = {"latitude": self.latitude, "longitude": self.longitude}
        return found | {
            name: text for name in ("name", "address") if (text := getattr(self, name))
        }


@dataclass(frozen=True, slots=True)
class Contacts(Content):
    """Contact cards, as Meta writes them: each with ``name.formatted_name`` and ``phones``."""

    contacts: Sequence[Mapping[str, Any]]
    kind: ClassVar[str] = "contacts"

    def __post_init__(self) -> None:
        if (
            not isinstance(self.contacts, Sequence)
            or not self.contacts
            or len(self.contacts) > 257
        ):
            raise InvalidMessage("contacts: 1 to 257 cards")
        for card in self.contacts:
            name = card.get("name") if isinstance(card, Mapping) else None
            if not isinstance(name, Mapping) or not isinstance(
                name.get("formatted_name"), str
            ):
                raise InvalidMessage("each contact has a name with formatted_name")

    def body(self) -> Any:
        return [dict(card) for card in self.contacts]


@dataclass(frozen=True, slots=True)
class Reaction(Content):
    """An emoji under a message that the recipient sent or got; '' takes it away."""

    message_id: str
    emoji: str
    kind: ClassVar[str] = "reaction"

    def __post_init__(self) -> None:
        _text("message_id of the reaction", self.message_id, 256)
        _text("emoji", self.emoji, 20, least=0)

    def body(self) -> Json:
        return {"message_id": self.message_id, "emoji": self.emoji}


@dataclass(frozen=True, slots=True)
class Buttons(Content):
    """A text with one to three buttons: id (1 to 256 characters) to title (1 to 20)."""

    text: str
    buttons: Mapping[str, str]
    footer: str = ""
    kind: ClassVar[str] = "interactive"

    def __post_init__(self) -> None:
        _text("text", self.text, 1024)
        _text("footer", self.footer, 60, least=0)
        if not isinstance(self.buttons, Mapping) or not 1 <= len(self.buttons) <= 3:
            raise InvalidMessage("buttons: one to three, id to title")
        for ident, title in self.buttons.items():
            _text("id of a button", ident, 256)
            _text("title of a button", title, 20)

    def body(self) -> Json:
        buttons = [
            {"type": "reply", "reply": {"id": ident, "title": title}}
            for ident, title in self.buttons.items()
        ]
        return _footed(
            {
                "type": "button",
                "body": {"text": self.text},
                "action": {"buttons": buttons},
            },
            self.footer,
        )


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a list: id (1 to 200 characters), title (1 to 24), description (up to 72)."""

    id: str
    title: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Choices(Content):
    """A text with a button that opens a list of at most ten rows in sections."""

    text: str
    button: str
    sections: Mapping[str, Sequence[Row]]
    footer: str = ""
    kind: ClassVar[str] = "interactive"

    def __post_init__(self) -> None:
        _text("text", self.text, 4096)
        _text("button", self.button, 20)
        _text("footer", self.footer, 60, least=0)
        if not isinstance(self.sections, Mapping) or not all(
            isinstance(s, Sequence) for s in self.sections.values()
        ):
            raise InvalidMessage(
                "sections of a list are a dictionary: titles to lists of Row(...)"
            )
        rows = [row for section in self.sections.values() for row in section]
        if not all(isinstance(row, Row) for row in rows):
            raise InvalidMessage("sections of a list hold Row(...) only")
        if (
            not 1 <= len(rows) <= 10
            or len(self.sections) > 10
            or not all(self.sections.values())
        ):
            raise InvalidMessage(
                "a list has one to ten rows in all, and none of its sections is empty"
            )
        for title in self.sections:
            _text(
                "title of a section",
                title,
                24,
                least=0 if len(self.sections) == 1 else 1,
            )
        for row in rows:
            _text("id of a row", row.id, 200)
            _text("title of a row", row.title, 24)
            _text("description of a row", row.description, 72, least=0)

    def body(self) -> Json:
        sections = [
            {"title": title, "rows": [_row(row) for row in rows]}
            if title
            else {"rows": [_row(row) for row in rows]}
            for title, rows in self.sections.items()
        ]
        action = {"button": self.button, "sections": sections}
        return _footed(
            {"type": "list", "body": {"text": self.text}, "action": action}, self.footer
        )


@dataclass(frozen=True, slots=True)
class Stored(Content):
    """What was read from the queue: Meta's word for the kind, and the body as it was made."""

    name: str
    stored: Any = field(repr=False)
    kind: ClassVar[str] = ""

    def body(self) -> Any:
        return self.stored


def _row(row: Row) -> Json:
    found: Json = {"id": row.id, "title": row.title}
    return found | ({"description": row.description} if row.description else {})


def _captioned(body: Json, caption: str) -> Json:
    return body | ({"caption": caption} if caption else {})


def _footed(body: Json, footer: str) -> Json:
    return body | ({"footer": {"text": footer}} if footer else {})


def _text(what: str, value: Any, most: int, *, least: int = 1) -> None:
    if (
        not isinstance(value, str)
        or not least <= len(value) <= most
        or (least and not value.strip())
    ):
        found = (
            f"of {len(value)}"
            if isinstance(value, str)
            else f"not {type(value).__name__}"
        )
        raise InvalidMessage(f"{what}: a text of {least} to {most} characters, {found}")


def _link(what: str, value: str) -> None:
    parts = urlsplit(value) if isinstance(value, str) and len(value) <= 2048 else None
    if (
        parts is None
        or parts.scheme not in ("https", "http")
        or not parts.hostname
        or parts.username
    ):
        raise InvalidMessage(
            f"link of the {what}: an https address of at most 2048 characters, without a user"
        )
