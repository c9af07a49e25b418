"""``streams top``: every group, live, in a terminal, and what to do about it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console, ConsoleDimensions
from rich.live import Live

from streams.admin.actions import ACTIONS, Target
from streams.admin.dead_letter import Filter
from streams.admin.overview import grouped_views
from streams.admin.queries import Queries, shown
from streams.cli.common import (
    AsJson,
    Namespace,
    Url,
    connected,
    examples,
    person,
    run,
    stdout,
    tell_away,
    write_json,
)
from streams.cli.top_keys import KeyReader
from streams.cli.top_screen import SORTS, ActionName, Question, TopScreen
from streams.errors import ConfigurationError, StreamsError
from streams.pipeline import Pipeline

HELP = (
    "Show every group, live: what waits, for how long, what dies, and at what rate it "
    "is done."
    "\n\nj and k choose a group, s sorts, p pauses or resumes it, d shows its dead "
    "letters, where r replays one, R all,"
    " and x deletes one; arrows and page keys move, too. Each asks first, and says "
    "what it is about; where the question"
    " does not fit on the screen, nothing is done. Without a terminal, or with "
    "--json, it tells once and ends."
    + examples("streams top", "streams top --sort dead", "streams top --json")
)
_EVERY = 2.0
_LETTERS = 200
_ESCAPE = 0.1
"""Seconds to wait for the rest of a sequence, before its beginning is the key Escape."""


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
            queries, screen = Queries(pipeline), TopScreen(sort=sort)
            views = await queries.overview()
            screen.update(grouped_views(views), queries.away)
            if as_json:
                away = [shard.as_plain() for shard in queries.away]
                write_json({"streams": [asdict(view) for view in views], "away": away})
                tell_away(queries.away)
            elif (
                not (sys.stdin.isatty() and sys.stdout.isatty())
                or stdout().is_dumb_terminal
            ):
                stdout().print(screen.draw())
                tell_away(queries.away)
            else:
                await _live(pipeline, queries, screen)

    run(main)


async def _live(pipeline: Pipeline, queries: Queries, screen: TopScreen) -> None:
    """Show, and do what keys ask for, until one of them ends it."""
    keys: asyncio.Queue[str] = asyncio.Queue()
    console = stdout()
    _fit(console, screen)
    with (
        _pressed(keys),
        Live(screen.draw(), console=console, screen=True, auto_refresh=False) as live,
    ):
        due = time.monotonic() + _EVERY
        while (action := await _next(keys, due, console, screen)) != "quit":
            if action:
                await _try(pipeline, screen, action)
            if action or time.monotonic() >= due:
                with contextlib.suppress(StreamsError):
                    screen.update(await queries.grouped(), queries.away)
                due = time.monotonic() + _EVERY
            # Keys that were pressed before a question or an outcome could be seen were
            # meant for the screen before.
            if action or (screen.asked is not None and not screen.is_drawn):
                _forget(keys)
            if keys.empty():
                _fit(console, screen)
                live.update(screen.draw(), refresh=True)


async def _next(
    keys: asyncio.Queue[str], due: float, console: Console, screen: TopScreen
) -> ActionName:
    """Let the screen have a key, unless it is time to look again first."""
    try:
        async with asyncio.timeout(due - time.monotonic()):
            key = await keys.get()
    except TimeoutError:
        return ""
    # A question that was drawn for another size is drawn anew before it is answered.
    return "" if _fit(console, screen) else screen.press(key)


def _forget(keys: asyncio.Queue[str]) -> None:
    """Drop what was pressed until now, read or not."""
    import termios

    termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
    while not keys.empty():
        keys.get_nowait()


def _fit(console: Console, screen: TopScreen) -> bool:
    """Draw for the terminal as it is now; whether it has another size than before."""
    before = (screen.width, screen.height)
    size = os.get_terminal_size(sys.stdout.fileno())
    # A terminal that does not know its size is as large as the environment says.
    screen.width, screen.height = size if all(size) else console.size
    console.size = ConsoleDimensions(screen.width, screen.height)
    return before != (screen.width, screen.height)


async def _try(pipeline: Pipeline, screen: TopScreen, action: ActionName) -> None:
    """Do what was asked for, and say so, or why not."""
    try:
        await _do(pipeline, screen, action)
    except StreamsError as error:
        screen.told = shown(str(error))


async def _do(pipeline: Pipeline, screen: TopScreen, action: ActionName) -> None:
    question, screen.confirmed = screen.confirmed, None
    if question is not None:
        screen.told = await _act(pipeline, question)
        if question.letter or question.count:
            await _open(pipeline, screen, question.place)
    elif action == "letters" and screen.line is not None:
        await _open(pipeline, screen, screen.line.place)
    elif action == "more" and screen.letters:
        letters = pipeline.dead_letters(*screen.opened)
        found = await letters.page(after=screen.letters[-1].id, limit=_LETTERS)
        screen.letters += found
        if len(found) < _LETTERS:
            screen.total = len(screen.letters)


async def _act(pipeline: Pipeline, question: Question) -> str:
    """Do the confirmed action, and return its outcome.

    A dead letter that came after the question is not touched.
    """
    stream, group = question.place
    target = Target(pipeline=pipeline, stream=stream, group=group, by=person())
    verb = question.action.removesuffix(" all")
    given: dict[str, object] = {"group": group, "reason": "streams top"}
    if question.count:
        given |= {"which": Filter(), "limit": question.count}
    else:
        given["which"] = [question.letter]
    outcome = await ACTIONS[verb].run(target, given)
    if verb == "replay":
        return f"{len(outcome.moved)} put back"
    if verb == "discard":
        return f"{outcome} deleted"
    return f"{verb}d {stream}/{group}"


async def _open(pipeline: Pipeline, screen: TopScreen, place: tuple[str, str]) -> None:
    letters = pipeline.dead_letters(*place)
    screen.open(place, await letters.page(limit=_LETTERS), await letters.count())


@contextlib.contextmanager
def _pressed(keys: asyncio.Queue[str]) -> Iterator[None]:
    """Fill the queue with keys as they are pressed; afterwards the terminal is as before."""
    import termios
    import tty

    loop, source = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(source)
    reader = KeyReader()
    waiting = contextlib.ExitStack()

    def put(found: list[str]) -> None:
        for key in found:
            keys.put_nowait(key)

    def read() -> None:
        waiting.close()
        try:
            given = os.read(source, 1024)
        except OSError:
            given = b""
        if not given:  # The terminal is gone.
            loop.remove_reader(source)
            put(["n", "q"])
        put(reader.feed(given.decode("utf-8", "replace")))
        if reader.waits:
            timer = loop.call_later(_ESCAPE, lambda: put(reader.give_up()))
            waiting.callback(timer.cancel)

    tty.setcbreak(source)
    loop.add_reader(source, read)
    loop.add_signal_handler(signal.SIGWINCH, lambda: put([""]))
    try:
        yield
    finally:
        waiting.close()
        loop.remove_signal_handler(signal.SIGWINCH)
        loop.remove_reader(source)
        termios.tcsetattr(source, termios.TCSADRAIN, before)
