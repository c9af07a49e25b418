"""The content of a message: one class per kind, with the limits that Meta documents.

A content is checked when it is made, so before its message is queued. ``body()`` is the part of
a Cloud API request that is named after the kind; messages are stored in the same form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, NamedTuple
from urllib.parse import urlsplit

from streams.errors import InvalidMessage

Json = dict[str, Any]


class TextLimit(NamedTuple):
    """The length of a text field, in characters; ``owner`` completes its name in errors."""

    name: str
    most: int
    least: int = 1
    owner: str = ""

    def check(self, value: Any) -> None:
        """Raise ``InvalidMessage`` unless the value is a text of such a length."""
        if not isinstance(value, str):
            raise self._error(f"not {type(value).__name__}")

        is_blank = bool(self.least) and not value.strip()

        if is_blank or not self.least <= len(value) <= self.most:
            raise self._error(f"of {len(value)}")

    def _error(self, found: str) -> InvalidMessage:
        name = f"{self.name} of {self.owner}" if self.owner else self.name
        bounds = f"{self.least} to {self.most} characters"

        return InvalidMessage(f"{name}: a text of {bounds}, {found}")


_FOOTER = TextLimit("footer", 60, least=0)


class Content:
    """Base of the kinds. ``kind`` is Meta's word for it; ``limits`` are of its texts."""

    kind: ClassVar[str]
    limits: ClassVar[tuple[TextLimit, ...]] = ()
    __slots__ = ()

    def __post_init__(self) -> None:
        for limit in self.limits:
            limit.check(getattr(self, limit.name))

    def body(self) -> Json:
        """The content in the form of the Cloud API."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Text(Content):
    """A text of 1 to 4,096 characters.

    ``preview_url`` shows a preview of its first link.
    """

    text: str
    preview_url: bool = False
    kind = "text"
    limits = (TextLimit("text", 4096),)

    def body(self) -> Json:
        return {"body": self.text, "preview_url": self.preview_url}


@dataclass(frozen=True, slots=True)
class Template(Content):
    """An approved template: its name, language and components.

    The components hold the parameters in the form that Meta documents.
    """

    name: str
    language: str = "pt_BR"
    components: Sequence[Mapping[str, Any]] = ()
    kind = "template"
    limits = (
        TextLimit("name", 512, owner="the template"),
        TextLimit("language", 20, owner="the template"),
    )

    def __post_init__(self) -> None:
        Content.__post_init__(self)

        if not _is_list(self.components):
            raise InvalidMessage("components of a template are a list")

        for component in self.components:
            _check_component(component)

    def body(self) -> Json:
        return _filled(
            name=self.name,
            language={"code": self.language},
            components=[dict(component) for component in self.components],
        )


def _check_component(component: Any) -> None:
    kinds = ("header", "body", "button")

    if not isinstance(component, Mapping) or component.get("type") not in kinds:
        raise InvalidMessage(
            "components of a template are objects of type header, body or button"
        )

    if not isinstance(component.get("parameters", []), Sequence):
        raise InvalidMessage("parameters of a template's component are a list")


@dataclass(frozen=True, slots=True)
class Media(Content):
    """A file, by its https link or by the id that Meta gave to the upload."""

    link: str = ""
    id: str = ""

    def __post_init__(self) -> None:
        Content.__post_init__(self)

        if bool(self.link) == bool(self.id):
            raise InvalidMessage(f"{self.kind}: give link or id, one of the two")

        if self.link:
            _check_link(self.kind, self.link)
        else:
            TextLimit(
                "id",
                256,
                owner=f"the {self.kind}",
            ).check(self.id)

    def body(self) -> Json:
        return _filled(**asdict(self))


@dataclass(frozen=True, slots=True)
class _Captioned(Media):
    caption: str = ""
    limits: ClassVar[tuple[TextLimit, ...]] = (TextLimit("caption", 1024, least=0),)


@dataclass(frozen=True, slots=True)
class Image(_Captioned):
    """JPEG or PNG up to 5 MB, with a caption of up to 1,024 characters."""

    kind = "image"


@dataclass(frozen=True, slots=True)
class Video(_Captioned):
    """MP4 or 3GP up to 16 MB, with a caption of up to 1,024 characters."""

    kind = "video"


@dataclass(frozen=True, slots=True)
class Audio(Media):
    """AAC, AMR, MP3, M4A or OGG (opus) up to 16 MB."""

    kind = "audio"


@dataclass(frozen=True, slots=True)
class Document(_Captioned):
    """Any file up to 100 MB, with a caption and a file name to show."""

    filename: str = ""
    kind = "document"
    limits = (
        *_Captioned.limits,
        TextLimit("filename", 240, least=0),
    )


@dataclass(frozen=True, slots=True)
class Location(Content):
    """A point on the map; degrees."""

    latitude: float
    longitude: float
    name: str = ""
    address: str = ""
    kind = "location"
    limits = (
        TextLimit("name", 1000, 0, "the location"),
        TextLimit("address", 1000, 0, "the location"),
    )

    def __post_init__(self) -> None:
        _check_degrees("latitude", self.latitude, 90)
        _check_degrees("longitude", self.longitude, 180)
        Content.__post_init__(self)

    def body(self) -> Json:
        point = {"latitude": self.latitude, "longitude": self.longitude}

        return point | _filled(name=self.name, address=self.address)


@dataclass(frozen=True, slots=True)
class Contacts(Content):
    """Contact cards in Meta's form: each with ``name.formatted_name`` and ``phones``."""

    contacts: Sequence[Mapping[str, Any]]
    kind = "contacts"

    def __post_init__(self) -> None:
        cards = self.contacts

        if not isinstance(cards, Sequence) or not 1 <= len(cards) <= 257:
            raise InvalidMessage("contacts: 1 to 257 cards")

        for card in cards:
            name = card.get("name") if isinstance(card, Mapping) else None
            text = name.get("formatted_name") if isinstance(name, Mapping) else None

            if not isinstance(text, str):
                raise InvalidMessage("each contact has a name with formatted_name")

    def body(self) -> Any:
        return [dict(card) for card in self.contacts]


