"""State of the sandbox: accepted messages, planned faults, and disconnected senders."""

from __future__ import annotations

import random
import time
import uuid
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_KEPT = 100_000


@dataclass(frozen=True, slots=True)
class Taken:
    """An accepted message.

    Attributes:
        at: Unix seconds.
        phone_number_id: the sender.
        to: the recipient.
        kind: Meta's word for its type.
        wamid: the id that the sandbox gave to it.
        callback: the message's own id, repeated in status webhooks.
        body: the whole request.
    """

    at: float
    phone_number_id: str
    to: str
    kind: str
    wamid: str
    callback: str
    body: Mapping[str, Any] = field(repr=False)


@dataclass(slots=True)
class Fault:
    """A planned fault.

    Attributes:
        code: Meta's error code. 0 with a status of 5xx means an answer without an error
            object; -1 accepts the message but gives no answer.
        share: of the requests, 0 to 1.
        count: number of times; None means always.
        status: of the HTTP answer.
        retry_after: seconds for the header; None sends no header.
        phone_number_id: of the sender that fails; '' means all.
        to: the recipient whose messages fail, with or without a plus sign; '' means all.
            Name the recipient to hit one message: otherwise the next message fails.
    """

    code: int
    share: float = 1.0
    count: int | None = None
    status: int = 400
    retry_after: int | None = None
    phone_number_id: str = ""
    to: str = ""

    def is_meant_for(self, phone_number_id: str, to: str) -> bool:
        """Whether it applies to a message of this sender to this recipient."""
        is_sender = self.phone_number_id in ("", phone_number_id)
        is_recipient = self.to.lstrip("+") in ("", to.lstrip("+"))
        return is_sender and is_recipient and self.count != 0


class Phone:
    """The state of the sandbox.

    Args:
        seed: of the random choice of faults.
    """

    def __init__(self, seed: int = 0) -> None:
        self.taken: deque[Taken] = deque(maxlen=_KEPT)
        self.answers: Counter[str] = Counter()
        self.faults: list[Fault] = []
        self.disconnected: set[str] = set()
        self._chance = random.Random(seed)  # noqa: S311 - no secret
        self._count = 0
        # Senders may still know ids of an earlier sandbox.
        self._name = f"sandbox-{uuid.uuid4().hex[:8]}-"

    def fault(self, phone_number_id: str, body: Mapping[str, Any]) -> Fault | None:
        """The fault of this message; None if there is none."""
        if phone_number_id in self.disconnected:
            return Fault(133010)

        for fault in self.faults:
            if (
                fault.is_meant_for(phone_number_id, recipient(body))
                and self._chance.random() < fault.share
            ):
                if fault.count is not None:
                    fault.count -= 1

                return fault

        return None

    def take(self, phone_number_id: str, body: Mapping[str, Any]) -> Taken:
        """Accept a message."""
        self._count += 1
        taken = Taken(
            time.time(),
            phone_number_id,
            recipient(body),
            str(body.get("type")),
            f"wamid.{self._name}{self._count}",
            str(body.get("biz_opaque_callback_data", "")),
            body,
        )
        self.taken.append(taken)

        return taken


def recipient(body: Mapping[str, Any]) -> str:
    """The recipient of a message."""
    return str(body.get("to") or body.get("recipient"))
