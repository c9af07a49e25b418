"""Settings of the WhatsApp application, from the environment, ``.env.local`` and ``.env``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

from streams.errors import ConfigurationError
from streams.policy.limit import Rate
from streams.settings import gather
from streams.whatsapp.providers.cloud import VERSION
from streams.whatsapp.vault import vault_of

_PREFIX = "STREAMS_WHATSAPP_"
UnknownPolicy = Literal["fail", "resend"]
DAY = 86_400.0
_BOUNDS = {
    "concurrency": (1, 10_000),
    "timeout": (0.1, 600),
    "max_retries": (0, 1000),
    "retry_delay": (0, DAY),
    "unknown_after": (1, 7 * DAY),
    "retention": (60, 400 * DAY),
    "dead_retention": (60, 400 * DAY),
}
_KINDS = {int: "an integer", float: "a number", bool: "true or false"}
_SWITCHES = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
KNOWN_KEY = "streams"
"""The public default key, for trying things out only."""


@dataclass(frozen=True, slots=True)
class WhatsAppSettings:
    """Settings of the application.

    Each is read from ``STREAMS_WHATSAPP_`` and its name in capitals.

    Attributes:
        provider: ``cloud``, ``evolution`` or ``sandbox``, for instances without a provider
            of their own. '' means ``cloud`` if token and phone number id are set, else
            ``sandbox``.
        base_url: address of that provider; '' means Meta's.
        token: its secret.
        phone_number_id: of the Cloud API; for Evolution the name of the session.
        graph_version: of the Cloud API.
        instances: path of the TOML file with the instances; '' for none.
        rate: messages per time of one instance.
        burst: messages that an instance may send at once after a quiet time.
        pair_rate, pair_burst: the same for one instance and one recipient.
        concurrency: messages sent at the same time, per process.
        timeout: seconds for one request.
        max_retries: default of a message.
        retry_delay: seconds before the first retry; default of a message.
        unknown_after: seconds until ``unknown_policy`` decides an unknown outcome.
        unknown_policy: ``fail`` may lose a message; ``resend`` may send it twice.
        retention: seconds for which the status of a message is kept.
        verify_token: secret that Meta sends to verify the webhook.
        app_secret: key of Meta's webhook signatures.
        webhook_secret: sent by Evolution servers in the header ``X-Webhook-Secret``.
        webhook_key: master key for the secrets of tenants' endpoints; '' turns webhooks to
            tenants off.
        webhook_allow: hosts, ``host`` or ``host:port`` with commas, whose endpoints may use
            plain http or private addresses.
        inbound: publish messages of people on the stream ``whatsapp-inbound``.
        encryption_keys: master keys for the content of messages, ``NAME:BASE64`` with
            commas, the current one first; '' stores content unencrypted.
        dead_retention: seconds after which dead letters and their content are deleted.
        lookup_key: secret that recipients are hashed with, so that no key on the server
            holds a number.
    """

    provider: str = ""
    base_url: str = ""
    token: str = field(default="", repr=False)
    phone_number_id: str = ""
    graph_version: str = VERSION
    instances: str = ""
    rate: str = "60/s"
    burst: int = 20
    pair_rate: str = "1/6s"
    pair_burst: int = 45
    concurrency: int = 50
    timeout: float = 20.0
    max_retries: int = 3
    retry_delay: float = 5.0
    unknown_after: float = 120.0
    unknown_policy: UnknownPolicy = "fail"
    retention: float = 30 * DAY
    verify_token: str = field(default="", repr=False)
    app_secret: str = field(default="", repr=False)
    webhook_secret: str = field(default="", repr=False)
    webhook_key: str = field(default="", repr=False)
    webhook_allow: str = ""
    inbound: bool = False
    encryption_keys: str = field(default="", repr=False)
    dead_retention: float = 30 * DAY
    lookup_key: str = field(default=KNOWN_KEY, repr=False)

    def __post_init__(self) -> None:
        if self.provider not in ("", "cloud", "evolution", "sandbox"):
            raise ConfigurationError(
                f"{_PREFIX}PROVIDER is cloud, evolution or sandbox, not {self.provider!r}"
            )

        if self.unknown_policy not in ("fail", "resend"):
            raise ConfigurationError(
                f"{_PREFIX}UNKNOWN_POLICY is fail or resend, not {self.unknown_policy!r}"
            )

        if not self.instances:
            self._check_single_instance()

        Rate.parse(
            self.rate,
            self.burst,
        )
        Rate.parse(self.pair_rate, self.pair_burst)
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not low <= value <= high:
                raise ConfigurationError(
                    f"{_PREFIX}{name.upper()} is from {low} to {high}, not {value!r}"
                )

        if self.encryption_keys:
            vault_of(self.encryption_keys)

    def _check_single_instance(self) -> None:
        if self.chosen == "cloud" and not (self.token and self.phone_number_id):
            raise ConfigurationError(
                f"provider cloud needs {_PREFIX}TOKEN and {_PREFIX}PHONE_NUMBER_ID"
            )

        if self.chosen == "evolution" and not (self.token and self.base_url):
            raise ConfigurationError(
                f"provider evolution needs {_PREFIX}BASE_URL and {_PREFIX}TOKEN"
            )

    @property
    def chosen(self) -> str:
        """The provider in use: the default is resolved."""
        return self.provider or (
            "cloud" if self.token and self.phone_number_id else "sandbox"
        )

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, directory: Path | None = None
    ) -> Self:
        """Read the settings.

        Raises:
            ConfigurationError: a value is malformed; the message names its variable.
        """
        found = gather(
            os.environ if environ is None else environ, directory or Path.cwd()
        )
        values = {}
        for setting in fields(cls):
            variable = _PREFIX + setting.name.upper()
            if variable in found:
                text, origin = found[variable]
                where = f"{variable} (from {origin})"
                values[setting.name] = _read(
                    where,
                    text.strip(),
                    type(setting.default),
                )

        return cls(**values)


def _read(where: str, text: str, kind: type) -> Any:
    try:
        return _SWITCHES[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise ConfigurationError(f"{where} is {_KINDS[kind]}") from None
