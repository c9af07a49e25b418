"""What a provider says became of a message. Decided once, here in types, so that nobody else reads error codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scope = Literal["app", "waba", "instance", "pair"]
"""Whose limit: the application's, the business account's, the sending number's, or that of number and recipient."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Base of the outcomes.

    Attributes:
        code: the provider's own, as text; '' if it gave none.
        reason: a short stable word or sentence, without what was sent or to whom.
        trace: the provider's id of the request, for its support; '' if it gave none.
    """

    code: str = ""
    reason: str = ""
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Sent(Outcome):
    """The provider accepted it. ``provider_id`` is how it names the message (wamid)."""

    provider_id: str = ""


@dataclass(frozen=True, slots=True)
class Again(Outcome):
    """It did not go out and may another time. ``after``: seconds, None: as the message's own policy says.

    ``most``: retries after which it is hopeless; None: the message's own.
    """

    after: float | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Throttled(Outcome):
    """Too fast for ``scope``: nothing of it for ``after`` seconds. Costs no attempt."""

    scope: Scope = "instance"
    after: float = 60.0


@dataclass(frozen=True, slots=True)
class Blocked(Outcome):
    """The instance cannot send: credentials, account, registration or connection. Its messages wait, free."""


@dataclass(frozen=True, slots=True)
class Hopeless(Outcome):
    """This message can never go out. ``suppress``: nor any marketing message to this recipient."""

    suppress: bool = False


@dataclass(frozen=True, slots=True)
class Unknown(Outcome):
    """The request was written and the answer was lost: it went out or it did not. Never sent again blindly."""
