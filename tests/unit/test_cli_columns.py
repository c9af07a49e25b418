"""Tables of commands: whole in a pipe, and in 80 cells with every number and enough of each name to know it."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from streams.admin.dead_letter import DeadLetter
from streams.admin.queries import Item, WorkerView
from streams.admin.rows import GroupRow, LevelRow, StreamRow
from streams.broker.admin.listing import Listed
from streams.cli import common
from streams.cli.columns import fitted
from streams.cli.dead_output import letters_table
from streams.cli.looking import in_hand_table, workers_table
from streams.cli.ls import overview

STREAM, GROUP = "orders-of-the-eastern-region", "billing-and-invoices"


def drawn(made, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False, emoji=False)
    console.print(made)
    return console.file.getvalue().splitlines()


def row() -> StreamRow:
    level = LevelRow(10, 17_435, 1_204, 3_001, 12, 86_400.0, False, 1)
    return StreamRow(STREAM, 20_000, 5, [GroupRow(GROUP, [level], 11_870, 14, {})])


def test_ls_in_80_cells_has_every_number_and_knows_its_names():
    lines = drawn(overview([row()], 80), 80)
    assert all(len(line.rstrip()) <= 80 for line in lines)
    for number in ("17,435", "1,204", "3,001", "11,870", "14", "1d 0h"):
        assert number in lines[1], number
    assert lines[1].startswith("order")
    assert "gion billi" in lines[1]
    assert "…" in lines[1]
    assert "no room for: LAG, SCHEDULED" in lines[-1]


def test_what_fits_is_not_touched():
    made = common.table("STREAM", ">DEAD")
    made.add_row("orders", "1")
    assert fitted(made, 80, names={"STREAM": 8}, spare=("DEAD",)) is made


def test_numbers_are_never_cut_however_narrow_it_is():
    lines = drawn(overview([row()], 40), 200)
    assert "11,870" in lines[1]
    assert "17,435" in lines[1]


@pytest.mark.parametrize("width", [100_000, 80])
def test_workers_and_dead_letters(width):
    said = {
        "host": "worker-host-17.example.internal",
        "pid": 4242,
        "version": "0.1.1",
        "busy": 7,
        "concurrency": 100,
        "done": 123_456,
    }
    view = WorkerView(
        STREAM, GROUP, "worker-host-17-4242-d0720a6f", said | {"rate": 12.5}, 12.0
    )
    names = {"WORKER": 14, "GROUP": 10, "HOST": 6}
    made = workers_table([(view, [])])
    lines = drawn(
        fitted(made, width, names=names, spare=("VERSION", "HOST", "DONE", "DONE/S")),
        width,
    )
    assert "7 / 100" in lines[1]
    assert (" PID " in lines[0], " 4242 " in lines[1]) == (True, True)
    assert "12s" in lines[1]
    assert ("worker-host-17-4242-d0720a6f" in lines[1]) is (width > 80)
    held = Item(
        Listed(5, "1-0", None, view.name, 2.5, 1, ()),
        "7d3e5f0a1b2c3d4e-1",
        "order.created.of.some.length",
        {},
        1,
    )
    made = in_hand_table([(view, [held, dataclasses.replace(held, runs=192.0)])])
    lines = drawn(
        fitted(
            made, width, names={"IN HAND OF": 14, "EVENT": 14, "TYPE": 10}, spare=()
        ),
        width,
    )
    assert lines[0].split() == [
        "IN",
        "HAND",
        "OF",
        "EVENT",
        "TYPE",
        "RUNS",
        "FOR",
        "LEASE",
        "RENEWED",
    ]
    assert ("3m 12s" in lines[1], "3m 12s" in lines[2]) == (False, True)
    assert all(line.rstrip().endswith("2.5s ago") for line in lines[1:3]), (
        "each value stands below its own title"
    )
    letter = DeadLetter(
        "1795414969769-12", "retries-used-up", 0.0, 5, "1-0", "e", "order.created.of.some.length", 4, 0,
        [{"type": "app.errors.CardRefusedError", "message": "the bank refused the card, and will not say why " * 4}],
        "c", 0, 1, {}, [],
    )  # fmt: skip
    made = letters_table([letter], 90_000.0)
    lines = drawn(
        fitted(
            made, width, names={"TYPE": 8, "LAST ERROR": 16}, spare=("LEVEL", "TRIES")
        ),
        width,
    )
    assert lines[1].startswith("1795414969769-12")
    assert "retries-used-up" in lines[1]
    assert "CardRefusedError" in lines[1]
    assert lines[1].count("will not say why") == (4 if width > 80 else 0)
