"""Compares what a page shows with what came out.

Pages show real output. What differs from run to run (times, ids, process names, widths of columns) is made equal on
both sides; everything else must be the same. A line ``...`` stands for any lines, ``...`` inside a line for any text.
An id that a page shows stands, from there on, for the id that came out in its place: a page may go on with it in its
next command.
"""

from __future__ import annotations

import re

_ID = re.compile(r"\b(?:\d{13}-\d+|[0-9a-f]{16}-\d+)\b")
_VARYING = (
    (re.compile(r"\x1b\[[0-9;]*m"), ""),
    (
        re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?"),
        "<time>",
    ),
    (re.compile(r"\b\d\d:\d\d:\d\d(?:\.\d+)?\b"), "<time>"),
    (re.compile(r"\b(worker|consumer|server)=\S+"), r"\1=<name>"),
    (re.compile(r"\b[A-Za-z0-9][\w.]*(?:-[\w.]+)*-\d+-[0-9a-f]{8}\b"), "<name>"),
    (
        re.compile(
            r"\b(delay|seconds|waited|silent|took|at|first|last|pid)=\d+(?:\.\d+)?\b"
        ),
        r"\1=<number>",
    ),
    (re.compile(r"\(\d[\d,]*/s\)"), "<rate>"),
    (re.compile(r"\b\d+(?:\.\d+)? ?(?:ms|s)\b"), "<seconds>"),
    (re.compile(r"(?:/private)?/tmp/[\w./-]+"), "<path>"),
    (re.compile(r"[─━═-]{3,}"), "<rule>"),
    (re.compile(r"[ \t]+"), " "),
)
_MARK = re.compile(r"\x00(\d+)\x00")


def normalised(text: str, ids: list[str]) -> list[str]:
    """The lines of a text with everything that varies replaced; the ids are appended to the list."""

    def mark(found: re.Match[str]) -> str:
        ids.append(found[0])
        return f"\0{len(ids) - 1}\0"

    lines = []
    for line in text.strip("\n").splitlines():
        line = _ID.sub(mark, line)
        for pattern, replacement in _VARYING:
            line = pattern.sub(replacement, line)
        lines.append(line.strip())
    return lines


def _pattern(lines: list[str]) -> str:
    parts = []
    for line in lines:
        if line in ("...", "…"):
            parts.append(r"(?:.*\n)*?")
        else:
            pieces = [_MARK.sub("\0", piece) for piece in re.split(r"\.\.\.|…", line)]
            escaped = [
                re.escape(piece).replace("\\\0", "\0").replace("\0", "\0(\\d+)\0")
                for piece in pieces
            ]
            parts.append(".*".join(escaped) + r"\n")
    return "".join(parts)


class Shown:
    """What a page shows.

    Attributes:
        ids: after ``match``, each id that the page shows, with the one that came out in its place.
    """

    def __init__(self, text: str) -> None:
        self._expected: list[str] = []
        self._pattern = _pattern(normalised(text, self._expected))
        self.ids: dict[str, str] = {}

    def match(self, output: str, *, after: int = 0, whole: bool = True) -> int | None:
        """Compare with output from the line ``after`` on; the number of the line behind the match, or None.

        Unless ``whole``, further lines may follow.
        """
        ids: list[str] = []
        text = "".join(line + "\n" for line in normalised(output, ids)[after:])
        found = (
            re.fullmatch(self._pattern, text)
            if whole
            else re.match(self._pattern, text)
        )
        if found is None:
            return None
        self.ids = {
            shown: ids[int(number)]
            for shown, number in zip(self._expected, found.groups(), strict=True)
        }
        return after + found[0].count("\n")


def matches(expected: str, output: str) -> bool:
    """Whether the output is, from beginning to end, what the page shows."""
    return Shown(expected).match(output) is not None
