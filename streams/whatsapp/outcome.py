"""The outcome of one try to send, as types. Only the providers read error codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scope = Literal["app", "waba", "instance", "pair"]
"""The owner of a limit: the application, the business account, the sending number, or
the pair of sending number and recipient."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Base of the outcomes.

    Attributes:
        code: the provider's own code, as text; '' if it gave none.
        reason: a short stable word or sentence, without content or recipient.
        trace: the provider's id of the request, for its support; '' if it gave none.
    """

    code: str = ""
    reason: str = ""
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Sent(Outcome):
    """The provider accepted the message. ``provider_id`` is its name for it (wamid)."""

    provider_id: str = ""


@dataclass(frozen=True, slots=True)
class Again(Outcome):
    """The message did not go out; a later try may succeed.

    Attributes:
        after: seconds until the next try; None leaves it to the message's policy.
        most: retries after which the message fails; None leaves it to the policy.
    """

    after: float | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Throttled(Outcome):
    """Too fast: ``scope`` sends nothing for ``after`` seconds. Costs no attempt."""

    scope: Scope = "instance"
    after: float = 60.0


@dataclass(frozen=True, slots=True)
class Blocked(Outcome):
    """The instance cannot send: its token, account, registration or connection is bad.

    Its messages wait, and that costs them no attempt.
    """


@dataclass(frozen=True, slots=True)
class Hopeless(Outcome):
    """This message can never go out.

    Attributes:
        suppress: the recipient takes no marketing messages at all.
    """

    suppress: bool = False


@dataclass(frozen=True, slots=True)
class Unknown(Outcome):
    """The request left, but its answer was lost. It is never sent again blindly."""
