"""The main job, played as a user plays it; and its books, which must be able to fail."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from streams.cli.demo.books import DeadEnd, Sums, balance
from tests.servers import clean_environment, wait_until

ROOT = Path(__file__).parents[2]
ORDERS = ROOT / "examples" / "orders"


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "streams", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=clean_environment()
        | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "COLUMNS": "100"},
    )


@pytest.fixture
def folder():
    """A short path: sockets are made below it. Of a demo that a failed test left running nothing stays behind."""
    with tempfile.TemporaryDirectory(prefix="dm", dir="/tmp") as name:
        yield Path(name)
        for pid in left_running(Path(name)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def nothing_left(folder: Path) -> bool:
    """No file of the demo, and no process that was started with its folder."""
    return not list(folder.glob("streams-demo-*")) and not left_running(folder)


def left_running(folder: Path) -> list[int]:
    """Processes of a demo that was started with this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"={folder}".encode() in process.read_bytes():
                found.append(int(process.parent.name))
    return found


def test_the_demo_balances_its_books(folder):
    began = time.monotonic()
    demo = start(folder, "--json")
    out, err = demo.communicate(timeout=60)
    assert demo.returncode == 0, err
    assert time.monotonic() - began < 60
    books = json.loads(out)
    assert books["balanced"]
    assert books["lines"] == 2400
    assert sum(books["refused"].values()) == 30
    assert books["duplicates"] == 8
    assert books["published"] == books["handled"] + sum(books["dead"].values()) == 2362
    assert books["dead"]["rejected"] == 10
    assert books["dead"]["no-handler"] == 6
    assert books["dead"]["retries-used-up"] + books["dead"].get("stalled", 0) == 25
    assert books["retried"] >= 120 + 25
    assert list(books["levels"]) == ["10", "5", "1", "0"]
    assert "killed (SIGKILL) with" in err
    wait_until(lambda: nothing_left(folder), what="the demo to leave nothing behind")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(folder, number):
    demo = start(folder)
    wait_until(
        lambda: list(folder.glob("streams-demo-*/ledger.jsonl")),
        seconds=60,
        what="the first order",
    )
    demo.send_signal(number)
    _, err = demo.communicate(timeout=15)
    assert demo.returncode == 128 + number
    assert "Traceback" not in err
    wait_until(lambda: nothing_left(folder), what="the demo to leave nothing behind")


def test_another_input_balances_too(folder):
    """Orders of another kind all die, and that is accounted for; the fewer lines than hands, too."""
    lines = [
        json.dumps({"type": "order.created", "data": {"order": str(n)}})
        for n in range(4)
    ]
    (folder / "in.jsonl").write_text("\n".join(["broken", *lines, ""]))
    demo = start(folder, "--input", str(folder / "in.jsonl"))
    out, err = demo.communicate(timeout=60)
    assert demo.returncode == 0, err
    assert "each of 5 lines has exactly one end" in out
    assert "KeyError" in out


RECEIPTS = [
    {"line": 1, "outcome": "published", "event_id": "a", "level": 0},
    {"line": 2, "outcome": "refused", "reason": "not-json"},
    {"line": 3, "outcome": "published", "event_id": "b", "level": 5},
    {"line": 5, "outcome": "duplicate", "event_id": "a"},
]
LEDGER = [{"event_id": "a", "entry": "0|1-0", "attempt": 1}]
DEAD = [DeadEnd("b", "5|1-0", "rejected", "no", 1)]


def test_books_that_balance():
    books = balance(
        [1, 2, 3, 5], RECEIPTS, [*LEDGER, {**LEDGER[0], "attempt": 2}], DEAD
    )
    assert books.balanced
    assert books.sums() == Sums(published=2, handled=1, dead=1, retried=1, again=1)
    assert (books.lines("duplicate"), books.lines("refused")) == ([5], [2])
    assert books.levels[5].dead == books.levels[0].handled == 1


@pytest.mark.parametrize(
    ("receipts", "ledger", "dead", "missing", "ambiguous"),
    [
        (RECEIPTS[1:], LEDGER, DEAD, [1, 5], []),
        (RECEIPTS, [], DEAD, [1], []),
        (RECEIPTS, LEDGER, [], [3], []),
        ([*RECEIPTS, RECEIPTS[0]], LEDGER, DEAD, [5], [1]),
        (RECEIPTS, [*LEDGER, {**LEDGER[0], "entry": "0|2-0"}], DEAD, [], [1]),
        (RECEIPTS, LEDGER, [*DEAD, DeadEnd("a", "0|1-0", "stalled")], [], [1]),
    ],
)
def test_books_that_do_not_balance_name_the_lines(
    receipts, ledger, dead, missing, ambiguous
):
    books = balance([1, 2, 3, 5], receipts, ledger, dead)
    assert not books.balanced
    assert books.lines("missing") == missing
    assert books.lines("ambiguous") == ambiguous


def test_an_event_of_no_line_spoils_the_books():
    assert not balance(
        [1, 2, 3, 5], RECEIPTS, [*LEDGER, {**LEDGER[0], "event_id": "z"}], DEAD
    ).balanced
    assert not balance([1, 2, 3], RECEIPTS, LEDGER, DEAD).balanced


def test_books_that_do_not_balance_end_with_1(monkeypatch, capsys):
    from typer.testing import CliRunner

    from streams.cli.app import app
    from streams.cli.demo.play import Play

    async def run(self):
        return balance([1, 2, 3, 5], RECEIPTS, [], DEAD)

    monkeypatch.setattr(Play, "run", run)
    outcome = CliRunner().invoke(app, ["demo"])
    assert outcome.exit_code == 1
    assert "do not balance" in outcome.stdout
    assert "1 line without an end: 1" in outcome.stdout


def test_the_orders_are_what_their_maker_makes(folder):
    made = folder / "orders.jsonl"
    subprocess.run(
        [sys.executable, str(ORDERS / "make_orders.py"), "--output", str(made)],
        check=True,
    )
    assert made.read_bytes() == (ORDERS / "orders.jsonl").read_bytes()
    assert made.stat().st_size < 600_000
