"""``streams top``: every group, live, in a terminal, and what to do about it."""

from __future__ import annotations

import asyncio
import codecs
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
from streams.cli.top_screen import SORTS, DeedName, Question, TopScreen
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
_NO_TERMINAL = 200
"""Width of the screen where there is none."""
_EVERY = 2.0
_LETTERS = 200
_ESCAPE = 0.1
"""Seconds for which the rest of a sequence is waited for before its first character is the key Escape."""


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
                screen.width = _NO_TERMINAL
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
        looked = time.monotonic()
        while True:
            deed = await _next(keys, looked + _EVERY, console, screen)
            if deed == "quit":
                return
            if deed:
                await _try(pipeline, screen, deed)
                # Whatever was pressed meanwhile was meant for the screen before.
                _forget(keys)
            if time.monotonic() - looked >= _EVERY or deed:
                with contextlib.suppress(StreamsError):
                    screen.update(await queries.grouped(), queries.away)
                looked = time.monotonic()
            if screen.asked is not None and not screen.is_awaited:
                screen.is_awaited = True
                # They were pressed before there was a question to be seen.
                _forget(keys)
            _fit(console, screen)
            live.update(screen.draw(), refresh=True)


async def _next(
    keys: asyncio.Queue[str], until: float, console: Console, screen: TopScreen
) -> DeedName:
    """Let the screen have keys, until one of them asks for something, or it is time to look again."""
    try:
        async with asyncio.timeout(max(0.0, until - time.monotonic())):
            key = await keys.get()
    except TimeoutError:
        return ""
    if _fit(console, screen):
        # What was drawn for another size is no answer's question: it is drawn anew
        # first.
        return ""
    while True:
        asked = screen.asked
        deed = screen.press(key)
        if deed or screen.asked is not asked or screen.wants_more or keys.empty():
            return deed or ("more" if screen.wants_more else "")
        key = keys.get_nowait()


def _forget(keys: asyncio.Queue[str]) -> None:
    """Drop what was pressed until now, read or not."""
    import termios

    termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
    while not keys.empty():
        keys.get_nowait()


def _fit(console: Console, screen: TopScreen) -> bool:
    """Draw for the terminal as it is now; whether it has another size than before."""
    try:
        size = tuple(os.get_terminal_size(sys.stdout.fileno()))
    except OSError:
        size = (0, 0)
    before = (screen.width, screen.height)
    # A terminal that does not know its size is as large as the environment says.
    screen.width, screen.height = size if all(size) else (console.width, console.height)
    console.size = ConsoleDimensions(screen.width, screen.height)
    return before != (screen.width, screen.height)


async def _try(pipeline: Pipeline, screen: TopScreen, deed: DeedName) -> None:
    """Do what was asked for, and say so, or why not."""
    try:
        await _do(pipeline, screen, deed)
    except StreamsError as error:
        screen.told = shown(str(error))


async def _do(pipeline: Pipeline, screen: TopScreen, deed: DeedName) -> None:
    if deed == "letters" and screen.line is not None:
        await _open(pipeline, screen, screen.line.place)
    elif deed == "more" and screen.letters:
        letters = pipeline.dead_letters(*screen.opened)
        found = await letters.page(after=screen.letters[-1].id, limit=_LETTERS)
        screen.letters += found
        if len(found) < _LETTERS:
            screen.total = len(screen.letters)
    elif screen.confirmed is not None:
        question, screen.confirmed = screen.confirmed, None
        if question.deed in ("pause", "resume"):
            await _hold(pipeline, screen, question)
        else:
            await _mend(pipeline, screen, question)
            await _open(pipeline, screen, question.place)


async def _hold(pipeline: Pipeline, screen: TopScreen, question: Question) -> None:
    """Pause or resume the group that was named."""
    target = _target(pipeline, question)
    given = {"group": target.group, "reason": "streams top"}
    await ACTIONS[question.deed].run(target, given)
    screen.told = f"{question.deed}d {target.stream}/{target.group}"


async def _mend(pipeline: Pipeline, screen: TopScreen, question: Question) -> None:
    """Put back or delete the letters that were named.

    Letters that died meanwhile are not touched.
    """
    target = _target(pipeline, question)
    if question.deed == "discard":
        given = {"which": [question.letter]}
        screen.told = f"{await ACTIONS['discard'].run(target, given)} deleted"
        return
    which: Filter | list[str] = Filter()
    limit: int | None = question.count
    if question.deed == "replay":
        which, limit = [question.letter], None
    outcome = await ACTIONS["replay"].run(target, {"which": which, "limit": limit})
    screen.told = f"{len(outcome.moved)} put back"


def _target(pipeline: Pipeline, question: Question) -> Target:
    stream, group = question.place
    return Target(pipeline=pipeline, stream=stream, group=group, by=person())


async def _open(pipeline: Pipeline, screen: TopScreen, place: tuple[str, str]) -> None:
    letters = pipeline.dead_letters(*place)
    screen.open(place, await letters.page(limit=_LETTERS), await letters.count())


@contextlib.contextmanager
def _pressed(keys: asyncio.Queue[str]) -> Iterator[None]:
    """While inside, keys come as they are pressed; the terminal is as it was afterwards."""
    import termios
    import tty

    loop, source = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(source)
    decoder, reader = codecs.getincrementaldecoder("utf-8")("replace"), KeyReader()
    waiting: list[asyncio.TimerHandle] = []

    def put(found: list[str]) -> None:
        for key in found:
            keys.put_nowait(key)

    def read() -> None:
        while waiting:
            waiting.pop().cancel()
        try:
            given = os.read(source, 1024)
        except OSError:
            given = b""
        if not given:  # The terminal is gone.
            loop.remove_reader(source)
            put(["n", "q"])
        put(reader.feed(decoder.decode(given)))
        if reader.waits:
            waiting.append(loop.call_later(_ESCAPE, lambda: put(reader.give_up())))

    tty.setcbreak(source)
    loop.add_reader(source, read)
    loop.add_signal_handler(signal.SIGWINCH, lambda: put([""]))
    try:
        yield
    finally:
        while waiting:
            waiting.pop().cancel()
        loop.remove_signal_handler(signal.SIGWINCH)
        loop.remove_reader(source)
        termios.tcsetattr(source, termios.TCSADRAIN, before)
