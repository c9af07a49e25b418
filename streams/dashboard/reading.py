"""Parameters of requests, read with care: names checked, numbers clamped, texts cut."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request

from streams.admin.dead_letter import Filter
from streams.errors import InvalidName, NotFound
from streams.events.names import checked_name
from streams.pipeline import Pipeline

FILTERS = ("type", "reason", "error", "tenant", "event_id", "text", "since", "until")
"""The filters of dead letters, as forms call them."""
_POSITION = re.compile(r"[0-9]{1,19}-[0-9]{1,19}", re.ASCII)


def name_of(request: Request) -> str:
    """The stream in the path.

    Raises:
        NotFound: it can be none.
    """
    try:
        return checked_name(request.path_params["stream"], "stream")
    except InvalidName:
        raise NotFound("no such stream") from None


def text(request: Request, name: str, most: int) -> str:
    """A text of the query, cut to ``most`` characters; '' if it is not there."""
    return filled(request.query_params, name, most)


def filled(form: Mapping[str, Any], name: str, most: int = 100) -> str:
    """A text of a form, cut to ``most`` characters; '' if it is not there."""
    return str(form.get(name, ""))[:most]


def position(request: Request, name: str) -> str:
    """An entry id of the query, from which a list goes on; '' if it is none."""
    given = text(request, name, 60)

    return given if _POSITION.fullmatch(given) else ""


def number(request: Request, name: str, default: int, low: int, high: int) -> int:
    """A number of the query within limits; ``default`` if it is none."""
    given = request.query_params.get(name, "")[:20]
    if not given.removeprefix("-").isascii() or not given.removeprefix("-").isdigit():
        return default

    return max(low, min(high, int(given)))


def choice(request: Request, name: str, of: Sequence[str]) -> str:
    """A word of the query; the first of those that there are, if it is none of them."""
    given = request.query_params.get(name, "")

    return given if given in of else of[0]


async def group_of(
    pipeline: Pipeline, stream: str, wanted: str = "", partition: int | None = None
) -> str:
    """A group of a stream, or of one partition: that of the name, or the first.

    Raises:
        NotFound: there is no such stream or group.
    """
    row = await pipeline.status().stream(stream, partition=partition)
    groups = [group.group for group in row.groups if group.group]
    if wanted and wanted not in groups:
        raise NotFound("no such group")

    if not groups:
        raise NotFound("no group")

    return wanted or groups[0]


def filter_of(given: Mapping[str, Any]) -> tuple[Filter, dict[str, str]]:
    """The filter of a form or query, and its texts; times are UTC, as browsers write them."""
    values = {name: str(given.get(name, ""))[:200].strip() for name in FILTERS}
    since, until = _time(values["since"]), _time(values["until"])
    texts: dict[str, Any] = {name: value or None for name, value in values.items()}

    return Filter(**texts | {"since": since, "until": until}), values


def _time(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return None
