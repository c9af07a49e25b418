"""Masking: hide personal numbers in texts, and keep the numbers that operators need.

Every number of eight digits or more is hidden, in any notation: phone numbers, cards,
documents. A number is kept if its shape is different from all of these: addresses, times,
durations, ids of entries and events, UUIDs, and hashes, such as that of a script in a
server's error. An ambiguous number is hidden.
"""

from __future__ import annotations

import re

_MAX_MESSAGE = 300
_DASHES = "\u2010-\u2015\u2212-"
_LONG_NUMBER = re.compile(rf"\d(?:[\s().{_DASHES}]{{0,3}}\d){{7,}}")
_NUMBER_AT_END = re.compile(rf"(?<![\d\s().{_DASHES}])[\d\s().{_DASHES}]+\Z")

ENTRY_ID = r"(?<![\w.|+-])(?:-?[0-9]{1,7}\|)?1[5-9][0-9]{11}-[0-9]{1,6}(?![\w-])"
"""An entry id, with or without its level.

It begins with the milliseconds of 2017 to 2033, and no phone number begins like that.
"""

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_DAY = r"(?:19|20|21)[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_CLOCK = r"(?:[01]?[0-9]|2[0-4]):[0-5][0-9](?::[0-6][0-9](?:[.,][0-9]{1,9})?)?"
_ZONE = r"(?: ?(?:Z|UTC)\b|[+-][0-9]{2}:?[0-9]{2}(?![0-9]))"
_HEX = "[0-9a-fA-F]"
_END = r"(?![\w-])"
_END_OF_NUMBER = r"(?![\w-]|\.[0-9])"
_FRACTION = r"(?:[.,][0-9]{1,9})?"
_IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_KEPT = {
    "entry": ENTRY_ID,
    "uuid": rf"(?<![0-9a-fA-F+])(?<![0-9]-){_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}"
    + _END,
    "hex": rf"(?<![\w+-])(?=[0-9]*[a-fA-F]){_HEX}{{32}}{_END}",
    "hash": r"(?<![\w+-])(?:f_)?(?=(?:[0-9]*[a-fA-F]){4})"
    rf"{_HEX}{{40}}(?:{_HEX}{{24}})?{_END}",
    "event": rf"(?<![\w+-])(?=[0-9]{{0,15}}[a-f])[0-9a-f]{{16}}-[0-9a-f]{{1,8}}{_END}",
    "time": rf"(?<![\d+.])(?<!\d-){_DAY}(?:[T _]{_CLOCK}{_ZONE}?)?{_END_OF_NUMBER}",
    "compact": r"(?<![\w+.-])(?:19|20|21)[0-9]{2}[01][0-9][0-3][0-9]T[0-9]{6}"
    rf"(?:\.[0-9]{{1,9}})?Z?{_END}",
    "clock": rf"(?<![\w+.:-])(?:[0-9]{{1,2}}):[0-5][0-9]:[0-6][0-9]{_FRACTION}{_ZONE}?"
    r"(?![\w:-]|\.[0-9])",
    "v6": rf"(?<![\w:.+-])(?:{_HEX}{{0,4}}:){{2,7}}(?:{_IPV4}|{_HEX}{{0,4}})"
    r"(?![\w:]|\.[0-9])",
    "v4": rf"(?<![\w.+-]){_IPV4}(?::[0-9]{{1,5}}|/[0-9]{{1,2}})?{_END_OF_NUMBER}",
    "host": rf"(?<![\w-])ip-{_OCTET}(?:-{_OCTET}){{3}}{_END}",
    "float": r"(?<![\w.+])(?:0\.[0-9]{1,24}|[0-9]{1,7}\.(?=[0-9]{9})[0-9]+|"
    r"[0-9]{1,3}\.[0-9]+(?=e[+-]?[0-9]))(?:e[+-]?[0-9]{1,3})?" + _END_OF_NUMBER,
    "unix": r"(?<![\w.+-])1[5-9][0-9]{8}\.0*[1-9][0-9]*" + _END_OF_NUMBER,
}
_KEEP = re.compile("|".join(f"(?P<{name}>{_KEPT[name]})" for name in _KEPT))
_COUNTRY_BEFORE = re.compile(rf"\+[0-9]{{1,3}}[\s().{_DASHES}]{{0,3}}\Z")
_LONG_FLOAT, _LONG_FRACTION = 15, 12
"""Digits in total and behind the point that no phone number with one point has."""
_SHORT_DECIMAL = re.compile(
    r"[0-9]{1,7}\.(?:[0-9]{1,3}|[0-9]{5,7})|[0-9]\.(?:[0-9]{8,9}|[0-9]{11})"
)
_UNIT = re.compile(
    r" ?(?:s|ms|us|µs|ns|sec|secs|seconds?|milliseconds?|minutes?|hours?|%)(?!\w)"
)
_DECIMAL = re.compile(r"[0-9]{1,7}\.[0-9]+")


def masked(text: str, limit: int = _MAX_MESSAGE) -> str:
    """One printable line of at most ``limit`` characters with personal numbers masked.

    Exception texts often quote phone numbers, and they are stored, logged and shown.
    """
    line = one_line(text, 4 * limit)
    if len(text) > 4 * limit:
        # A number that is cut in two would not be recognized.
        line = _NUMBER_AT_END.sub("", line[:-1])

    return one_line(without_numbers(line), limit)


def without_numbers(text: str) -> str:
    """The same text, of any length and number of lines, with personal numbers masked."""
    if _LONG_NUMBER.search(text) is None:
        return text

    result = ""
    at = 0
    for found in _KEEP.finditer(text):
        if _is_kept(found, text):
            result += _LONG_NUMBER.sub(_hide, text[at : found.start()])
            result += found.group()
            at = found.end()

    return result + _LONG_NUMBER.sub(_hide, text[at:])


def one_line(text: str, limit: int = _MAX_MESSAGE) -> str:
    """One printable line of at most ``limit`` characters."""
    line = text[: limit + 1]
    if not line.isprintable():
        line = "".join(c if c.isprintable() else " " for c in line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _is_kept(found: re.Match[str], text: str) -> bool:
    """Whether a match is kept, if its shape alone is ambiguous."""
    kind, shape = found.lastgroup, found.group()
    if kind in ("v4", "time", "float"):
        # Behind a country code it is the rest of a phone number.
        before = text[max(0, found.start() - 8) : found.start()]
        if _COUNTRY_BEFORE.search(before):
            return False

    if kind != "float" or shape.startswith("0.") or "e" in shape:
        return True

    whole, _, fraction = shape.partition(".")
    if len(fraction) >= _LONG_FRACTION:
        return True
    return len(whole) + len(fraction) >= _LONG_FLOAT


def _hide(found: re.Match[str]) -> str:
    number = found.group()
    if _SHORT_DECIMAL.fullmatch(number) and not number.endswith(".0"):
        # No phone number has a single point and such a fraction.
        return number
    if _DECIMAL.fullmatch(number) and _UNIT.match(found.string, found.end()):
        return number
    return f"******{number[-2:]}"
