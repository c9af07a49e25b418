"""The instances, from a file and from the server, and their providers."""

from __future__ import annotations

import os
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streams.common.log_facts import logger_of
from streams.errors import BrokerError, ConfigurationError
from streams.pipeline import Pipeline
from streams.whatsapp.providers import (
    CloudProvider,
    EvolutionProvider,
    Instance,
    Provider,
    SandboxProvider,
)
from streams.whatsapp.registry import InstanceFields, InstanceRegistry, check_row
from streams.whatsapp.settings import WhatsAppSettings

logger = logger_of("whatsapp")
_FRESH = 5.0
"""Seconds for which the instances of the server are cached."""


class Instances:
    """The instances by id: those of a file, then those of the server.

    If there are none, the settings are used for every id. A file is TOML::

        [instances.1]
        provider = "cloud"
        name = "106540352242922"          # phone number id, or the session's name
        token_env = "SHOP_TOKEN"          # or token_file = "/run/secrets/shop"
        waba = "102290129340398"

    Args:
        settings: of the application.
        environ: the variables that ``token_env`` names; None uses those of the process.

    Raises:
        ConfigurationError: the file cannot be read, or a field is wrong. The error holds no
            secret.
    """

    def __init__(
        self, settings: WhatsAppSettings, environ: Mapping[str, str] | None = None
    ) -> None:
        self._settings = settings
        self._environ = os.environ if environ is None else environ
        self._named = self._read(Path(settings.instances)) if settings.instances else {}
        self._stored: dict[str, Instance] | None = None
        self._asked = -_FRESH

    async def refresh(self, pipeline: Pipeline) -> None:
        """Load the instances of the server, at most once in a few seconds.

        Raises:
            BrokerError: the server does not answer, and none were loaded before.
        """
        if self._stored is not None and time.monotonic() - self._asked < _FRESH:
            return

        # Concurrent callers use the loaded ones. No lock: this object outlives event loops.
        self._asked = time.monotonic()
        try:
            rows = await InstanceRegistry(pipeline).all()
        except BrokerError:
            if self._stored is None:
                raise
        else:
            self._stored = {
                ident: self._of_server(ident, row) for ident, row in rows.items()
            }

    def get(self, ident: str) -> Instance | None:
        """The instance of an id; None if there is none.

        If a file or the server names any, only those can send: a wrong id must not use
        the number of another instance.
        """
        if self._named or self._stored:
            return self._named.get(ident) or (self._stored or {}).get(ident)

        settings = self._settings
        return Instance(
            ident,
            settings.chosen,
            settings.base_url,
            settings.token,
            settings.phone_number_id,
        )

    def all(self) -> list[Instance]:
        """The instances that a file or the server names."""
        return list({**(self._stored or {}), **self._named}.values())

    def _of_server(self, ident: str, row: InstanceFields) -> Instance:
        """An instance of the server; one whose secret is missing here cannot send."""
        try:
            return self._instance(f"instance {ident}", ident, row)
        except ConfigurationError as error:
            logger.error(  # noqa: TRY400
                "an instance cannot send",
                extra={"instance": ident, "error": str(error)},
            )
            return Instance(ident, **_shown(row))

    def waba_of(self, ident: str | None) -> str | None:
        """The business account of an instance; None if unknown."""
        found = self.get(ident) if ident else None
        return (found.waba or None) if found else None

    def _read(self, path: Path) -> dict[str, Instance]:
        try:
            stored = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise ConfigurationError(
                f"the file of instances cannot be read: {error.strerror}: {path}"
            ) from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(
                f"the file of instances {path} is no TOML: {error}"
            ) from None

        rows = stored.get("instances")
        if not isinstance(rows, dict) or not rows:
            raise ConfigurationError(
                f"{path} names no instances: write [instances.ID] tables"
            )

        return {
            ident: self._instance(f"{path}, instance {ident}", ident, row)
            for ident, row in rows.items()
        }

    def _instance(self, where: str, ident: str, row: Any) -> Instance:
        if not isinstance(row, dict):
            raise ConfigurationError(f"{where} is a table")

        given = {
            "provider": self._settings.chosen,
            "base_url": self._settings.base_url,
            **row,
        }
        check_row(where, given)
        token = self._token(where, row)

        if given["provider"] != "sandbox" and not token:
            raise ConfigurationError(
                f"{where}: the secret of token_env or token_file is empty"
            )

        if given["provider"] == "evolution" and not given["base_url"]:
            raise ConfigurationError(f"{where}: provider evolution needs base_url")

        return Instance(ident, token=token, **_shown(given))

    def _token(self, where: str, row: Mapping[str, str]) -> str:
        if "token_file" in row:
            try:
                return Path(row["token_file"]).read_text("utf-8").strip()
            except OSError as error:
                raise ConfigurationError(
                    f"{where}: token_file cannot be read: {error.strerror}"
                ) from None

        name = row.get("token_env", "")
        if name and not self._environ.get(name):
            raise ConfigurationError(
                f"{where}: the variable {name} of token_env is not set"
            )

        return self._environ.get(name, "") if name else ""


def _shown(row: InstanceFields) -> dict[str, str]:
    """The fields of a row that hold no secret."""
    return {
        name: row.get(name, "") for name in ("provider", "base_url", "name", "waba")
    }


class Providers:
    """One provider of each kind, made when it is first needed.

    Args:
        settings: of the application.
    """

    def __init__(self, settings: WhatsAppSettings) -> None:
        self._settings = settings
        self._made: dict[str, Provider] = {}

    def of(self, instance: Instance) -> Provider:
        """The provider of an instance."""
        kind = instance.provider
        if kind not in self._made:
            self._made[kind] = self._make(kind)

        return self._made[kind]

    def _make(self, kind: str) -> Provider:
        settings = self._settings
        match kind:
            case "cloud":
                return CloudProvider(settings.graph_version, settings.timeout)
            case "evolution":
                return EvolutionProvider(settings.timeout)
            case _:
                return SandboxProvider()

    async def close(self) -> None:
        """Close their connections."""
        made, self._made = self._made, {}
        for provider in made.values():
            await provider.close()
