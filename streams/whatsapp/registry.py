"""Instances stored on the server for all workers; secrets only by reference."""

from __future__ import annotations

from collections.abc import Mapping

from streams.errors import ConfigurationError, NotFound
from streams.pipeline import Pipeline
from streams.whatsapp.status import STREAM

KIND = "instances"
InstanceFields = Mapping[str, str]
KNOWN = frozenset({"provider", "base_url", "name", "waba", "token_env", "token_file"})
"""Fields of an instance, in a file and on the server; all are texts."""


class InstanceRegistry:
    """The instances of a server.

    Args:
        pipeline: open.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._records = pipeline.records(STREAM, KIND)

    async def add(self, ident: str, row: InstanceFields) -> bool:
        """Store an instance; False if it replaced one.

        Raises:
            ConfigurationError: a field is wrong or missing.
        """
        check_row(f"instance {ident}", row)
        is_new = False

        def change(record: dict[str, str] | None) -> dict[str, str]:
            nonlocal is_new
            is_new = record is None

            return dict(row)

        await self._records.change(ident, change)

        return is_new

    async def remove(self, ident: str) -> None:
        """Remove an instance; its messages fail from then on.

        Raises:
            NotFound: there is no such instance.
        """

        def change(record: dict[str, str] | None) -> None:
            if record is None:
                raise NotFound(f"there is no instance {ident} on the server")

        await self._records.change(ident, change)

    async def all(self) -> Mapping[str, InstanceFields]:
        """All instances by their id. One command."""
        return await self._records.all()


def check_row(where: str, row: InstanceFields) -> None:
    """Check the fields of an instance.

    Raises:
        ConfigurationError: a field is wrong or missing; the error begins with ``where``.
    """
    if set(row) - KNOWN or not all(isinstance(value, str) for value in row.values()):
        names = ", ".join(sorted(KNOWN))
        raise ConfigurationError(
            f"{where}: texts named {names}; secrets by reference only"
        )

    provider = row.get("provider", "")

    if provider not in ("cloud", "evolution", "sandbox", ""):
        raise ConfigurationError(
            f"{where}: provider is cloud, evolution or sandbox, not {provider!r}"
        )

    needs_token = provider in ("cloud", "evolution")

    if needs_token and not (row.get("token_env") or row.get("token_file")):
        raise ConfigurationError(f"{where}: give token_env or token_file")
