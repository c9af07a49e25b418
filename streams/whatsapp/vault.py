"""Encryption of message bodies at rest. Needs the extra ``crypto``.

AES-256-GCM with a key per tenant, derived (HKDF, SHA-256) from a master key that is not stored on
the server. An encrypted body is bound to its message and tenant, so it cannot replace another one.
Master keys have names: a new one can be introduced while messages of the old one still wait.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import orjson

from streams.errors import ConfigurationError, InvalidMessage, Snooze

SEALED = "sealed"
"""The field with the name of the master key. Only encrypted bodies have it."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,40}")
_BYTES = 32
_NONCE = 12
_PATIENCE = 60.0


class Vault:
    """Encrypts and decrypts bodies; without keys it leaves them as they are.

    Args:
        keys: ``NAME:BASE64`` with commas, 32 bytes each; the first encrypts, all decrypt.

    Raises:
        ConfigurationError: a key is malformed, or the extra ``crypto`` is missing.
    """

    def __init__(self, keys: str) -> None:
        self._masters: dict[str, bytes] = {}
        for part in filter(None, (part.strip() for part in keys.split(","))):
            name, colon, text = part.partition(":")
            try:
                key = base64.b64decode(text, validate=True)
            except binascii.Error:
                key = b""

            if (
                not colon
                or not _NAME.fullmatch(name)
                or len(key) != _BYTES
                or name in self._masters
            ):
                raise ConfigurationError(
                    "STREAMS_WHATSAPP_ENCRYPTION_KEYS is NAME:BASE64 of 32 bytes,"
                    " several with commas, each name once;"
                    " 'streams whatsapp new-key' makes one"
                )

            self._masters[name] = key

        self._derived: dict[tuple[str, str], Any] = {}
        if self._masters and find_spec("cryptography") is None:
            raise ConfigurationError(
                "STREAMS_WHATSAPP_ENCRYPTION_KEYS needs the extra crypto:"
                " pip install 'streams[crypto]'"
            )

    @property
    def seals(self) -> bool:
        """Whether bodies are encrypted."""
        return bool(self._masters)

    def seal(
        self, body: Mapping[str, Any], message_id: str, tenant: str
    ) -> dict[str, Any]:
        """Encrypt a body for storage."""
        if not self._masters:
            return dict(body)

        name, nonce = next(iter(self._masters)), os.urandom(_NONCE)
        text = self._cipher(name, tenant).encrypt(
            nonce, orjson.dumps(body), _bound_to(message_id, tenant)
        )
        return {SEALED: name, "text": base64.b64encode(nonce + text).decode()}

    def open(self, stored: Any, message_id: str, tenant: str) -> Any:
        """Decrypt a stored body; a plain one is returned as it is.

        Raises:
            Snooze: its key is missing here; the message waits without losing an attempt.
            InvalidMessage: it was changed, or belongs to another message.
        """
        if not isinstance(stored, Mapping) or SEALED not in stored:
            return stored

        name = str(stored[SEALED])
        if name not in self._masters:
            raise Snooze(
                _PATIENCE,
                "STREAMS_WHATSAPP_ENCRYPTION_KEYS of this worker lacks the key of the"
                " message",
            )

        from cryptography.exceptions import InvalidTag

        try:
            raw = base64.b64decode(str(stored.get("text")), validate=True)
            text = self._cipher(name, tenant).decrypt(
                raw[:_NONCE], raw[_NONCE:], _bound_to(message_id, tenant)
            )
            return orjson.loads(text)
        except (InvalidTag, ValueError):
            raise InvalidMessage(
                "the sealed body was changed, or belongs to another message"
            ) from None

    def _cipher(self, name: str, tenant: str) -> Any:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        if (name, tenant) not in self._derived:
            if len(self._derived) > 10_000:
                self._derived.clear()

            info = b"streams whatsapp body " + tenant.encode()
            derivation = HKDF(algorithm=SHA256(), length=_BYTES, salt=None, info=info)
            key = derivation.derive(self._masters[name])
            self._derived[name, tenant] = AESGCM(key)

        return self._derived[name, tenant]


@lru_cache(maxsize=8)
def vault_of(keys: str) -> Vault:
    """The ``Vault`` of these keys, one per process; raises like it."""
    return Vault(keys)


def new_key(name: str) -> str:
    """A new master key of that name, in the form of the setting."""
    return f"{name}:{base64.b64encode(os.urandom(_BYTES)).decode()}"


def _bound_to(message_id: str, tenant: str) -> bytes:
    return f"{message_id}\n{tenant}".encode()
