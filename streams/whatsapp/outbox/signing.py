"""Signatures of the Standard Webhooks specification, version 1.0.0, symmetric (``v1``)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable

PREFIX = "whsec_"


def secret_of(master: str, endpoint: str, version: int) -> str:
    """The secret of an endpoint: made from the application's own, so that none is stored."""
    key = hmac.new(
        master.encode(), f"webhook\n{endpoint}\n{version}".encode(), hashlib.sha256
    ).digest()
    return PREFIX + base64.b64encode(key).decode()


def signed(ident: str, at: int, body: bytes, secrets: Iterable[str]) -> dict[str, str]:
    """The headers of a call; one signature per secret, so that a receiver may know the old one or the new one.

    Args:
        ident: of the message; the same in every attempt, and without a dot.
        at: Unix seconds of this attempt.
        body: the bytes that are sent.
        secrets: ``whsec_`` and base64.
    """
    content = f"{ident}.{at}.".encode() + body
    signatures = (
        base64.b64encode(
            hmac.new(
                base64.b64decode(secret.removeprefix(PREFIX)), content, hashlib.sha256
            ).digest()
        )
        for secret in secrets
    )
    return {
        "webhook-id": ident,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(
            f"v1,{signature.decode()}" for signature in signatures
        ),
    }
