"""Which instances there are, and by which provider each sends."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streams.errors import ConfigurationError
from streams.whatsapp.providers import CloudProvider, EvolutionProvider, Instance, Provider, SandboxProvider
from streams.whatsapp.settings import WhatsAppSettings

_KNOWN = frozenset({"provider", "base_url", "name", "waba", "token_env", "token_file"})


class Instances:
    """The instances, by id. Without a file every id is the one instance of the settings.

    A file is TOML::

        [instances.1]
        provider = "cloud"
        name = "106540352242922"          # phone number id, or the session's name
        token_env = "SHOP_TOKEN"          # or token_file = "/run/secrets/shop"
        waba = "102290129340398"

    Args:
        settings: of the application.
        environ: where ``token_env`` is looked up; the environment of the process if None.

    Raises:
        ConfigurationError: the file cannot be read, or says something that cannot be right. It never holds a secret.
    """

    def __init__(self, settings: WhatsAppSettings, environ: Mapping[str, str] | None = None) -> None:
        self._settings = settings
        self._environ = os.environ if environ is None else environ
        self._named = self._read(Path(settings.instances)) if settings.instances else None

    def get(self, ident: str) -> Instance | None:
        """The instance of an id; None if there is none."""
        if self._named is not None:
            return self._named.get(ident)
        settings = self._settings
        return Instance(ident, settings.chosen, settings.base_url, settings.token, settings.phone_number_id)

    def all(self) -> list[Instance]:
        """Those that a file names."""
        return list((self._named or {}).values())

    def waba_of(self, ident: str | None) -> str | None:
        """The business account of an instance; None if none is known."""
        found = self.get(ident) if ident else None
        return found.waba or None if found is not None else None

    def _read(self, path: Path) -> dict[str, Instance]:
        try:
            stored = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise ConfigurationError(f"the file of instances cannot be read: {error.strerror}: {path}") from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(f"the file of instances {path} is no TOML: {error}") from None
        rows = stored.get("instances")
        if not isinstance(rows, dict) or not rows:
            raise ConfigurationError(f"{path} names no instances: write [instances.ID] tables")
        return {ident: self._instance(path, ident, row) for ident, row in rows.items()}

    def _instance(self, path: Path, ident: str, row: Any) -> Instance:
        where = f"{path}, instance {ident}"
        if not isinstance(row, dict) or set(row) - _KNOWN or not all(isinstance(value, str) for value in row.values()):
            raise ConfigurationError(f"{where}: texts named {', '.join(sorted(_KNOWN))}; secrets by reference only")
        provider = row.get("provider", self._settings.chosen)
        if provider not in ("cloud", "evolution", "sandbox"):
            raise ConfigurationError(f"{where}: provider is cloud, evolution or sandbox, not {provider!r}")
        token = self._token(where, row)
        if provider != "sandbox" and not token:
            raise ConfigurationError(f"{where}: give token_env or token_file")
        if provider == "evolution" and not row.get("base_url", self._settings.base_url):
            raise ConfigurationError(f"{where}: provider evolution needs base_url")
        base_url = row.get("base_url", self._settings.base_url)
        return Instance(ident, provider, base_url, token, row.get("name", ""), row.get("waba", ""))

    def _token(self, where: str, row: Mapping[str, str]) -> str:
        if "token_file" in row:
            try:
                return Path(row["token_file"]).read_text("utf-8").strip()
            except OSError as error:
                raise ConfigurationError(f"{where}: token_file cannot be read: {error.strerror}") from None
        name = row.get("token_env", "")
        if name and not self._environ.get(name):
            raise ConfigurationError(f"{where}: the variable {name} of token_env is not set")
        return self._environ.get(name, "") if name else ""


class Providers:
    """One provider of each kind, made when it is first needed.

    Args:
        settings: of the application.
    """

    def __init__(self, settings: WhatsAppSettings) -> None:
        self._settings = settings
        self._made: dict[str, Provider] = {}

    def of(self, instance: Instance) -> Provider:
        """The provider that an instance sends by."""
        if instance.provider not in self._made:
            settings = self._settings
            made: Provider
            if instance.provider == "cloud":
                made = CloudProvider(settings.graph_version, settings.timeout)
            elif instance.provider == "evolution":
                made = EvolutionProvider(settings.timeout)
            else:
                made = SandboxProvider()
            self._made[instance.provider] = made
        return self._made[instance.provider]

    async def close(self) -> None:
        """Close their connections."""
        made, self._made = self._made, {}
        for provider in made.values():
            await provider.close()
