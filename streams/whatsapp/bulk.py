"""Bulk: messages from the rows of a CSV file, each queued once however often the file is run."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from streams.errors import ConfigurationError, InvalidMessage
from streams.whatsapp.content import Content, Template, Text
from streams.whatsapp.messages import MessageOptions, Messages
from streams.whatsapp.recipient import Recipient

_FIELD = re.compile(r"\{(\w+)\}")
_TOGETHER = 100
PHONE = "phone"


@dataclass(frozen=True, slots=True)
class Plan:
    """What the rows become.

    Attributes:
        template: name of a template, whose parameters are the columns of ``parameters``; '' for a text.
        language: of the template.
        parameters: columns, in the order of the template's parameters.
        text: with ``{column}`` for the value of a column; '' for a template.
        campaign: two runs of the same campaign send no row twice.
    """

    template: str = ""
    language: str = "pt_BR"
    parameters: tuple[str, ...] = ()
    text: str = ""
    campaign: str = ""

    def __post_init__(self) -> None:
        if bool(self.template) == bool(self.text):
            raise ConfigurationError("give a template or a text, one of the two")
        if self.text and self.parameters:
            raise ConfigurationError(
                "parameters belong to a template; a text has {column}"
            )

    def columns(self) -> list[str]:
        """Those that a file must have, beside ``phone``."""
        return _FIELD.findall(self.text) if self.text else list(self.parameters)

    def content(self, row: dict[str, str]) -> Content:
        """What the message of a row says.

        Raises:
            InvalidMessage: the provider would refuse it, or a value is missing.
        """
        for name in self.columns():
            if not row.get(name):
                raise InvalidMessage(f"column {name!r} is empty")
        if self.text:
            return Text(_FIELD.sub(lambda found: row[found[1]], self.text))
        parameters = [{"type": "text", "text": row[name]} for name in self.parameters]
        components = [{"type": "body", "parameters": parameters}] if parameters else []
        return Template(self.template, self.language, components)


class Row(NamedTuple):
    """A line of the file: its number, and its recipient and content, or why it has none."""

    line: int
    to: Recipient | None
    content: Content | None
    problem: str = ""


class Queued(NamedTuple):
    """A row that was queued, or had been before."""

    line: int
    message_id: str
    is_new: bool


def read(path: Path, plan: Plan) -> Iterator[Row]:
    """The rows of a file with a header, checked; a recipient that comes again is a problem of the later row.

    Raises:
        ConfigurationError: the file cannot be read, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            sample = file.read(4096)
            file.seek(0)
            rows = csv.DictReader(
                file, delimiter=";" if sample.count(";") > sample.count(",") else ","
            )
            missing = [
                name
                for name in (PHONE, *plan.columns())
                if name not in (rows.fieldnames or ())
            ]
            if missing:
                raise ConfigurationError(
                    f"{path.name} has no column {', '.join(missing)}"
                )
            yield from _checked(rows, plan)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(
            f"{path.name} cannot be read: {type(error).__name__}"
        ) from None


def _checked(rows: Iterable[dict[str, str]], plan: Plan) -> Iterator[Row]:
    seen: dict[str, int] = {}
    for line, row in enumerate(rows, 2):
        try:
            to = Recipient.parse(row.get(PHONE) or "")
            if to.text in seen:
                yield Row(
                    line, None, None, f"the same recipient as in line {seen[to.text]}"
                )
                continue
            content = plan.content(
                {name: (value or "").strip() for name, value in row.items() if name}
            )
        except InvalidMessage as error:
            yield Row(line, None, None, str(error))
        else:
            seen[to.text] = line
            yield Row(line, to, content)


async def queue_rows(
    messages: Messages, rows: Sequence[Row], campaign: str, options: MessageOptions
) -> AsyncIterator[Queued]:
    """Queue the rows that have no problem, in their order; gives each once it is stored.

    A row has an idempotency key of campaign and recipient, so a run that was interrupted can be repeated.
    """
    good = [row for row in rows if not row.problem]
    for at in range(0, len(good), _TOGETHER):
        part = good[at : at + _TOGETHER]
        for row, (ident, is_new) in zip(
            part,
            await asyncio.gather(
                *(_queue(messages, row, campaign, options) for row in part)
            ),
            strict=True,
        ):
            yield Queued(row.line, ident, is_new)


async def _queue(
    messages: Messages, row: Row, campaign: str, options: MessageOptions
) -> tuple[str, bool]:
    if row.to is None or row.content is None:
        raise InvalidMessage(row.problem)
    key = hashlib.sha256(f"{campaign}\n{row.to.text}".encode()).hexdigest()[:40]
    given: MessageOptions = {**options, "idempotency_key": f"bulk-{key}"}
    return await messages.add_once(row.to, row.content, **given)


def campaign_of(path: Path, plan: Plan) -> str:
    """A name for a campaign that was given none: the same for the same file and the same words."""
    parts = (
        path.read_bytes(),
        plan.template.encode(),
        plan.text.encode(),
        plan.language.encode(),
    )
    return hashlib.sha256(b"\n".join(parts)).hexdigest()[:16]
