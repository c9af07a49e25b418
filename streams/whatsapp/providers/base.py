"""The protocol of a provider, and the parts that providers over HTTP share."""

from __future__ import annotations

import email.utils
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import httpx

from streams.whatsapp.message import Message
from streams.whatsapp.outcome import Again, Outcome, Sent, Unknown

# The timeline of a message says more than a line per request.
logging.getLogger("httpx").setLevel(logging.WARNING)

_LONGEST_WAIT = 86_400.0
_NOT_CONNECTED = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)


class Connection(StrEnum):
    """Whether an instance can send at the moment, as its provider reports it."""

    OPEN = "open"
    CONNECTING = "connecting"
    CLOSED = "closed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Instance:
    """A sender: one phone number or session of a tenant at a provider.

    Attributes:
        id: the ``instance_id`` of callers.
        provider: ``cloud``, ``evolution`` or ``sandbox``.
        base_url: address of the provider; '' means its default.
        token: the secret itself; never shown.
        name: the phone number id (cloud) or the name of the session (evolution);
            '' means that the provider uses ``id``.
        waba: the business account whose limits it shares; '' if unknown.
    """

    id: str
    provider: str = "sandbox"
    base_url: str = ""
    token: str = field(default="", repr=False)
    name: str = ""
    waba: str = ""

    @property
    def called(self) -> str:
        """The provider's name for this instance."""
        return self.name or self.id


class Provider(Protocol):
    """Sends messages of instances. It never retries: the queue does."""

    async def send(
        self, instance: Instance, message: Message, message_id: str
    ) -> Outcome:
        """Send once. Errors and lost answers are returned as outcomes, not raised."""
        ...

    async def connection(self, instance: Instance) -> Connection:
        """Ask whether the instance can send; ``UNKNOWN`` if there is no usable answer."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...


class HttpProvider:
    """Base of the providers that send over HTTP.

    Args:
        timeout: seconds for one request.
        client: HTTP client to use; None creates one that follows no redirects.
    """

    def __init__(
        self, timeout: float = 30.0, client: httpx.AsyncClient | None = None
    ) -> None:
        self._client = client or httpx.AsyncClient(
            timeout=timeout, follow_redirects=False
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _post(
        self,
        url: str,
        body: Any,
        headers: dict[str, str],
        read: Callable[[httpx.Response], Outcome],
    ) -> Outcome:
        """Send one request and read its answer.

        An error before the request left means that it can be tried again. After a later
        error the outcome is unknown.
        """
        try:
            response = await self._client.post(url, json=body, headers=headers)
        except _NOT_CONNECTED as error:
            return Again(reason=f"not connected: {type(error).__name__}")
        except httpx.HTTPError as error:
            return Unknown(reason=f"no answer: {type(error).__name__}")

        return read(response)

    async def _get(
        self, url: str, headers: dict[str, str], params: dict[str, str] | None = None
    ) -> httpx.Response | None:
        """Ask for a page; None if no answer came."""
        try:
            return await self._client.get(url, params=params, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL):
            return None


def accepted(provider_id: object, reason: str = "accepted") -> Outcome:
    """The outcome of a request that succeeded: sent, or unknown if the answer has no id."""
    if isinstance(provider_id, str) and provider_id:
        return Sent(reason=reason, provider_id=provider_id)

    return Unknown(reason="accepted without an id")


def answer(response: httpx.Response) -> Mapping[str, Any]:
    """The JSON object of a response; an empty one if the body is anything else."""
    try:
        return as_object(response.json())
    except (ValueError, UnicodeDecodeError):
        return {}


def as_object(value: Any) -> Mapping[str, Any]:
    """A JSON object as it is; an empty one in place of any other value."""
    return value if isinstance(value, Mapping) else {}


def as_objects(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a JSON list; empty for any other value."""
    rows = value if isinstance(value, list) else []
    return [row for row in rows if isinstance(row, Mapping)]


def retry_after(response: httpx.Response) -> float | None:
    """Seconds of the header ``Retry-After``, a number or a date; None if unreadable."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdigit():
        return min(float(text), _LONGEST_WAIT)

    try:
        at = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None

    return min(max(0.0, at.timestamp() - time.time()), _LONGEST_WAIT)
