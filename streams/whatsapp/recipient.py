"""Who a message goes to: a phone number, or the id that a business knows a user by."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from streams.errors import InvalidMessage

_SEPARATORS = re.compile(r"[\s().\u2010-\u2015-]+")
_DIGITS = re.compile(r"[1-9][0-9]{7,14}")
_BSUID = re.compile(r"[A-Z]{2}\.(?:ENT\.)?[0-9A-Za-z]{1,128}")


@dataclass(frozen=True, slots=True)
class Recipient:
    """A recipient; exactly one of the two is set. Its text forms are masked, so that it can be logged.

    Attributes:
        phone: E.164 with ``+`` and country code; adding or dropping the ninth digit of Brazilian numbers is left to the
            provider.
        bsuid: business-scoped user id, e.g. ``BR.1502…``, of users who have no number to show.
    """

    phone: str = ""
    bsuid: str = ""

    @classmethod
    def parse(cls, text: str) -> Recipient:
        """Read a phone number, with or without ``+``, spaces, dashes and brackets, or a business-scoped user id.

        Raises:
            InvalidMessage: it is neither; the message does not repeat it.
        """
        if not isinstance(text, str):
            raise InvalidMessage(f"the recipient is a text, not {type(text).__name__}")
        if _BSUID.fullmatch(text.strip()):
            return cls(bsuid=text.strip())
        digits = _SEPARATORS.sub("", text).removeprefix("+")
        if not _DIGITS.fullmatch(digits):
            raise InvalidMessage(
                "the recipient is a phone number with country code, 8 to 15 digits, e.g. 5511999999999, or a user id "
                "such as BR.1502"
            )
        return cls(phone=f"+{digits}")

    @property
    def text(self) -> str:
        """The number or id, unmasked."""
        return self.phone or self.bsuid

    def hashed(self, key: str) -> str:
        """What stands for it wherever its number must not: 32 hexadecimal digits, of which ``key`` is the secret.

        A plain hash would be no secret: all numbers of a country are tried in minutes.
        """
        return hmac.new(key.encode(), self.text.encode(), hashlib.sha256).hexdigest()[
            :32
        ]

    @property
    def masked(self) -> str:
        """Country and last digits only."""
        text = self.text
        return f"{text[:3]}{'*' * max(3, len(text) - 7)}{text[-4:]}"

    def __str__(self) -> str:
        return self.masked

    def __repr__(self) -> str:
        return f"Recipient({self.masked})"
