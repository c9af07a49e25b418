"""Keys as a terminal sends them: an arrow is several characters, and many come at once."""

from __future__ import annotations

import re

_NAMED = {
    "\x1b[A": "k",
    "\x1b[B": "j",
    "\x1bOA": "k",
    "\x1bOB": "j",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1b[F": "end",
    "\x1bOH": "home",
    "\x1bOF": "end",
    "\x1b[1~": "home",
    "\x1b[4~": "end",
}
_KEY = re.compile(
    r"\x1b\[\[[A-E]|\x1b\[[0-?]*[ -/]*[@-~]|\x1bO[ -~]|\x1b[^\x1b\[O]|[^\x1b]",
    re.DOTALL,
)
"""A function key of the Linux console, a control sequence, a key of the application's
keypad, Alt with a key, or a key."""
_PART = re.compile(r"\x1b(?:\[\[?[0-?]*[ -/]*|O)?")
ESCAPE = "escape"


class KeyReader:
    """Makes keys of what is read; a sequence whose rest is not there yet waits for it.

    Keys that mean nothing here are '': the characters inside of their sequences are no
    keys.
    """

    def __init__(self) -> None:
        self._left = ""

    @property
    def waits(self) -> bool:
        """Whether the beginning of a sequence is here, and not its end."""
        return bool(self._left)

    def feed(self, text: str) -> list[str]:
        """The keys that are complete."""
        text, keys, at = self._left + text, [], 0
        self._left = ""
        while at < len(text):
            part = _PART.match(text, at)
            if part is not None and part.end() == len(text):
                self._left = text[at:]
                break
            found = _KEY.match(text, at)
            if found is None:
                keys.append(ESCAPE)  # Two in a row: the first stands for itself.
                at += 1
                continue
            key = found[0]
            keys.append(_NAMED.get(key, "") if key.startswith("\x1b") else key)
            at = found.end()
        return keys

    def give_up(self) -> list[str]:
        """Give out the key Escape, if nothing but its character came."""
        left, self._left = self._left, ""
        return [ESCAPE] if left == "\x1b" else []
