"""Signatures of the Standard Webhooks specification, version 1.0.0, symmetric (``v1``)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable

PREFIX = "whsec_"


def secret_of(master: str, endpoint: str, version: int) -> str:
    """The secret of an endpoint. It is derived from the master key, so none is stored."""
    name = f"webhook\n{endpoint}\n{version}"
    return PREFIX + _keyed(
        master.encode(),
        name.encode(),
    )


def signed(ident: str, at: int, body: bytes, secrets: Iterable[str]) -> dict[str, str]:
    """The headers of a call, with a signature per secret: the receiver may know either.

    Args:
        ident: of the message; the same in every attempt, and without a dot.
        at: Unix seconds of this attempt.
        body: the bytes that are sent.
        secrets: ``whsec_`` and base64.
    """
    content = f"{ident}.{at}.".encode() + body
    keys = [base64.b64decode(secret.removeprefix(PREFIX)) for secret in secrets]
    signatures = [f"v1,{_keyed(key, content)}" for key in keys]

    return {
        "webhook-id": ident,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(signatures),
    }


def _keyed(key: bytes, content: bytes) -> str:
    digest = hmac.new(
        key,
        content,
        hashlib.sha256,
    ).digest()
    return base64.b64encode(digest).decode()
