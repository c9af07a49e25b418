"""What ``streams top`` shows, and what its keys do: no terminal and no server in here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streams.broker.shards import Away
from streams.cli.common import cell, moment, number, span, table
from streams.dead_letter import DeadLetter
from streams.overview import GroupView, StreamView
from streams.retry import masked

SORTS = ("name", "waiting", "oldest", "retrying", "dead", "rate")
HELP = "j k: choose   s: sort   p: pause or resume   d: dead letters   q: quit"
DEAD_HELP = "j k: choose   r: replay   R: replay all   x: discard   d: back   q: quit"
Deed = Literal["quit", "pause", "letters", "replay", "replay all", "discard", ""]


@dataclass(slots=True)
class Line:
    """One group."""

    stream: str
    view: GroupView
    paused: bool

    @property
    def oldest(self) -> float:
        """Age of the oldest unfinished event."""
        return max((level.oldest_age or 0.0 for level in self.view.row.levels), default=0.0)


@dataclass(slots=True)
class Screen:
    """What is on the screen.

    Attributes:
        lines: the groups, sorted.
        sort: by what; the most first, names in their order.
        chosen: index of the line that is chosen.
        letters: dead letters of the chosen group, while they are looked at; None otherwise.
        at: index of the letter that is chosen.
        asked: what waits for a yes; '' for nothing.
        told: what was done last.
        away: shards of a cluster that could not be asked.
    """

    lines: list[Line] = field(default_factory=list)
    sort: str = "name"
    chosen: int = 0
    letters: list[DeadLetter] | None = None
    at: int = 0
    asked: Deed = ""
    told: str = ""
    away: list[Away] = field(default_factory=list)

    def update(self, views: Sequence[StreamView], away: Sequence[Away] = ()) -> None:
        """Take what the server said; the line that was chosen stays chosen, wherever it is now."""
        self.away = list(away)
        kept = self._place(self.line) if self.line is not None else None
        self.lines = [
            Line(view.row.stream, group, any(pause.covers(group.row.group, level) for pause in view.row.paused
                                             for level in [row.level for row in group.row.levels][:1]))
            for view in views
            for group in view.groups
        ]  # fmt: skip
        self._sort()
        places = [self._place(line) for line in self.lines]
        self.chosen = places.index(kept) if kept in places else min(self.chosen, max(0, len(places) - 1))

    @property
    def line(self) -> Line | None:
        """The line that is chosen."""
        return self.lines[self.chosen] if self.chosen < len(self.lines) else None

    @property
    def letter(self) -> DeadLetter | None:
        """The dead letter that is chosen."""
        return self.letters[self.at] if self.letters and self.at < len(self.letters) else None

    def press(self, key: str) -> Deed:
        """What a key asks for; '' if that is done."""
        if self.asked:
            deed, self.asked = self.asked, ""
            self.told = "" if key == "y" else "nothing was done"
            return deed if key == "y" else ""
        if key == "q":
            return "quit"
        if key in ("j", "k"):
            self._move(1 if key == "j" else -1)
        elif self.letters is not None:
            return self._press_letter(key)
        elif key == "s":
            self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]
            self._sort()
        elif key in ("p", "d") and self.line is not None and self.line.view.row.group:
            if key == "d":
                return "letters"
            self.asked = "pause"
        return ""

    def draw(self) -> RenderableType:
        """The whole screen."""
        if self.letters is not None and self.line is not None:
            body: RenderableType = self._letters()
            title, keys = f"dead letters of {self._where()}", DEAD_HELP
        else:
            body, title, keys = self._groups(), f"sorted by {self.sort}", HELP
        told = Text(self._question() or self.told, style="bold yellow" if self.asked else "green")
        missing = [Text(str(shard), style="red") for shard in self.away]
        return Group(Text(title, style="bold"), body, *missing, told, Text(keys, style="dim"))

    def _press_letter(self, key: str) -> Deed:
        deeds: dict[str, Deed] = {"r": "replay", "R": "replay all", "x": "discard"}
        if key == "d":
            self.letters = None
        elif key in deeds and self.letter is not None:
            self.asked = deeds[key]
        return ""

    def _question(self) -> str:
        if not self.asked:
            return ""
        ident = masked(self.letter.event_id or self.letter.id) if self.letter is not None else ""
        paused = self.line is not None and self.line.paused
        return {
            "pause": f"{'resume' if paused else 'pause'} {self._where()}? (y)",
            "replay": f"put {ident} back? (y)",
            "replay all": f"put every dead letter of {self._where()} back? (y)",
            "discard": f"delete {ident} for good? (y)",
        }[self.asked]

    def _move(self, by: int) -> None:
        if self.letters is not None:
            self.at = max(0, min(len(self.letters) - 1, self.at + by))
        else:
            self.chosen = max(0, min(len(self.lines) - 1, self.chosen + by))

    def _sort(self) -> None:
        chosen = self.line
        keys = {
            "waiting": lambda line: -line.view.row.total("waiting"),
            "oldest": lambda line: -line.oldest,
            "retrying": lambda line: -line.view.row.total("retrying"),
            "dead": lambda line: -line.view.row.dead,
            "rate": lambda line: -line.view.rate,
        }
        self.lines.sort(key=lambda line: (keys[self.sort](line) if self.sort in keys else 0, *self._place(line)))
        if chosen is not None:
            self.chosen = self.lines.index(chosen)

    def _groups(self) -> Table:
        made = table(
            "STREAM", "GROUP", ">WAITING", ">OLDEST", ">PROCESSING", ">RETRYING", ">DEAD", ">DONE/S", ">WORKERS"
        )
        for at, line in enumerate(self.lines):
            row = line.view.row
            made.add_row(
                cell(line.stream), cell(row.group or "(no group)") + (" [yellow]paused[/]" if line.paused else ""),
                number(row.total("waiting")), span(line.oldest) if line.oldest else "", number(row.total("processing")),
                number(row.total("retrying")), number(row.dead, style="red"), f"{line.view.rate:.1f}",
                number(line.view.workers), style="reverse" if at == self.chosen else "",
            )  # fmt: skip
        return made

    def _letters(self) -> Table:
        made = table("EVENT", "TYPE", "REASON", ">ATTEMPTS", "DIED", "ERROR")
        for at, letter in enumerate(self.letters or ()):
            made.add_row(
                cell(masked(letter.event_id or letter.id)), cell(masked(letter.type)), letter.reason,
                number(letter.attempts), moment(letter.died_at), cell(letter.last_error),
                style="reverse" if at == self.at else "",
            )  # fmt: skip
        return made

    def _where(self) -> str:
        return "/".join(self._place(self.line)) if self.line is not None else ""

    @staticmethod
    def _place(line: Line) -> tuple[str, str]:
        return line.stream, line.view.row.group
