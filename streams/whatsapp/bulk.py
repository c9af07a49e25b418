"""Bulk messages from a CSV file. Each row is queued once, even if the file runs again."""

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
    """The message that is made of each row.

    Attributes:
        template: name of a template; its parameters are the columns of ``parameters``.
            '' for a text.
        language: of the template.
        parameters: columns, in the order of the template's parameters.
        text: with ``{column}`` for the value of a column; '' for a template.
        campaign: several runs of a campaign send each row once.
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
        """The columns that a file needs beside ``phone``."""
        return _FIELD.findall(self.text) if self.text else list(self.parameters)

    def content(self, row: dict[str, str]) -> Content:
        """The content of the message of a row.

        Raises:
            InvalidMessage: the provider would refuse it, or a value is missing.
        """
        for name in self.columns():
            if not row.get(name):
                raise InvalidMessage(f"column {name!r} is empty")

        if self.text:
            filled = _FIELD.sub(
                lambda found: row[found[1]],
                self.text,
            )
            return Text(filled)

        parameters = [{"type": "text", "text": row[name]} for name in self.parameters]
        components = [{"type": "body", "parameters": parameters}] if parameters else []
        return Template(
            self.template,
            self.language,
            components,
        )


class BulkRow(NamedTuple):
    """A line of the file, with recipient and content, or with a problem."""

    line: int
    to: Recipient | None
    content: Content | None
    problem: str = ""


class Queued(NamedTuple):
    """A row that is queued, now or by an earlier run."""

    line: int
    message_id: str
    is_new: bool


def read(path: Path, plan: Plan) -> Iterator[BulkRow]:
    """The checked rows of a file with a header. A repeated recipient is a problem.

    Raises:
        ConfigurationError: the file cannot be read, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            sample = file.read(4096)
            file.seek(0)
            has_semicolons = sample.count(";") > sample.count(",")
            rows = csv.DictReader(
                file,
                delimiter=";" if has_semicolons else ",",
            )
            present = rows.fieldnames or ()
            wanted = (PHONE, *plan.columns())
            missing = [name for name in wanted if name not in present]

            if missing:
                names = ", ".join(missing)
                raise ConfigurationError(f"{path.name} has no column {names}")

            yield from _checked(rows, plan)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(
            f"{path.name} cannot be read: {type(error).__name__}"
        ) from None


def _checked(rows: Iterable[dict[str, str]], plan: Plan) -> Iterator[BulkRow]:
    seen: dict[str, int] = {}
    for line, row in enumerate(rows, 2):
        values = {name: (value or "").strip() for name, value in row.items() if name}
        try:
            to = Recipient.parse(values.get(PHONE, ""))
            earlier = seen.get(to.text)
            if earlier is not None:
                raise InvalidMessage(f"the same recipient as in line {earlier}")

            content = plan.content(values)
        except InvalidMessage as error:
            yield BulkRow(
                line,
                None,
                None,
                str(error),
            )
        else:
            seen[to.text] = line
            yield BulkRow(
                line,
                to,
                content,
            )


async def queue_rows(
    messages: Messages, rows: Sequence[BulkRow], campaign: str, options: MessageOptions
) -> AsyncIterator[Queued]:
    """Queue the rows without a problem, in order; yields each one when it is stored.

    The idempotency key of a row is made of campaign and recipient, so that an interrupted run
    can be repeated.
    """
    good = [row for row in rows if not row.problem]

    for at in range(0, len(good), _TOGETHER):
        part = good[at : at + _TOGETHER]
        work = [_queue(messages, row, campaign, options) for row in part]

        for queued in await asyncio.gather(*work):
            yield queued


async def _queue(
    messages: Messages, row: BulkRow, campaign: str, options: MessageOptions
) -> Queued:
    if row.to is None or row.content is None:
        raise InvalidMessage(row.problem)

    name = f"{campaign}\n{row.to.text}"
    key = hashlib.sha256(name.encode()).hexdigest()[:40]

    given: MessageOptions = {**options, "idempotency_key": f"bulk-{key}"}
    ident, is_new = await messages.add_once(
        row.to,
        row.content,
        **given,
    )

    return Queued(row.line, ident, is_new)


def campaign_of(path: Path, plan: Plan) -> str:
    """The default name of a campaign: the same for the same file and plan."""
    words = "\n".join([plan.template, plan.text, plan.language])
    content = path.read_bytes() + b"\n" + words.encode()
    return hashlib.sha256(content).hexdigest()[:16]
