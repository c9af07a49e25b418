"""``streams top``: what it shows and what its keys do, in a terminal of its own."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import subprocess
import sys

from streams import Pauses
from streams.cli.top_screen import SORTS, Screen
from streams.overview import GroupView, StreamView
from streams.status import GroupRow, LevelRow, StreamRow
from tests.conftest import eventually
from tests.dashboard.board import trouble
from tests.servers import clean_environment


def view(stream: str, waiting: int, dead: int, oldest: float | None) -> StreamView:
    group = GroupRow("g", [LevelRow(0, waiting, 0, 0, None, oldest)], dead, 1)
    return StreamView(StreamRow(stream, waiting, 0, [group]), [GroupView(group, rate=waiting / 10)])


def test_lines_are_sorted_and_the_chosen_one_stays_chosen():
    screen = Screen()
    screen.update([view("b", 5, 1, 2.0), view("a", 9, 0, None), view("c", 1, 7, 30.0)])
    orders = []
    for _ in SORTS:
        orders.append("".join(line.stream for line in screen.lines))
        screen.press("s")
    assert dict(zip(SORTS, orders, strict=True)) == {
        "name": "abc", "waiting": "abc", "oldest": "cba", "retrying": "abc", "dead": "cba", "rate": "abc",
    }  # fmt: skip
    screen.press("j")
    chosen = screen.line
    assert chosen is not None
    screen.update([view("a", 9, 0, None), view("aa", 1, 0, None), view(chosen.stream, 5, 1, 2.0)])
    assert screen.line is not None
    assert screen.line.stream == chosen.stream
    for _ in range(9):
        screen.press("j")
    assert screen.chosen == 2
    screen.update([])
    assert screen.line is None
    assert [screen.press(key) for key in "jkspdq"] == ["", "", "", "", "", "quit"]


def test_what_changes_something_is_asked_first():
    screen = Screen()
    screen.update([view("a", 9, 0, None)])
    assert screen.press("p") == ""
    assert screen.asked == "pause"
    assert screen.press("n") == ""
    assert screen.told == "nothing was done"
    screen.press("p")
    assert screen.press("y") == "pause"
    assert screen.press("d") == "letters"
    screen.letters = []
    assert [screen.press(key) for key in "rRx"] == ["", "", ""]
    assert screen.asked == ""


async def test_without_a_terminal_it_tells_once(server, namespace):
    await trouble(server, namespace)
    environment = clean_environment() | {"STREAMS_URL": server.url, "STREAMS_NAMESPACE": namespace, "COLUMNS": "120"}
    command = (sys.executable, "-m", "streams", "top")
    told = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=30, check=True).stdout
    assert re.search(r"orders\s+billing\s+·?0?\s", told)
    found = json.loads(subprocess.run([*command, "--json"], capture_output=True, env=environment, check=True).stdout)
    assert found["streams"][0]["row"]["groups"][0]["dead"] == 2
    wrong = subprocess.run([*command, "--sort", "x"], capture_output=True, text=True, env=environment, check=False)
    assert wrong.returncode == 2
    assert "--sort is one of" in wrong.stderr


async def test_letters_are_replayed_and_a_group_is_paused_by_keys(server, namespace, broker):
    await trouble(server, namespace)
    leader, follower = pty.openpty()
    environment = clean_environment() | {
        "STREAMS_URL": server.url, "STREAMS_NAMESPACE": namespace, "COLUMNS": "140", "LINES": "40", "TERM": "xterm",
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streams", "top"), stdin=follower, stdout=follower, stderr=follower, env=environment
    )
    os.close(follower)
    os.set_blocking(leader, False)
    seen = ""

    def shows(text: str) -> bool:
        nonlocal seen
        while True:
            try:
                seen += os.read(leader, 65536).decode("utf-8", "replace")
            except OSError:
                return text in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)

    async def press(key: str, then: str) -> None:
        nonlocal seen
        seen = ""
        os.write(leader, key.encode())
        await eventually(lambda: shows(then), what=f"{then!r} after {key!r}")

    try:
        await eventually(lambda: shows("sorted by name"), seconds=30.0)
        await press("s", "sorted by waiting")
        await press("p", "pause orders/billing? (y)")
        await press("y", "paused orders/billing")
        assert "group=billing" in [pause.scope for pause in await Pauses(broker, "orders").list()]
        await press("d", "dead letters of orders/billing")
        await press("x", "for good? (y)")
        await press("y", "1 deleted")
        await press("R", "put every dead letter")
        await press("y", "1 put back")
        os.write(leader, b"q")
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        if process.returncode is None:
            process.kill()
        os.close(leader)
