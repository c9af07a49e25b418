"""Answers to programs whose request failed, as RFC 9457 has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

_TITLES = {
    400: "Bad request",
    401: "Log in",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Too large",
    415: "Wrong media type",
    422: "Not valid",
    429: "Too many requests",
    503: "Not available",
}


def problem_of(
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Response:
    """The answer to a request that is refused, or that failed; ``more`` are further fields."""
    body = {
        "type": "about:blank",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
    }

    return Response(
        orjson.dumps({**body, **(more or {})}),
        status,
        dict(headers or {}),
        media_type="application/problem+json",
    )
