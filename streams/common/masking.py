"""Masking: numbers that could be a person's are hidden, numbers that operators need stay.

Hidden is every number of eight digits or more, however it is written: phone numbers, cards, documents. What stays has a
shape that no such number has: addresses, times, durations, the ids of entries and events, UUIDs, and hashes, such as
that of a script in a server's error. Where a text could be both, it is hidden.
"""

from __future__ import annotations

import re

_MAX_MESSAGE = 300
_DASHES = "\u2010-\u2015\u2212-"
_LONG_NUMBER = re.compile(rf"\d(?:[\s().{_DASHES}]{{0,3}}\d){{7,}}")
_NUMBER_AT_END = re.compile(rf"[\d\s().{_DASHES}]+\Z")

ENTRY_ID = r"(?<![\w.|+-])(?:-?[0-9]{1,7}\|)?1[5-9][0-9]{11}-[0-9]{1,6}(?![\w-])"
"""An entry, with or without its level: milliseconds of 2017 to 2033, as no phone number begins."""

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_DAY = r"(?:19|20|21)[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_CLOCK = r"(?:[01]?[0-9]|2[0-4]):[0-5][0-9](?::[0-6][0-9](?:[.,][0-9]{1,9})?)?"
_ZONE = r"(?: ?(?:Z|UTC)\b|[+-][0-9]{2}:?[0-9]{2}(?![0-9]))"
_HEX = "[0-9a-fA-F]"
_KEPT = {
    "entry": ENTRY_ID,
    "uuid": rf"(?<![0-9a-fA-F+])(?<![0-9]-){_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}(?![\w-])",
    "hex": rf"(?<![\w+-])(?=[0-9]*[a-fA-F]){_HEX}{{32}}(?![\w-])",
    "hash": rf"(?<![\w+-])(?:f_)?(?=(?:[0-9]*[a-fA-F]){{4}}){_HEX}{{40}}(?:{_HEX}{{24}})?(?![\w-])",
    "event": r"(?<![\w+-])(?=[0-9]{0,15}[a-f])[0-9a-f]{16}-[0-9a-f]{1,8}(?![\w-])",
    "time": rf"(?<![\d+.])(?<!\d-){_DAY}(?:[T _]{_CLOCK}{_ZONE}?)?(?![\w-]|\.[0-9])",
    "compact": r"(?<![\w+.-])(?:19|20|21)[0-9]{2}[01][0-9][0-3][0-9]T[0-9]{6}(?:\.[0-9]{1,9})?Z?(?![\w-])",
    "clock": rf"(?<![\w+.:-])(?:[0-9]{{1,2}}):[0-5][0-9]:[0-6][0-9](?:[.,][0-9]{{1,9}})?{_ZONE}?(?![\w:-]|\.[0-9])",
    "v6": rf"(?<![\w:.+-])(?:{_HEX}{{0,4}}:){{2,7}}(?:{_OCTET}(?:\.{_OCTET}){{3}}|{_HEX}{{0,4}})(?![\w:]|\.[0-9])",
    "v4": rf"(?<![\w.+-]){_OCTET}(?:\.{_OCTET}){{3}}(?::[0-9]{{1,5}}|/[0-9]{{1,2}})?(?![\w-]|\.[0-9])",
    "host": rf"(?<![\w-])ip-{_OCTET}(?:-{_OCTET}){{3}}(?![\w-])",
    "float": r"(?<![\w.+])(?:0\.[0-9]{1,24}|[0-9]{1,7}\.(?=[0-9]{9})[0-9]+|[0-9]{1,3}\.[0-9]+(?=e[+-]?[0-9]))"
    r"(?:e[+-]?[0-9]{1,3})?(?![\w-]|\.[0-9])",
    "unix": r"(?<![\w.+-])1[5-9][0-9]{8}\.[0-9]*[1-9][0-9]*(?![\w-]|\.[0-9])",
}
_KEEP = re.compile(
    "|".join(f"(?P<{name}>{pattern})" for name, pattern in _KEPT.items())
)
_COUNTRY_BEFORE = re.compile(rf"\+[0-9]{{1,3}}[\s().{_DASHES}]{{0,3}}\Z")
_LONG_FLOAT, _LONG_FRACTION = 15, 12
"""Digits in all and behind the point, as no phone number with a single point has them; durations mostly do."""
_SHORT_DECIMAL = re.compile(
    r"[0-9]{1,7}\.(?:[0-9]{1,3}|[0-9]{5,7})|[0-9]\.(?:[0-9]{8,9}|[0-9]{11})"
)
_UNIT = re.compile(
    r" ?(?:s|ms|us|µs|ns|sec|secs|seconds?|milliseconds?|minutes?|hours?|%)(?!\w)"
)
_DECIMAL = re.compile(r"[0-9]{1,7}\.[0-9]+")


def masked(text: str, limit: int = _MAX_MESSAGE) -> str:
    """One printable line of at most ``limit`` characters in which every number that could be a person's is masked.

    Phone numbers and the like reach exception texts easily; these texts are stored, logged and shown.
    """
    line = one_line(text, 4 * limit)
    if len(text) > 4 * limit:
        # The start of a number that is cut here would not look like one.
        line = _NUMBER_AT_END.sub("", line[:-1])
    return one_line(without_numbers(line), limit)


def without_numbers(text: str) -> str:
    """The same text, of any length and number of lines, with those numbers masked."""
    if _LONG_NUMBER.search(text) is None:
        return text
    parts, at = [], 0
    for found in _KEEP.finditer(text):
        if _is_kept(found, text):
            parts += [_LONG_NUMBER.sub(_hide, text[at : found.start()]), found.group()]
            at = found.end()
    return "".join([*parts, _LONG_NUMBER.sub(_hide, text[at:])])


def one_line(text: str, limit: int = _MAX_MESSAGE) -> str:
    """One printable line of at most ``limit`` characters."""
    line = "".join(c if c.isprintable() else " " for c in text[: limit + 1])
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _is_kept(found: re.Match[str], text: str) -> bool:
    """Whether what has such a shape is that, where the shape alone does not say it."""
    kind, shape = found.lastgroup, found.group()
    if kind in ("v4", "time", "float"):
        # A country's code before it makes it the rest of a phone number.
        before = text[max(0, found.start() - 8) : found.start()]
        if _COUNTRY_BEFORE.search(before):
            return False
    if kind == "float":
        whole, _, fraction = shape.partition(".")
        long = (
            len(whole) + len(fraction) >= _LONG_FLOAT or len(fraction) >= _LONG_FRACTION
        )
        return shape.startswith("0.") or "e" in shape or long
    return True


def _hide(found: re.Match[str]) -> str:
    number = found.group()
    if _SHORT_DECIMAL.fullmatch(number) and not number.endswith(".0"):
        # With a single point and such a fraction no phone number is written.
        return number
    if _DECIMAL.fullmatch(number) and _UNIT.match(found.string, found.end()):
        return number
    return "*" * 6 + number[-2:]
