"""``streams top``: what it shows and what its keys do, in a terminal of its own."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import json
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import AsyncIterator

import pytest
from rich.cells import cell_len
from rich.console import Console

from streams import Event, Pauses, Pipeline, Retry, Settings
from streams.admin.overview import GroupView, StreamView
from streams.admin.queries import Queries
from streams.admin.status import GroupRow, LevelRow, StreamRow
from streams.cli import top
from streams.cli.columns import shortened
from streams.cli.top_keys import KeyReader
from streams.cli.top_screen import SORTS, TOO_SMALL, Question, TopScreen
from tests import terminal
from tests.conftest import eventually
from tests.dashboard.board import trouble
from tests.servers import clean_environment


def view(stream: str, waiting: int, dead: int, oldest: float | None) -> StreamView:
    group = GroupRow("g", [LevelRow(0, waiting, 0, 0, None, oldest)], dead, 1)
    return StreamView(
        StreamRow(stream, waiting, 0, [group]), [GroupView(group, rate=waiting / 10)]
    )


def test_lines_are_sorted_and_the_chosen_one_stays_chosen():
    screen = TopScreen()
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
    screen.update(
        [view("a", 9, 0, None), view("aa", 1, 0, None), view(chosen.stream, 5, 1, 2.0)]
    )
    assert screen.line is not None
    assert screen.line.stream == chosen.stream
    for _ in range(9):
        screen.press("j")
    assert screen.chosen == 2
    screen.update([])
    assert screen.line is None
    assert [screen.press(key) for key in "jkspdq"] == ["", "", "", "", "", "quit"]


def test_what_changes_something_is_asked_first():
    screen = TopScreen()
    screen.update([view("a", 9, 0, None)])
    assert screen.press("p") == ""
    assert screen.asked is not None
    assert screen.asked.action == "pause"
    # Nobody has seen the question yet.
    assert [screen.press(key) for key in "yn"] == ["", ""]
    screen.draw()
    assert screen.press("") == ""  # A key that is none answers nothing.
    assert screen.press("n") == ""
    assert screen.told == "nothing was done"
    screen.press("p")
    screen.draw()
    assert screen.press("y") == "pause"
    assert screen.confirmed is not None
    assert screen.confirmed.place == ("a", "g")
    assert screen.press("d") == "letters"
    screen.open(("a", "g"), [], 0)
    assert [screen.press(key) for key in "rRx"] == ["", "", ""]
    assert screen.asked is None


def test_what_is_asked_stays_what_it_is_about_whatever_the_server_says():
    screen = TopScreen(sort="dead")
    screen.update([view("a", 9, 1, None), view("b", 9, 5, None), view("c", 9, 3, None)])
    assert screen.line is not None
    # The first one that is drawn is the chosen one.
    assert screen.line.place == ("b", "g")
    screen.press("p")
    screen.draw()
    screen.update([view("a", 9, 9, None), view("c", 9, 3, None)])
    assert "pause b/g? (y)" in drawn(screen)
    assert screen.press("y") == "pause"
    assert screen.confirmed == Question("pause", ("b", "g"), "pause b/g? (y)")


def test_the_chosen_line_and_the_footer_are_drawn_at_every_size():
    views = [view(f"{'s' * 60}{n:03}", n, n, 1.0) for n in range(97)]
    for width, height in (
        (80, 24),
        (80, 8),
        (40, 12),
        (200, 60),
        (24, 9),
        (20, 4),
        (500, 200),
    ):
        screen = TopScreen(width=width, height=height)
        screen.update(views)
        moves = ["end", "page up", "k", "page down", "home"]
        for keys in (["j"], ["j"] * 30, ["j"] * 69, *([key] for key in moves), "jj"):
            for key in keys:
                screen.press(key)
            lines = drawn(screen).splitlines()
            assert len(lines) <= height
            assert max(map(len, lines)) <= width
            if height >= 8:
                assert screen.line is not None
                assert (
                    len(
                        [
                            line
                            for line in lines
                            if line.startswith("s") and screen.line.stream[-3:] in line
                        ]
                    )
                    == 1
                )
                assert "q: quit" in "".join(lines[-4:])
        screen.press("p")
        is_asked = "(y)" in drawn(screen)
        assert is_asked == (screen.asked is not None)
        assert is_asked or TOO_SMALL[: width - 1] in drawn(screen)
        assert is_asked or screen.press("y") == ""
        assert screen.confirmed is None
        assert is_asked == (height >= 8)


def test_a_question_that_no_longer_fits_is_asked_no_longer():
    screen = TopScreen(width=80, height=24)
    screen.update([view("s" * 60, 1, 1, 1.0)])
    screen.press("p")
    assert "(y)" in drawn(screen)
    screen.width, screen.height = 20, 5
    assert "(y)" not in drawn(screen)
    assert screen.press("y") == ""
    assert screen.confirmed is None


def test_numbers_keep_their_columns_and_names_are_shortened_in_the_middle():
    name = (
        "audit-forward-of-every-order-that-was-ever-placed-by-a-customer-in-europe-2026"
    )
    screen = TopScreen(width=80, height=24)
    screen.update([view(name, 1_234_567, 23_456, 90_000.0), view("short", 1, 0, None)])
    lines = drawn(screen).splitlines()
    for column in ("WAITING", "OLDEST", "RETRYING", "DEAD", "DONE/S", "WORKERS"):
        assert column in lines[1]
    row = next(line for line in lines if "audit" in line)
    assert re.match(r"audit-\S*…\S*2026 ", row)
    for figure in ("1,234,567", "1d 1h", "23,456", "123456.7"):
        assert figure in row
    assert shortened("abcdefghij", 7) == "abc…hij"
    assert shortened("abcdefghij", 7, keeps_end=False) == "abcdef…"
    assert cell_len(shortened("\u6f22" * 20, 9)) == 9
    assert [shortened("abc", width) for width in (3, 2, 0)] == ["abc", "ab", ""]


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        (["\x1b[B\x1b[B\x1b[A"], ["j", "j", "k"]),
        (["\x1bOB\x1bOA"], ["j", "k"]),
        (["\x1bOR"], [""]),  # F3 is no R.
        (["\x1b", "OR", "R"], ["", "R"]),
        (["\x1b[", "B", "\x1b[1;5", "Rj"], ["j", "", "j"]),
        (["\x1b[13~\x1b[[Ey\x1by\x1b[200~"], ["", "", "y", "", ""]),
        (["\x1b\x1b[Aq"], ["escape", "k", "q"]),
        (["\x1b[5~\x1b[6~\x1b[H\x1b[4~"], ["page up", "page down", "home", "end"]),
        (["pé"], ["p", "é"]),
    ],
)
def test_keys_are_read_whole(given, keys):
    reader = KeyReader()
    assert [key for text in given for key in reader.feed(text)] == keys
    assert not reader.waits


def test_an_escape_that_nothing_follows_is_that_key():
    reader = KeyReader()
    assert reader.feed("j\x1b") == ["j"]
    assert reader.waits
    assert reader.give_up() == ["escape"]
    assert reader.feed("\x1b[1;") == []
    assert reader.give_up() == []
    assert reader.feed("k") == ["k"]


async def test_without_a_terminal_it_tells_once(server, namespace):
    await trouble(server, namespace)
    environment = clean_environment() | {
        "STREAMS_URL": server.url,
        "STREAMS_NAMESPACE": namespace,
        "COLUMNS": "120",
    }
    told = terminal.run("top", env=environment)
    assert told.code == 0
    assert re.search(r"orders\s+billing\s+·?0?\s", told.out)
    found = json.loads(terminal.run("top", "--json", env=environment).out)
    assert found["streams"][0]["row"]["groups"][0]["dead"] == 2
    wrong = terminal.run("top", "--sort", "x", env=environment)
    assert wrong.code == 2
    assert "--sort is one of" in wrong.err


class Terminal:
    """``streams top`` in a terminal of its own, and what is on the screen of that."""

    def __init__(self, leader: int) -> None:
        self._leader = leader
        self._seen = ""
        self.lines: list[str] = []

    def look(self) -> list[str]:
        """The lines of the latest screen that was drawn, with ``>`` before the chosen one."""
        with contextlib.suppress(OSError):
            while given := os.read(self._leader, 65536):
                self._seen = (self._seen + given.decode("utf-8", "replace"))[-500_000:]
        for frame in reversed(self._seen.split("\x1b[H")):
            lines = [
                (">" if "\x1b[7m" in line else "") + line for line in frame.split("\n")
            ]
            lines = [
                re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line).rstrip() for line in lines
            ]
            # What keys do stands at the end of every screen.
            if lines[-1].endswith(("q: quit", "key: no")):
                self.lines = lines
                break
        return self.lines

    async def press(self, keys: str, then: str) -> None:
        """Press keys, and wait until the screen shows something."""
        os.write(self._leader, keys.encode())
        await self.shows(then, f"{then!r} after {keys!r}")

    async def shows(self, text: str, what: str = "") -> None:
        await eventually(
            lambda: text in " ".join(self.look()), seconds=30.0, what=what or text
        )

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(
            self._leader, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0)
        )

    @property
    def chosen(self) -> str:
        """The line that is chosen: it has to be on the screen."""
        (line,) = [line[1:] for line in self.look() if line.startswith(">")]
        return line


@contextlib.asynccontextmanager
async def screen(
    server, namespace, *options: str, size: tuple[int, int] = (80, 24)
) -> AsyncIterator[Terminal]:
    """Run it until its ``q``."""
    leader, follower = pty.openpty()
    made = Terminal(leader)
    made.resize(*size)
    # What the environment says of a size is not believed where the terminal knows better.
    environment = clean_environment() | {
        "STREAMS_URL": server.url, "STREAMS_NAMESPACE": namespace, "COLUMNS": "300", "LINES": "100", "TERM": "xterm",
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streams", "top", *options),
        stdin=follower, stdout=follower, stderr=follower, env=environment, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(follower, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(follower)
    os.set_blocking(leader, False)
    try:
        await made.shows("sorted by")
        yield made
        os.write(leader, b"q")
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(leader)


async def test_letters_are_replayed_and_a_group_is_paused_by_keys(
    server, namespace, broker
):
    await trouble(server, namespace)
    async with screen(server, namespace, size=(140, 40)) as shown:
        await shown.press("s", "sorted by waiting")
        await shown.press("p", "pause orders/billing? (y)")
        await shown.press("y", "paused orders/billing")
        assert "group=billing" in [
            pause.scope for pause in await Pauses(broker, "orders").list()
        ]
        await shown.press("d", "dead letters of orders/billing")
        await shown.press("x", "for good? (y)")
        await shown.press("y", "1 deleted")
        await shown.press("R", "put the only dead letter of orders/billing back? (y)")
        await shown.press("y", "1 put back")


async def test_nothing_is_asked_or_done_out_of_sight(server, namespace, broker):
    """97 groups, and 60 letters, on 24 lines."""
    names = [
        f"s{n:02}-of-a-shop-with-a-name-that-takes-a-lot-of-room-on-any-screen"
        for n in range(96)
    ]
    await broker.control.batch([
        ("XGROUP", "CREATE", broker.keys(name).level(0), "billing", "0", "MKSTREAM") for name in names
    ])  # fmt: skip
    await broker.control.call(
        "SADD", f"{namespace}:index", *(f"{name}|0" for name in names)
    )
    await with_dead_letters(server, namespace, 60)
    async with screen(server, namespace, "--sort", "dead") as shown:
        assert shown.chosen.startswith("dying")
        assert [column for column in COLUMNS if column not in shown.lines[1]] == []
        await shown.press("\x1b[B" * 40, "s39-")
        await eventually(
            lambda: shown.chosen.startswith("s39-"), what="the forty-first line"
        )
        assert len(shown.lines) == 24
        assert "q: quit" in shown.lines[-1]
        await shown.press("p", f"pause {names[39]}/billing? (y)")
        assert "y: yes" in shown.lines[-1]
        shown.resize(80, 5)  # What asks takes four lines of these, and its footer one.
        await shown.shows(TOO_SMALL)
        shown.resize(80, 24)
        await eventually(lambda: len(shown.look()) == 24, what="the size as before")
        # All that in one read.
        await shown.press("y\x1bORpy", f"pause {names[39]}/billing? (y)")
        await shown.press("n", "nothing was done")
        assert await Pauses(broker, names[39]).list() == []
        await shown.press("p", f"pause {names[39]}/billing? (y)")
        await shown.press("y", "paused s39-")
        assert [pause.scope for pause in await Pauses(broker, names[39]).list()] == [
            "group=billing"
        ]
        await shown.press("\x1b[H", "1-20 of 97")
        await shown.press("d", "dead letters of dying/billing   1-17 of 60")
        assert "OSError: it is broken" in shown.chosen
        await shown.press("j" * 59, "44-60 of 60")
        assert "event-59" in shown.chosen
        await shown.press("\x1bOR", "44-60 of 60")  # F3
        await shown.press("R", "put all 60 dead letters of dying/billing back? (y)")
        await shown.press("\x1b", "nothing was done")
        await shown.press("r", "put event-59 of dying/billing back? (y)")
        await shown.press("y", "1 put back")
        await shown.press("R", "put all 59 dead letters of dying/billing back? (y)")
        await shown.press("y", "59 put back")


async def test_letters_beyond_the_first_page_come_as_they_are_reached(
    server, namespace, monkeypatch
):
    await with_dead_letters(server, namespace, 25)
    monkeypatch.setattr(top, "_LETTERS", 10)
    screen = TopScreen(sort="dead", width=80, height=24)
    async with Pipeline(
        settings=Settings(url=server.url, namespace=namespace)
    ) as pipeline:
        screen.update(await Queries(pipeline).overview())
        await top._do(pipeline, screen, screen.press("d"))
        seen = set()
        for _ in range(30):
            if screen.wants_more:
                await top._do(pipeline, screen, "more")
            assert screen.letter is not None
            seen.add(screen.letter.event_id)
            assert screen.letter.event_id in drawn(screen)
            screen.press("j")
        assert seen == {f"event-{n}" for n in range(25)}
        assert (screen.total, screen.wants_more) == (25, False)
        screen.press("R")
        assert "put all 25 dead letters of dying/billing back? (y)" in drawn(screen)
        await pipeline.publish("dying", {}, type="order.created", id="late")
        await top._do(pipeline, screen, screen.press("y"))
        assert screen.told == "25 put back"


COLUMNS = ("WAITING", "OLDEST", "RETRYING", "DEAD", "DONE/S", "WORKERS")


async def with_dead_letters(server, namespace, count: int) -> None:
    """Dead letters on a stream whose group nobody works for any more."""
    pipeline = Pipeline(settings=Settings(url=server.url, namespace=namespace))

    @pipeline.handler(
        "dying", group="billing", retry=Retry(max_retries=0), concurrency=1
    )
    async def dies(event: Event) -> None:
        raise OSError("it is broken")

    async with pipeline.twin() as looking:
        events = [Event("order.created", {}, id=f"event-{n}") for n in range(count)]
        await looking.publish_many("dying", events)
        running = asyncio.create_task(pipeline.run())

        async def all_died() -> bool:
            return await looking.dead_letters("dying", "billing").count() == count

        await eventually(all_died, seconds=30.0, what="the letters")
        pipeline.stop()
        await running


def drawn(screen: TopScreen) -> str:
    """What the screen shows, as text."""
    console = Console(
        width=screen.width or 200,
        file=io.StringIO(),
        force_terminal=False,
        color_system=None,
    )
    with console.capture() as taken:
        console.print(screen.draw())
    return taken.get().rstrip("\n")
