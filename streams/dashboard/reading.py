"""What a request asks for, read with care: names checked, numbers clamped, texts cut."""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.requests import Request

from streams.errors import InvalidName, NotFound
from streams.keys import checked_name

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
    return request.query_params.get(name, "")[:most]


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
