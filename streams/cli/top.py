"""``streams top``: every group, live, in a terminal, and what to do about it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer
from rich.live import Live

from streams.cli.common import AsJson, Namespace, Url, connected, examples, person, run, stdout, tell_away, write_json
from streams.cli.top_screen import SORTS, Deed, Screen
from streams.dead_letter import Filter
from streams.errors import ConfigurationError, StreamsError
from streams.overview import grouped_views
from streams.pipeline import Pipeline
from streams.queries import Queries

HELP = (
    "Show every group, live: what waits, for how long, what dies, and at what rate it is done."
    "\n\nj and k choose a group, s sorts, p pauses or resumes it, d shows its dead letters, where r replays one, R all,"
    " and x deletes one. Each asks first. Without a terminal, or with --json, it tells once and ends."
    + examples("streams top", "streams top --sort dead", "streams top --json")
)
_EVERY = 2.0
_LETTERS = 50


def top(
    *,
    sort: Annotated[str, typer.Option("--sort", help=", ".join(SORTS))] = "name",
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Show groups; see HELP."""
    if sort not in SORTS:
        raise ConfigurationError(f"--sort is one of {', '.join(SORTS)}, not {sort!r}")

    async def main() -> None:
        async with connected(url, namespace) as pipeline:
            queries, screen = Queries(pipeline), Screen(sort=sort)
            views = await queries.overview()
            screen.update(grouped_views(views), queries.away)
            if as_json:
                away = [shard.as_plain() for shard in queries.away]
                write_json({"streams": [asdict(view) for view in views], "away": away})
                tell_away(queries.away)
            elif not (sys.stdin.isatty() and sys.stdout.isatty()):
                stdout().print(screen.draw())
                tell_away(queries.away)
            else:
                await _live(pipeline, queries, screen)

    run(main)


async def _live(pipeline: Pipeline, queries: Queries, screen: Screen) -> None:
    keys: asyncio.Queue[str] = asyncio.Queue()
    with _pressed(keys), Live(screen.draw(), console=stdout(), screen=True, auto_refresh=False) as live:
        while True:
            try:
                async with asyncio.timeout(_EVERY):
                    deed = screen.press(await keys.get())
                if deed == "quit":
                    return
                if deed:
                    await _do(pipeline, screen, deed)
            except TimeoutError:
                pass
            except StreamsError as error:
                screen.told = str(error)
            with contextlib.suppress(StreamsError):
                screen.update(await queries.grouped(), queries.away)
            live.update(screen.draw(), refresh=True)


async def _do(pipeline: Pipeline, screen: Screen, deed: Deed) -> None:
    """Do what was asked for, and say so."""
    line = screen.line
    if line is None:
        return
    stream, group = line.stream, line.view.row.group
    letters = pipeline.dead_letters(stream, group, by=person())
    if deed == "pause":
        pauses = pipeline.pauses(stream, by=person())
        if line.paused:
            await pauses.resume(group=group)
        else:
            await pauses.pause(group=group, reason="streams top")
        screen.told = f"{'resumed' if line.paused else 'paused'} {stream}/{group}"
    elif deed == "replay" and screen.letter is not None:
        outcome = await letters.replay([screen.letter.id])
        screen.told = f"{len(outcome.moved)} put back"
    elif deed == "replay all":
        outcome = await letters.replay(Filter())
        screen.told = f"{len(outcome.moved)} put back"
    elif deed == "discard" and screen.letter is not None:
        screen.told = f"{await letters.discard([screen.letter.id])} deleted"
    screen.letters = await letters.page(limit=_LETTERS) if deed != "pause" else None
    screen.at = max(0, min(screen.at, len(screen.letters or ()) - 1))


@contextlib.contextmanager
def _pressed(keys: asyncio.Queue[str]) -> Iterator[None]:
    """While inside, keys come as they are pressed; the terminal is as it was afterwards."""
    import termios
    import tty

    loop, source = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(source)
    arrows = {"\x1b[A": "k", "\x1b[B": "j"}

    def read() -> None:
        text = os.read(source, 64).decode("utf-8", "replace")
        for key in [arrows[text]] if text in arrows else text:
            keys.put_nowait(key)

    tty.setcbreak(source)
    loop.add_reader(source, read)
    try:
        yield
    finally:
        loop.remove_reader(source)
        termios.tcsetattr(source, termios.TCSADRAIN, before)
