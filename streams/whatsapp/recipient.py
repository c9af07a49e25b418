"""The recipient of a message: a phone number, or a business-scoped user id."""

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
    """A recipient, with either ``phone`` or ``bsuid``. Its text forms are masked for logs.

    Attributes:
        phone: E.164 with ``+`` and country code. The provider adds or drops the ninth
            digit of Brazilian numbers.
        bsuid: business-scoped user id, e.g. ``BR.1502…``, of users without a number.
    """

    phone: str = ""
    bsuid: str = ""

    @classmethod
    def parse(cls, text: str) -> Recipient:
        """Read a business-scoped user id, or a phone number.

        The number may have ``+``, spaces, dashes and brackets.

        Raises:
            InvalidMessage: it is neither; the error does not repeat it.
        """
        if not isinstance(text, str):
            raise InvalidMessage(f"the recipient is a text, not {type(text).__name__}")

        if _BSUID.fullmatch(text.strip()):
            return cls(bsuid=text.strip())

        digits = _SEPARATORS.sub("", text).removeprefix("+")
        if not _DIGITS.fullmatch(digits):
            raise InvalidMessage(
                "the recipient is a phone number with country code, 8 to 15 digits,"
                " e.g. 5511999999999, or a user id such as BR.1502"
            )

        return cls(phone=f"+{digits}")

    @property
    def text(self) -> str:
        """The number or id, unmasked."""
        return self.phone or self.bsuid

    def hashed(self, key: str) -> str:
        """A pseudonym of 32 hexadecimal digits: HMAC-SHA-256 with the secret ``key``.

        A plain hash would hide nothing: all numbers of a country are tried in minutes.
        """
        keyed = hmac.new(
            key.encode(),
            self.text.encode(),
            hashlib.sha256,
        )
        return keyed.hexdigest()[:32]

    @property
    def masked(self) -> str:
        """Country and last digits only."""
        return masked(self.text)

    def __str__(self) -> str:
        return self.masked

    def __repr__(self) -> str:
        return f"Recipient({self.masked})"


def masked(text: str) -> str:
    """The first three and the last four characters of a number or id."""
    stars = "*" * max(3, len(text) - 7)
    return f"{text[:3]}{stars}{text[-4:]}"
