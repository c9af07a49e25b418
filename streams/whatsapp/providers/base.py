"""What a provider is, and what the providers over HTTP share."""

from __future__ import annotations

import email.utils
import logging
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import httpx

from streams.whatsapp.message import Message
from streams.whatsapp.outcome import Again, Outcome, Unknown

# A line per request says nothing that a message's timeline does not.
logging.getLogger("httpx").setLevel(logging.WARNING)


class Connection(StrEnum):
    """Whether an instance can send at the moment, as its provider says."""

    OPEN = "open"
    CONNECTING = "connecting"
    CLOSED = "closed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Instance:
    """A sender: one phone number or session of a tenant at a provider.

    Attributes:
        id: as in ``instance_id``.
        provider: ``cloud``, ``evolution`` or ``sandbox``.
        base_url: of the provider; '' for its default.
        token: the secret, resolved; never shown.
        name: the phone number id (cloud) or the session's name (evolution); the id if ''.
        waba: the business account that it shares limits with; '' if none is known.
    """

    id: str
    provider: str = "sandbox"
    base_url: str = ""
    token: str = field(default="", repr=False)
    name: str = ""
    waba: str = ""

    @property
    def called(self) -> str:
        """What the provider calls it."""
        return self.name or self.id


class Provider(Protocol):
    """Sends for instances. It never tries twice: that is the queue's business."""

    async def send(
        self, instance: Instance, message: Message, message_id: str
    ) -> Outcome:
        """Send once; every answer, and every way of getting none, is an outcome. Raises nothing for those."""
        ...

    async def connection(self, instance: Instance) -> Connection:
        """Whether the instance can send. Raises nothing: ``UNKNOWN`` if the provider does not say."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...


async def post(
    client: httpx.AsyncClient, url: str, body: Any, headers: dict[str, str]
) -> httpx.Response | Again | Unknown:
    """One request. What failed before the request was on its way can be tried again; what failed later is unknown."""
    try:
        return await client.post(url, json=body, headers=headers)
    except (
        httpx.ConnectError,
        httpx.ConnectTimeout,
        httpx.PoolTimeout,
        httpx.UnsupportedProtocol,
    ) as error:
        return Again(reason=f"not connected: {type(error).__name__}")
    except httpx.InvalidURL:
        return Again(reason="not connected: InvalidURL")
    except httpx.HTTPError as error:
        return Unknown(reason=f"no answer: {type(error).__name__}")


def answer(response: httpx.Response) -> Any:
    """The JSON of a response; None if it has none."""
    try:
        return response.json()
    except (ValueError, UnicodeDecodeError):
        return None


def retry_after(response: httpx.Response) -> float | None:
    """Seconds of ``Retry-After``, given as a number or as a date; None if it is absent or cannot be read."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdigit():
        return min(float(text), 86_400.0)
    try:
        at = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return min(max(0.0, at.timestamp() - time.time()), 86_400.0)
