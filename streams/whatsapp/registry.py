"""The registry: instances that are written down on the server, for every worker; no secret, only where one is."""

from __future__ import annotations

from collections.abc import Mapping

from streams.errors import ConfigurationError, NotFound
from streams.pipeline import Pipeline
from streams.whatsapp.status import STREAM

KIND = "instances"
Row = Mapping[str, str]
KNOWN = frozenset({"provider", "base_url", "name", "waba", "token_env", "token_file"})
"""What is said of an instance, in a file as on the server; all texts."""


class Registry:
    """The instances of a server.

    Args:
        pipeline: open.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._records = pipeline.records(STREAM, KIND)

    async def add(self, ident: str, row: Row) -> bool:
        """Write an instance down, or what has changed of it; False if it was there before.

        Raises:
            ConfigurationError: what is said of it cannot be right.
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
        """Forget an instance; its messages fail from then on.

        Raises:
            NotFound: there is none of this id.
        """

        def change(record: dict[str, str] | None) -> None:
            if record is None:
                raise NotFound(f"there is no instance {ident} on the server")

        await self._records.change(ident, change)

    async def all(self) -> dict[str, Row]:
        """Every instance by its id. One command."""
        found: dict[str, Row] = {}
        found.update(await self._records.all())
        return found


def check_row(where: str, row: Row) -> None:
    """Look at what is said of an instance.

    Raises:
        ConfigurationError: it cannot be right; the message begins with ``where``.
    """
    if set(row) - KNOWN or not all(isinstance(value, str) for value in row.values()):
        raise ConfigurationError(
            f"{where}: texts named {', '.join(sorted(KNOWN))}; secrets by reference only"
        )
    provider = row.get("provider", "")
    if provider not in ("cloud", "evolution", "sandbox", ""):
        raise ConfigurationError(
            f"{where}: provider is cloud, evolution or sandbox, not {provider!r}"
        )
    if (
        provider in ("cloud", "evolution")
        and not row.get("token_env")
        and not row.get("token_file")
    ):
        raise ConfigurationError(f"{where}: give token_env or token_file")
