"""What ``streams top`` shows, and what its keys do: no terminal and no server in here.

What is acted upon is what can be seen: the chosen line is always among those that are
drawn, a question names what it is about and keeps that whatever changes meanwhile, and
it takes an answer only when it was drawn whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from rich.cells import cell_len, chop_cells
from rich.console import Group, RenderableType
from rich.text import Text

from streams.admin.dead_letter import DeadLetter
from streams.admin.overview import GroupView, StreamView
from streams.admin.queries import ident, shown
from streams.broker.server.shards import Away
from streams.cli.columns import Column, lines_of, shortened
from streams.cli.common import moment, span

SORTS = ("name", "waiting", "oldest", "retrying", "dead", "rate")
HELP = "j k: choose   s: sort   p: pause or resume   d: dead letters   q: quit"
DEAD_HELP = "j k: choose   r: replay   R: replay all   x: discard   d: back   q: quit"
ASKING_HELP = "y: yes   any other key: no"
TOO_SMALL = "too small a terminal to ask"
DeedName = Literal[
    "quit", "pause", "resume", "letters", "more", "replay", "replay all", "discard", ""
]
_LEAST_ROWS = 3
"""Title, names of the columns, and the chosen line: with a question there has to be room for these."""
_LEAST_WIDTH = 20
_MOST_QUESTION = 500


@dataclass(slots=True)
class TableLine:
    """One group."""

    stream: str
    view: GroupView
    paused: bool

    @property
    def oldest(self) -> float:
        """Age of the oldest unfinished event."""
        return max(
            (level.oldest_age or 0.0 for level in self.view.row.levels), default=0.0
        )

    @property
    def place(self) -> tuple[str, str]:
        """Stream and group."""
        return self.stream, self.view.row.group


@dataclass(frozen=True, slots=True)
class Question:
    """What waits for a yes. It keeps what it is about: the lines may be others by then.

    Attributes:
        deed: what will be done.
        place: stream and group.
        text: as it is asked.
        letter: id of the dead letter that it is about; '' for none.
        count: of letters, where it is about many.
    """

    deed: DeedName
    place: tuple[str, str]
    text: str
    letter: str = ""
    count: int = 0


@dataclass(slots=True)
class TopScreen:
    """What is on the screen.

    Attributes:
        lines: the groups, sorted.
        sort: by what; the most first, names in their order.
        chosen: index of the line that is chosen.
        opened: stream and group whose dead letters are looked at, if ``letters`` are.
        letters: dead letters while they are looked at, the oldest first; None
            otherwise.
        total: how many there are; not all have to be in ``letters``.
        at: index of the letter that is chosen.
        asked: what waits for a yes; None for nothing.
        confirmed: what the last yes was about.
        told: what was done last.
        away: shards of a cluster that could not be asked.
        width, height: of the terminal; 0: no bound.
        is_awaited: what was pressed before the question could be seen is gone.
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
    away: list[Away] = field(default_factory=list)
    width: int = 0
    height: int = 0
    is_awaited: bool = False
    _first: int = 0
    _first_letter: int = 0
    _is_drawn: bool = False

    def update(self, views: Sequence[StreamView], away: Sequence[Away] = ()) -> None:
        """Take what the server said; the line that was chosen stays chosen, wherever it is now."""
        self.away = list(away)
        kept = self.line
        self.lines = [
            TableLine(
                view.row.stream,
                group,
                any(
                    pause.covers(group.row.group, level)
                    for pause in view.row.paused
                    for level in [row.level for row in group.row.levels][:1]
                ),
            )
            for view in views
            for group in view.groups
        ]
        self._sort(kept)

    def open(
        self, place: tuple[str, str], letters: list[DeadLetter], total: int
    ) -> None:
        """Show dead letters of a group; the same place in the list stays chosen."""
        if self.letters is None or place != self.opened:
            self.at = self._first_letter = 0
        self.opened, self.letters, self.total = place, letters, total
        self.at = max(0, min(self.at, len(letters) - 1))

    @property
    def wants_more(self) -> bool:
        """Whether the choice has reached the last letter that is here, and there are others."""
        return (
            self.letters is not None
            and self.at >= len(self.letters) - 1
            and len(self.letters) < self.total
        )

    @property
    def line(self) -> TableLine | None:
        """The line that is chosen."""
        return self.lines[self.chosen] if self.chosen < len(self.lines) else None

    @property
    def letter(self) -> DeadLetter | None:
        """The dead letter that is chosen."""
        return (
            self.letters[self.at]
            if self.letters and self.at < len(self.letters)
            else None
        )

    def press(self, key: str) -> DeedName:
        """What a key asks for; '' if that is done. What a yes was about is ``confirmed``."""
        if self.asked is not None:
            return self._answer(self.asked, key)
        moves = {
            "j": 1,
            "k": -1,
            "page down": self._page,
            "page up": -self._page,
            "home": -(10**9),
            "end": 10**9,
        }
        if key == "q":
            return "quit"
        if key in moves:
            self._move(moves[key])
        elif self.letters is not None:
            self._press_letter(key)
        elif key == "s":
            self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]
            self._sort(self.line)
        elif key in ("p", "d") and self.line is not None and self.line.view.row.group:
            if key == "d":
                return "letters"
            deed: DeedName = "resume" if self.line.paused else "pause"
            self._ask(
                Question(
                    deed, self.line.place, f"{deed} {'/'.join(self.line.place)}? (y)"
                )
            )
        return ""

    def draw(self) -> RenderableType:
        """The whole screen: never more lines than there is room for, and the footer always."""
        if self.asked is not None and not self._fits(self.asked):
            self.asked, self.told = None, TOO_SMALL
        footer = self._footer()[: self.height or None]
        title, heads, rows, chosen = (
            self._letters() if self.letters is not None else self._groups()
        )
        more = self._details() if self.letters is not None else self._missing()
        room = len(rows)
        if self.height:
            if self.height - len(footer) - len(more) < 2 + _LEAST_ROWS:
                more = []
            room = max(0, self.height - len(footer) - len(more) - 2)
        first = self._scrolled(chosen, room, len(rows))
        body = [
            Text(row, style="reverse" if at == chosen else "")
            for at, row in enumerate(rows[first : first + room], first)
        ]
        if self.height:
            body += [Text("")] * (room - len(body))
        if self._is_cut(first, room, rows):
            title += f"   {first + 1}-{min(len(rows), first + room)} of {max(len(rows), self._count)}"
        head = [Text(self._cut(title), style="bold"), Text(heads, style="bold")]
        everything = [*head, *body, *more]
        self._is_drawn = self.asked is not None
        return Group(
            *everything[: max(0, self.height - len(footer))]
            if self.height
            else everything,
            *footer,
        )

    def _answer(self, question: Question, key: str) -> DeedName:
        if not self._is_drawn or not key:
            # It was not to be seen when the key was pressed, or that was none.
            return ""
        self.asked = None
        if key != "y":
            self.told = "nothing was done"
            return ""
        self.told, self.confirmed = "", question
        return question.deed

    def _ask(self, question: Question) -> None:
        if self._fits(question):
            self.asked, self._is_drawn, self.is_awaited = question, False, False
        else:
            self.told = TOO_SMALL

    def _fits(self, question: Question) -> bool:
        if not self.height:
            return True
        lines = len(self._wrapped(question.text)) + len(self._wrapped(ASKING_HELP))
        return self.width >= _LEAST_WIDTH and lines + _LEAST_ROWS <= self.height

    def _press_letter(self, key: str) -> None:
        where, letter = "/".join(self.opened), self.letter
        if key == "d":
            self.letters = None
        elif key == "R" and letter is not None:
            all_of = f"put all {self.total} dead letters of {where} back? (y)"
            if self.total == 1:
                all_of = f"put the only dead letter of {where} back? (y)"
            self._ask(Question("replay all", self.opened, all_of, count=self.total))
        elif key in ("r", "x") and letter is not None:
            name = shortened(ident(letter.event_id or letter.id), _MOST_QUESTION)
            text = (
                f"put {name} of {where} back? (y)"
                if key == "r"
                else f"delete {name} of {where} for good? (y)"
            )
            self._ask(
                Question(
                    "replay" if key == "r" else "discard", self.opened, text, letter.id
                )
            )

    def _move(self, by: int) -> None:
        if self.letters is not None:
            self.at = max(0, min(len(self.letters) - 1, self.at + by))
        else:
            self.chosen = max(0, min(len(self.lines) - 1, self.chosen + by))

    def _sort(self, kept: TableLine | None) -> None:
        keys = {
            "waiting": lambda line: -line.view.row.total("waiting"),
            "oldest": lambda line: -line.oldest,
            "retrying": lambda line: -line.view.row.total("retrying"),
            "dead": lambda line: -line.view.row.dead,
            "rate": lambda line: -line.view.rate,
        }
        self.lines.sort(
            key=lambda line: (
                keys[self.sort](line) if self.sort in keys else 0,
                *line.place,
            )
        )
        places = [line.place for line in self.lines]
        if kept is not None and kept.place in places:
            self.chosen = places.index(kept.place)
        else:
            self.chosen = max(0, min(self.chosen, len(places) - 1))

    # --- what is drawn

    @property
    def _page(self) -> int:
        return max(1, self.height - 6)

    @property
    def _count(self) -> int:
        return self.total if self.letters is not None else len(self.lines)

    def _is_cut(self, first: int, room: int, rows: Sequence[str]) -> bool:
        return bool(rows) and (first > 0 or room < len(rows) or self._count > len(rows))

    def _scrolled(self, chosen: int, room: int, count: int) -> int:
        """The first row that is drawn: as before, unless the chosen one would be out of sight."""
        first = self._first_letter if self.letters is not None else self._first
        first = max(0, min(first, chosen, count - room))
        if room and chosen >= first + room:
            first = chosen - room + 1
        if self.letters is not None:
            self._first_letter = first
        else:
            self._first = first
        return first

    def _footer(self) -> list[Text]:
        """What is asked or was done, and what the keys do."""
        if self.asked is not None:
            lines = [
                Text(line, style="bold yellow")
                for line in self._wrapped(self.asked.text)
            ]
            return [
                *lines,
                *(Text(line, style="dim") for line in self._wrapped(ASKING_HELP)),
            ]
        keys = DEAD_HELP if self.letters is not None else HELP
        return [
            Text(self._cut(self.told, keeps_end=False), style="green"),
            *(Text(line, style="dim") for line in self._wrapped(keys)),
        ]

    def _groups(self) -> tuple[str, str, list[str], int]:
        rows = [(line, line.view.row) for line in self.lines]
        heads, *found = lines_of(
            [
                Column("STREAM", [line.stream for line in self.lines], least=14),
                Column("GROUP", [_group(line) for line in self.lines], least=14),
                Column(
                    "WAITING",
                    [_number(row.total("waiting")) for _, row in rows],
                    is_number=True,
                    rank=1,
                ),
                Column(
                    "OLDEST",
                    [span(line.oldest) if line.oldest else "" for line in self.lines],
                    is_number=True,
                    rank=3,
                ),
                Column(
                    "PROCESSING",
                    [_number(row.total("processing")) for _, row in rows],
                    is_number=True,
                    rank=6,
                ),
                Column(
                    "RETRYING",
                    [_number(row.total("retrying")) for _, row in rows],
                    is_number=True,
                    rank=2,
                ),
                Column("DEAD", [_number(row.dead) for _, row in rows], is_number=True),
                Column(
                    "DONE/S",
                    [f"{line.view.rate:.1f}" for line in self.lines],
                    is_number=True,
                    rank=4,
                ),
                Column(
                    "WORKERS",
                    [_number(line.view.workers) for line in self.lines],
                    is_number=True,
                    rank=5,
                ),
            ],
            self.width or 10**6,
        )
        return f"sorted by {self.sort}", heads, found, self.chosen

    def _letters(self) -> tuple[str, str, list[str], int]:
        letters = self.letters or []
        heads, *found = lines_of(
            [
                Column(
                    "EVENT",
                    [ident(letter.event_id or letter.id) for letter in letters],
                    least=14,
                ),
                Column(
                    "TYPE", [shown(letter.type) for letter in letters], least=8, rank=2
                ),
                Column("REASON", [letter.reason for letter in letters], least=12),
                Column(
                    "ATTEMPTS",
                    [_number(letter.attempts) for letter in letters],
                    is_number=True,
                    rank=1,
                ),
                Column("DIED", [moment(letter.died_at) for letter in letters], rank=3),
                Column(
                    "ERROR",
                    [shown(letter.last_error) for letter in letters],
                    least=24,
                    keeps_end=False,
                ),
            ],
            self.width or 10**6,
        )
        return f"dead letters of {'/'.join(self.opened)}", heads, found, self.at

    def _missing(self) -> list[Text]:
        """The shards that could not be asked."""
        return [Text(self._cut(str(shard)), style="red") for shard in self.away]

    def _details(self) -> list[Text]:
        """The chosen letter, where its line is too short for it."""
        letter = self.letter
        if letter is None:
            return []
        what = (
            f"{ident(letter.event_id or letter.id)}   {shown(letter.type)}   died "
            f"{moment(letter.died_at)}"
        )
        return [
            Text(""),
            Text(self._cut(what)),
            Text(self._cut(shown(letter.last_error), keeps_end=False)),
        ]

    def _cut(self, text: str, *, keeps_end: bool = True) -> str:
        return shortened(text, self.width, keeps_end=keeps_end) if self.width else text

    def _wrapped(self, text: str) -> list[str]:
        """A text in lines, broken between words where it can be."""
        if not self.width or cell_len(text) <= self.width:
            return [text]
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".lstrip()
            if cell_len(longer) <= self.width:
                lines[-1] = longer
            else:
                lines += chop_cells(word, self.width)
        return lines[0 if lines[0] else 1 :]


def _group(line: TableLine) -> str:
    return f"{line.view.row.group or '(no group)'}{' paused' if line.paused else ''}"


def _number(value: int | None) -> str:
    """A dot where it is 0, so that the eye finds the others; a dash where it is unknown."""
    if value is None:
        return "-"
    return f"{value:,}" if value else "·"
