"""The screen of ``streams top``, and its keys: no terminal and no server in here.

Keys act only on objects that can be seen. The chosen line is always drawn. A question
names its object and keeps it, whatever changes meanwhile, and it takes an answer only
when it was drawn whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rich import get_console
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streams.admin.dead_letter import DeadLetter
from streams.admin.overview import GroupView, StreamView
from streams.admin.queries import ident, shown
from streams.broker.server.shards import Away
from streams.cli.columns import fitted, shortened
from streams.cli.common import cell, moment, number, one_line, span, table

SORTS = ("name", "waiting", "oldest", "retrying", "dead", "rate")
HELP = "j k: choose   s: sort   p: pause or resume   d: dead letters   q: quit"
DEAD_HELP = "j k: choose   r: replay   R: replay all   x: discard   d: back   q: quit"
ASKING_HELP = "y: yes   any other key: no"
TOO_SMALL = "too small a terminal to ask"
ActionName = Literal[
    "quit", "pause", "resume", "letters", "more", "replay", "replay all", "discard", ""
]
_LEAST_ROWS = 3
"""Title, names of the columns, and the chosen line: a question leaves room for these."""
_LEAST_WIDTH = 20
_MOST_QUESTION = 500
_FAR = 10**9
_NAMES = {"STREAM": 14, "GROUP": 14, "EVENT": 14, "TYPE": 8, "REASON": 12, "ERROR": 24}
"""Columns that may be shortened, and the cells that each keeps."""
_SPARE = (
    *("PROCESSING", "WORKERS", "DONE/S", "OLDEST", "RETRYING", "WAITING"),
    *("DIED", "TYPE", "ATTEMPTS"),
)
"""Columns that may be left out, of groups and of dead letters."""


@dataclass(slots=True)
class TableLine:
    """One group."""

    stream: str
    view: GroupView

    @property
    def paused(self) -> bool:
        """Whether its highest level is held."""
        return any(level.paused for level in self.view.row.levels[:1])

    @property
    def oldest(self) -> float:
        """Age of the oldest unfinished event."""
        ages = [level.oldest_age or 0.0 for level in self.view.row.levels]
        return max(ages, default=0.0)

    @property
    def place(self) -> tuple[str, str]:
        """Stream and group."""
        return self.stream, self.view.row.group

    def rank(self, sort: str) -> float:
        """Its place in an order: the most stands first."""
        if sort == "rate":
            return -self.view.rate
        if sort == "oldest":
            return -self.oldest
        if sort == "dead":
            return -self.view.row.dead
        return 0 if sort == "name" else -self.view.row.total(sort)


@dataclass(frozen=True, slots=True)
class Question:
    """A question that waits for a yes. It names its object: lines may change meanwhile.

    Attributes:
        action: follows a yes.
        place: stream and group.
        text: as it is asked.
        letter: id of the dead letter that it is about; '' for none.
        count: of dead letters, where it is about many.
    """

    action: ActionName
    place: tuple[str, str]
    text: str
    letter: str = ""
    count: int = 0


@dataclass(slots=True)
class TopScreen:
    """The state of the screen.

    Attributes:
        lines: the groups, sorted.
        sort: the order, one of ``SORTS``; the most first, names in their order.
        chosen: index of the line that is chosen.
        opened: stream and group whose dead letters are looked at, if ``letters`` are.
        letters: dead letters while they are looked at, the oldest first; None
            otherwise.
        total: how many there are; not all have to be in ``letters``.
        at: index of the dead letter that is chosen.
        asked: the question that waits for a yes; None for none.
        confirmed: the question that the last yes answered, until its action is done.
        told: the outcome of the last action.
        away: shards of a cluster that could not be asked.
        width, height: of the terminal; a height of 0 is no bound.
        is_drawn: the question can be seen.
    """

    lines: list[TableLine] = field(default_factory=list)
    sort: str = "name"
    chosen: int = 0
    opened: tuple[str, str] = ("", "")
    letters: list[DeadLetter] | None = None
    total: int = 0
    at: int = 0
    asked: Question | None = None
    confirmed: Question | None = None
    told: str = ""
    away: Sequence[Away] = ()
    width: int = 200
    height: int = 0
    is_drawn: bool = False

    def update(self, views: Sequence[StreamView], away: Sequence[Away] = ()) -> None:
        """Take what the server said; the line that was chosen stays chosen."""
        self.away = away
        kept = self.line
        self.lines = [
            TableLine(view.row.stream, group) for view in views for group in view.groups
        ]
        self._sort(kept)

    def open(
        self, place: tuple[str, str], letters: list[DeadLetter], total: int
    ) -> None:
        """Show dead letters of a group; the same place in the list stays chosen."""
        if self.letters is None or place != self.opened:
            self.at = 0
        self.opened, self.letters, self.total = place, letters, total
        self._move(0)

    @property
    def wants_more(self) -> bool:
        """Whether the last dead letter that is here is chosen, and there are others."""
        here = len(self.letters or ())
        is_last = self.letters is not None and self.at + 1 >= here
        return is_last and here < self.total

    @property
    def line(self) -> TableLine | None:
        """The line that is chosen."""
        return self.lines[self.chosen] if self.chosen < len(self.lines) else None

    @property
    def letter(self) -> DeadLetter | None:
        """The dead letter that is chosen."""
        return self.letters[self.at] if self.letters else None

    def press(self, key: str) -> ActionName:
        """The action that a key asks for; '' for none. A yes moves ``asked`` to ``confirmed``."""
        if self.asked is not None:
            return self._answer(self.asked, key)
        if key == "q":
            return "quit"

        page = max(1, self.height - 6)
        moves = {"j": 1, "k": -1, "page down": page, "page up": -page}
        moves |= {"home": -_FAR, "end": _FAR}
        if key in moves:
            self._move(moves[key])
            return "more" if self.wants_more else ""

        if self.letters is not None:
            self._press_letter(key)
        elif key == "s":
            self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]
            self._sort(self.line)
        elif self.line is not None and self.line.view.row.group:
            return self._press_group(key, self.line)
        return ""

    def _answer(self, question: Question, key: str) -> ActionName:
        if not self.is_drawn or not key:
            # It was not to be seen when the key was pressed, or that was none.
            return ""
        self.asked = None
        if key != "y":
            self.told = "nothing was done"
            return ""
        self.told, self.confirmed = "", question
        return question.action

    def _press_group(self, key: str, line: TableLine) -> ActionName:
        if key == "p":
            action: ActionName = "resume" if line.paused else "pause"
            text = f"{action} {'/'.join(line.place)}? (y)"
            self._ask(Question(action, line.place, text))
        return "letters" if key == "d" else ""

    def _press_letter(self, key: str) -> None:
        where, letter = "/".join(self.opened), self.letter
        if key == "d":
            self.letters = None
        if letter is None:
            return

        name = shortened(ident(letter.event_id or letter.id), _MOST_QUESTION)
        if key == "r":
            text = f"put {name} of {where} back? (y)"
            self._ask(Question("replay", self.opened, text, letter.id))
        elif key == "x":
            text = f"delete {name} of {where} for good? (y)"
            self._ask(Question("discard", self.opened, text, letter.id))
        elif key == "R":
            some = f"all {self.total} dead letters"
            if self.total == 1:
                some = "the only dead letter"
            text = f"put {some} of {where} back? (y)"
            self._ask(Question("replay all", self.opened, text, count=self.total))

    def _ask(self, question: Question) -> None:
        self.asked, self.is_drawn = question, False
        self._take_back_what_does_not_fit()

    def _take_back_what_does_not_fit(self) -> None:
        if self.asked is None or not self.height:
            return
        needed = _LEAST_ROWS + len(self._footer())
        if self.width < _LEAST_WIDTH or needed > self.height:
            self.asked, self.told = None, TOO_SMALL

    def _move(self, by: int) -> None:
        if self.letters is not None:
            self.at = max(0, min(len(self.letters) - 1, self.at + by))
        else:
            self.chosen = max(0, min(len(self.lines) - 1, self.chosen + by))

    def _sort(self, kept: TableLine | None) -> None:
        self.lines.sort(key=lambda line: (line.rank(self.sort), *line.place))
        places = [line.place for line in self.lines]
        if kept is not None and kept.place in places:
            self.chosen = places.index(kept.place)
        self.chosen = max(0, min(self.chosen, len(places) - 1))

    def draw(self) -> RenderableType:
        """The whole screen: never higher than the terminal, and the footer always."""
        self._take_back_what_does_not_fit()
        self.is_drawn = self.asked is not None
        footer = self._footer()
        details = self._away() if self.letters is None else self._details()
        room = self.height - len(footer) - 2
        if room < len(details) + 1:
            details = details if not self.height else []
        room -= len(details)
        if self.height and room < 1:
            return Group(*footer[: self.height])

        title, made, missing = self._list(room)
        blank = [Text()] * missing
        return Group(_in_one_line(title, "bold"), made, *blank, *details, *footer)

    def _list(self, room: int) -> tuple[str, Table, int]:
        """The title, the rows around the chosen one, and how much room is left."""
        chosen, count = self.chosen, len(self.lines)
        title, total = f"sorted by {self.sort}", count
        if self.letters is not None:
            chosen, count = self.at, len(self.letters)
            title, total = f"dead letters of {'/'.join(self.opened)}", self.total
        if not self.height:
            room = count

        first = max(0, min(chosen - room // 2, count - room))
        rows = slice(first, first + room)
        made = self._groups(rows) if self.letters is None else self._letters(rows)
        if made.rows:
            made.rows[chosen - first].style = "reverse"
        if total > len(made.rows):
            title += f"   {first + 1}-{first + len(made.rows)} of {total}"
        made = fitted(made, self.width, names=_NAMES, spare=_SPARE)
        made.caption = None
        return title, made, room - len(made.rows)

    def _groups(self, rows: slice) -> Table:
        made = table(
            *("STREAM", "GROUP", ">WAITING", ">OLDEST", ">PROCESSING", ">RETRYING"),
            *(">DEAD", ">DONE/S", ">WORKERS"),
        )
        for line in self.lines[rows]:
            row = line.view.row
            made.add_row(
                cell(line.stream),
                cell(f"{row.group or '(no group)'}{' paused' if line.paused else ''}"),
                number(row.total("waiting")),
                span(line.oldest) if line.oldest else "",
                number(row.total("processing")),
                number(row.total("retrying")),
                number(row.dead),
                f"{line.view.rate:.1f}",
                number(line.view.workers),
            )
        return made

    def _letters(self, rows: slice) -> Table:
        made = table("EVENT", "TYPE", "REASON", ">ATTEMPTS", "DIED", "ERROR")
        for letter in (self.letters or [])[rows]:
            made.add_row(
                cell(ident(letter.event_id or letter.id)),
                cell(shown(letter.type)),
                letter.reason,
                number(letter.attempts),
                moment(letter.died_at),
                cell(shown(letter.last_error)),
            )
        return made

    def _away(self) -> list[Text]:
        """The shards that could not be asked."""
        return [_in_one_line(str(shard), "red") for shard in self.away]

    def _details(self) -> list[Text]:
        """The chosen dead letter, where its line is too short for it."""
        letter = self.letter
        if letter is None:
            return []
        name, died = ident(letter.event_id or letter.id), moment(letter.died_at)
        return [
            Text(),
            _in_one_line(f"{name}   {shown(letter.type)}   died {died}"),
            _in_one_line(shown(letter.last_error)),
        ]

    def _footer(self) -> list[Text]:
        """The question, or the outcome of the last action; and the keys."""
        if self.asked is not None:
            question = self._wrapped(self.asked.text, "bold yellow")
            return [*question, *self._wrapped(ASKING_HELP, "dim")]
        keys = HELP if self.letters is None else DEAD_HELP
        return [_in_one_line(self.told, "green"), *self._wrapped(keys, "dim")]

    def _wrapped(self, text: str, style: str) -> Iterable[Text]:
        return Text(text, style=style).wrap(get_console(), self.width)


def _in_one_line(text: str, style: str = "") -> Text:
    return Text(one_line(text), style=style, no_wrap=True, overflow="ellipsis")