@dataclass(frozen=True, slots=True)
class Reaction(Content):
    """An emoji on a message from or to the recipient; '' removes it."""

    message_id: str
    emoji: str
    kind = "reaction"
    limits = (
        TextLimit("message_id", 256, owner="the reaction"),
        TextLimit("emoji", 20, least=0),
    )

    def body(self) -> Json:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Buttons(Content):
    """A text with one to three buttons: id (1 to 256 characters) to title (1 to 20)."""

    text: str
    buttons: Mapping[str, str]
    footer: str = ""
    kind = "interactive"
    limits = (
        TextLimit("text", 1024),
        _FOOTER,
    )

    def __post_init__(self) -> None:
        Content.__post_init__(self)

        if not isinstance(self.buttons, Mapping) or not 1 <= len(self.buttons) <= 3:
            raise InvalidMessage("buttons: one to three, id to title")

        for ident, title in self.buttons.items():
            TextLimit("id of a button", 256).check(ident)
            TextLimit("title of a button", 20).check(title)

    def body(self) -> Json:
        buttons = [
            {"type": "reply", "reply": {"id": ident, "title": title}}
            for ident, title in self.buttons.items()
        ]

        return _interactive(
            "button",
            self,
            {"buttons": buttons},
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
    kind = "interactive"
    limits = (
        TextLimit("text", 4096),
        TextLimit("button", 20),
        _FOOTER,
    )

    def __post_init__(self) -> None:
        Content.__post_init__(self)
        sections = self.sections

        if not isinstance(sections, Mapping) or not all(
            isinstance(section, Sequence) for section in sections.values()
        ):
            raise InvalidMessage(
                "sections of a list are a dictionary: titles to lists of Row(...)"
            )

        rows = [row for section in sections.values() for row in section]

        if not all(isinstance(row, Row) for row in rows):
            raise InvalidMessage("sections of a list hold Row(...) only")

        # There are as many rows as sections at least, so at most ten sections.
        if not 1 <= len(rows) <= 10 or not all(sections.values()):
            raise InvalidMessage(
                "a list has one to ten rows in all, and none of its sections is empty"
            )

        # A single section may go without a title.
        least = 0 if len(sections) == 1 else 1

        for title in sections:
            TextLimit("title of a section", 24, least).check(title)

        for row in rows:
            TextLimit("id of a row", 200).check(row.id)
            TextLimit("title of a row", 24).check(row.title)
            TextLimit("description of a row", 72, least=0).check(row.description)

    def body(self) -> Json:
        sections = [
            _filled(title=title, rows=[_filled(**asdict(row)) for row in rows])
            for title, rows in self.sections.items()
        ]
        action = {"button": self.button, "sections": sections}

        return _interactive("list", self, action)


@dataclass(frozen=True, slots=True)
class StoredContent(Content):
    """A content that was read from the queue: Meta's word for its kind, and its body."""

    name: str
    stored: Any = field(repr=False)
    kind = ""

    def body(self) -> Any:
        return self.stored


def _interactive(kind: str, content: Buttons | Choices, action: Json) -> Json:
    return _filled(
        type=kind,
        body={"text": content.text},
        action=action,
        footer=content.footer and {"text": content.footer},
    )


def _filled(**fields: Any) -> Json:
    """The fields that have a value: Meta refuses empty ones."""
    return {name: value for name, value in fields.items() if value}


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _check_degrees(name: str, value: Any, most: int) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)

    if not is_number or not -most <= value <= most:
        raise InvalidMessage(f"{name} is a number from -{most} to {most}")


def _check_link(kind: str, value: Any) -> None:
    parts = urlsplit(value) if isinstance(value, str) and len(value) <= 2048 else None
    is_http = parts is not None and parts.scheme in ("https", "http")

    if parts is None or not is_http or not parts.hostname or parts.username:
        raise InvalidMessage(
            f"link of the {kind}: an https address of at most 2048 characters,"
            " without a user"
        )
