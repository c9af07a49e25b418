"""What the sandbox remembers: messages it took, faults it was told to make, and which senders are connected."""

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
    """A message that was taken.

    Attributes:
        at: Unix seconds.
        phone_number_id: the sender.
        to: the recipient.
        kind: Meta's word for what it is.
        wamid: the id that it was given.
        callback: what the sender wants to see again in status webhooks: the message's own id.
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
    """Something that goes wrong.

    Attributes:
        code: Meta's error code; 0 with a status of 5xx: an answer without an error object; -1: no answer at all,
            although the message was taken.
        share: of the requests, 0 to 1.
        count: how often at most; None: always.
        status: of the HTTP answer.
        retry_after: seconds, as a header; None: none.
        phone_number_id: only of this sender; '' of all.
        to: only for messages to this recipient, with or without a plus sign; '' for all. A fault that is meant for one
            message names its recipient: else the next message takes it, whatever message that is.
    """

    code: int
    share: float = 1.0
    count: int | None = None
    status: int = 400
    retry_after: int | None = None
    phone_number_id: str = ""
    to: str = ""

    def is_meant_for(self, phone_number_id: str, to: str) -> bool:
        """Whether it can happen to a message of this sender to this recipient."""
        is_party = self.phone_number_id in ("", phone_number_id) and self.to.lstrip(
            "+"
        ) in ("", to.lstrip("+"))
        return is_party and self.count != 0


class Phone:
    """The state of the sandbox.

    Args:
        seed: of the chances of faults.
    """

    def __init__(self, seed: int = 0) -> None:
        self.taken: deque[Taken] = deque(maxlen=_KEPT)
        self.answers: Counter[str] = Counter()
        self.faults: list[Fault] = []
        self.disconnected: set[str] = set()
        self._chance = random.Random(seed)  # noqa: S311 - no secret
        self._count = 0
        # Ids of an earlier sandbox are still known to whoever sent by it.
        self._name = f"sandbox-{uuid.uuid4().hex[:8]}-"

    def fault(self, phone_number_id: str, body: Mapping[str, Any]) -> Fault | None:
        """What goes wrong with this message of a sender; None: nothing."""
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
        """Take a message."""
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
    """Who a message is for."""
    return str(body.get("to") or body.get("recipient"))
