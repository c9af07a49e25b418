"""Groups of commands that have room for those of applications."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from streams.cli.common import remark
from streams.common.guests import Guests
from streams.common.log_facts import logger_of
from streams.pipeline import Pipeline

logger = logger_of("worker")
GUESTS = Guests(lambda line: remark(f"streams: {line}"))
"""The applications; looked for by commands that need them, not by each one."""


class HostGroup(TyperGroup):
    """A group of commands in which those of applications stand, too, behind ours.

    They are loaded for a list of all commands, or for a word that is none of ours.
    """

    _is_complete = False

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a word; None if there is none."""
        if cmd_name not in self.commands:
            self._complete()

        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:
        """Every word."""
        self._complete()
        return super().list_commands(ctx)

    def _complete(self) -> None:
        if self._is_complete:
            return

        self._is_complete = True

        for name, guest in GUESTS.all.items():
            with GUESTS.excused(name, "give its commands"):
                for word, app in guest.commands().items():
                    for theirs, command in self._of(word, app):
                        self.commands.setdefault(theirs, command)

    def _of(self, word: str, app: typer.Typer) -> Iterator[tuple[str, Any]]:
        """Those of an application's commands that belong in this group."""
        is_root = self.name == "streams"

        if word == ("" if is_root else self.name):
            yield from get_group(app).commands.items()
        elif is_root and word:
            holder = typer.Typer(rich_markup_mode="rich", add_completion=False)
            holder.add_typer(app, name=word)
            yield word, get_group(holder).commands[word]


@contextlib.asynccontextmanager
async def accompanied(pipeline: Pipeline) -> AsyncIterator[None]:
    """The life of a worker, at whose start and end the applications are told."""
    guests = Guests(logger.error)

    for name, guest in guests.all.items():
        with guests.excused(name, "start with the worker"):
            await guest.on_start(pipeline)

    try:
        yield
    finally:
        for name, guest in reversed(guests.all.items()):
            with guests.excused(name, "end with the worker"):
                await guest.on_stop(pipeline)
