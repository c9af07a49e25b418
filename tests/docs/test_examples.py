"""Every example of every page is executed as a reader would, against the real embedded server."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.docs.blocks import COMMANDS, PROGRAMS, ROOT, Block, blocks_of, pages, parse
from tests.docs.output import matches
from tests.docs.player import _FILE, ExampleError, Player, steps_of
from tests.docs.quick import quick_commands

PAGES = {
    name: blocks
    for name, blocks in (
        (str(path.relative_to(ROOT)), blocks_of(path)) for path in pages()
    )
    if any(block.language in (*PROGRAMS, *COMMANDS) for block in blocks)
}
AT_ONCE = 3
NOT_RUN_AT_MOST = 6


@pytest.fixture(scope="session")
def play(request: pytest.FixtureRequest) -> Iterator[Callable[[str], None]]:
    """Waits for a page. All pages of this run are being played, some at a time; asked for again, one is played anew."""
    wanted = {
        item.callspec.params["page"]
        for item in request.session.items
        if "play" in getattr(item, "fixturenames", ())
    }
    socket = Path(tempfile.mkdtemp(prefix="dq", dir="/tmp")) / "s"
    with quick_commands(socket) as quick, ThreadPoolExecutor(AT_ONCE) as pool:

        def start(page: str) -> Future[None]:
            return pool.submit(lambda: Player(PAGES[page], quick).play())

        played = {page: start(page) for page in PAGES if page in wanted}
        yield lambda page: (played.pop(page, None) or start(page)).result()
        pool.shutdown(cancel_futures=True)
    shutil.rmtree(socket.parent)


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_do_what_it_says(
    page: str, play: Callable[[str], None]
) -> None:
    play(page)


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_makes_is_used(page: str) -> None:
    """Else it would only look as if it were executed."""
    runnable = [block for block in PAGES[page] if block.not_run is None]
    for at, block in enumerate(runnable):
        if _FILE.fullmatch(block.title) and not block.title.startswith(".env"):
            stem = block.title.rpartition("/")[2].rpartition(".")[0]
            later = "\n".join(other.text for other in runnable[at + 1 :])
            assert re.search(rf"\b{re.escape(stem)}\b", later), (
                f"{block.where}: nothing uses {block.title}"
            )


def test_blocks_that_are_not_run_are_rare() -> None:
    marked = [
        block.where
        for blocks in PAGES.values()
        for block in blocks
        if block.not_run is not None
    ]
    assert len(marked) <= NOT_RUN_AT_MOST, marked


def block(text: str, language: str = "console", title: str = "") -> Block:
    return Block("page.md", 1, language, title, text)


@pytest.mark.parametrize(
    ("blocks", "complaint"),
    [
        ([block("raise SystemExit(3)\n", "python")], "ended with 3"),
        ([block("$ echo one\ntwo\n")], "should show"),
        ([block("$ echo one\none\ntwo\n")], "should show"),
        ([block("$ false\n")], "ended with 1"),
        ([block("nothing\n")], "no command"),
        ([block("$ pip install 'streams[nothing]'\n")], "no extra 'nothing'"),
        ([block("$ make nothing\n")], "no 'make nothing'"),
        ([block("$ sh -c 'echo a; exit 3'\na\n", title="terminal 1")], "ended with 3"),
    ],
)
def test_an_example_that_is_wrong_is_found(blocks: list[Block], complaint: str) -> None:
    with pytest.raises(ExampleError, match=re.escape(complaint)):
        Player(blocks).play()


def test_blocks_of_a_page_build_on_one_another() -> None:
    Player(
        [
            block("print('hello')\n", "python", "greet.py"),
            block("$ export NAME=you\n$ mkdir below && cd below\n"),
            block("$ python ../greet.py; echo $NAME\nhello\nyou\n"),
            block(
                "$ sh -c 'echo ready; echo steady; exec sleep 60'\nready\n",
                title="Terminal 2",
            ),
            block("steady\n", title="Terminal 2"),
            block(
                "$ echo 1795414969770-5\n1700000000000-0\n$ echo 1700000000000-0 again\n1795414969770-5 ...\n"
            ),
            block("$ test 1700000000000-0 = $(printf 1795414969%s 770-5)\n"),
        ]
    ).play()


def test_output_may_vary_where_it_varies_by_nature() -> None:
    shown = "06:22:49.770 INFO worker=vm-1-d0720a6f entry=1795414969769-1 delay=0.484\n...\nlast ... line\n"
    came = "07:00:00.001 INFO   worker=host-23-aaaabbbb entry=1895414969769-0 delay=0.1\nx\ny\nlast of one line\n"
    assert matches(shown, came)
    assert not matches(shown, came + "and more\n")
    assert not matches("attempt=1\n", "attempt=2\n")


def test_a_page_is_read_with_titles_marks_and_lines() -> None:
    text = '```python title="a.py"\nx\n```\n\n<!-- not run: a signature -->\n```console\n$ a \\\n  b   # c\nd\n```\n'
    first, second = parse("page.md", text)
    assert (first.title, first.text, first.line, first.not_run) == (
        "a.py",
        "x\n",
        2,
        None,
    )
    assert (second.not_run, steps_of(second)) == ("a signature", [("a b", "d\n")])
    with pytest.raises(ValueError, match="reason"):
        list(parse("page.md", "<!-- not run: -->\n```python\n```\n"))
    with pytest.raises(ValueError, match="not closed"):
        list(parse("page.md", "```python\n"))
