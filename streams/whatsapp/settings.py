"""Settings of the WhatsApp application, from the environment, ``.env.local`` and ``.env``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
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
KNOWN_KEY = "streams"
"""The default that everybody knows, good for trying things out."""


@dataclass(frozen=True, slots=True)
class WhatsAppSettings:
    """How messages are sent. Each is read from ``STREAMS_WHATSAPP_`` and its name in capitals.

    Attributes:
        provider: ``cloud``, ``evolution`` or ``sandbox``, for every instance that the registry does not name; '' is
            ``cloud`` if there are a token and a phone number id, else ``sandbox``.
        base_url: of that provider; '' for Meta's.
        token: its secret.
        phone_number_id: of the Cloud API; for Evolution the name of the session.
        graph_version: of the Cloud API.
        instances: path of the TOML file that names the instances; '' for none.
        rate: messages per time of one instance.
        burst: how many of an instance may go out at once after a quiet time.
        pair_rate, pair_burst: the same for one instance and one recipient.
        concurrency: messages under way at once, per process.
        timeout: seconds for one request.
        max_retries: of a message that does not say.
        retry_delay: seconds before the first retry, of a message that does not say.
        unknown_after: seconds after which an unknown outcome is decided by ``unknown_policy``.
        unknown_policy: ``fail``, which risks a message that is lost, or ``resend``, which risks one that comes twice.
        retention: seconds for which the status of a message is remembered.
        verify_token: what Meta says when it verifies the webhook.
        app_secret: that Meta signs its webhooks with.
        webhook_secret: what Evolution servers send in the header ``X-Webhook-Secret``.
        webhook_key: secret that the secrets of tenants' endpoints are made from; '' tells tenants nothing.
        webhook_allow: hosts, ``host`` or ``host:port`` with commas, whose endpoints may be plain http or private.
        inbound: whether messages of people are published on the stream ``whatsapp-inbound``, for handlers of yours.
        encryption_keys: master keys that what messages say is encrypted with, ``NAME:BASE64`` with commas, the present
            one first; '' leaves it readable on the server.
        dead_retention: seconds after which dead letters of messages are deleted, with what they say.
        lookup_key: secret that recipients are hashed with, so that no key on the server holds a number.
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
        if (
            self.chosen == "cloud"
            and not self.instances
            and not (self.token and self.phone_number_id)
        ):
            raise ConfigurationError(
                f"provider cloud needs {_PREFIX}TOKEN and {_PREFIX}PHONE_NUMBER_ID"
            )
        if (
            self.chosen == "evolution"
            and not self.instances
            and not (self.token and self.base_url)
        ):
            raise ConfigurationError(
                f"provider evolution needs {_PREFIX}BASE_URL and {_PREFIX}TOKEN"
            )
        Rate.parse(self.rate, self.burst)
        Rate.parse(self.pair_rate, self.pair_burst)
        for name, low, high in (
            ("concurrency", 1, 10_000),
            ("timeout", 0.1, 600),
            ("max_retries", 0, 1000),
            ("retry_delay", 0, DAY),
            ("unknown_after", 1, 7 * DAY),
            ("retention", 60, 400 * DAY),
            ("dead_retention", 60, 400 * DAY),
        ):
            value = getattr(self, name)
            if (
                isinstance(value, bool)
                or not isinstance(value, (int, float))
                or not low <= value <= high
            ):
                raise ConfigurationError(
                    f"{_PREFIX}{name.upper()} is from {low} to {high}, not {value!r}"
                )

        if self.encryption_keys:
            vault_of(self.encryption_keys)

    @property
    def chosen(self) -> str:
        """The provider, once it is decided."""
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
        values: dict[str, Any] = {}
        for setting in fields(cls):
            variable = _PREFIX + setting.name.upper()
            if variable in found:
                read: Callable[[str], Any] = (
                    _switch if setting.default is False else type(setting.default)
                )
                text, origin = found[variable]
                try:
                    values[setting.name] = read(text.strip())
                except ValueError:
                    kind = {int: "an integer", float: "a number"}.get(
                        read, "true or false"
                    )  # type: ignore[call-overload]
                    raise ConfigurationError(
                        f"{variable} (from {origin}) is {kind}"
                    ) from None
        return cls(**values)


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", "yes", "no", "on", "off"):
        raise ValueError
    return text.lower() in ("true", "1", "yes", "on")
