"""Judge whether the workers of a group have the same declaration. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from streams.doctor.finding import Bounds, Finding, Severity

_ALIVE = 60.0
"""Seconds for which a worker's note counts; it writes one every ten."""
_NAMED = 2


def judge_agreement(
    stream: str,
    group: str,
    workers: Mapping[str, Mapping[str, Any]],
    now: float,
    bounds: Bounds,
) -> Iterator[Finding]:
    """Report living workers of a group with different declarations.

    During a deployment they do differ, so it is a warning only when no worker started lately.

    Args:
        stream: of the group.
        group: whose workers these are.
        workers: the last note of each, by name.
        now: the server's Unix time.
        bounds: ``deployment`` says for how long workers may differ.
    """
    declared: dict[str, dict[str, str]] = {}
    ages = []

    for name, note in sorted(workers.items()):
        if now - float(note.get("at", 0.0)) <= _ALIVE:
            declared[name] = _declared(note)
            ages.append(now - float(note.get("since", 0.0)))

    parts: dict[str, None] = {}
    for words in declared.values():
        parts |= dict.fromkeys(words)

    differences = list(filter(None, (_difference(part, declared) for part in parts)))
    if not differences:
        return

    youngest = min(ages)
    severity: Severity = "info"
    todo = "nothing, while a deployment goes on"

    if youngest > bounds.deployment:
        severity = "warning"
        todo = (
            "start the workers anew with one declaration; what may differ, and for how long,"
            " is in docs/workers.md"
        )

    what = (
        f"{len(declared)} workers differ in {'; in '.join(differences)}."
        f" The last one started {_span(youngest)} ago"
    )
    yield Finding("workers-disagree", severity, f"{stream}/{group}", what, todo)


def _declared(note: Mapping[str, Any]) -> dict[str, str]:
    """The declaration in a worker's note, with its version; notes of old versions have less."""
    found: dict[str, str] = {}
    words = note.get("declared")
    if isinstance(words, dict):
        found = {str(part): str(value) for part, value in words.items()}
    if "version" in note:
        found["version"] = str(note["version"])

    return found


def _difference(part: str, declared: Mapping[str, Mapping[str, str]]) -> str:
    """The values of one part and the workers that have them; '' if all have the same."""
    names: dict[str, list[str]] = {}
    for name, words in declared.items():
        if part in words:
            names.setdefault(words[part], []).append(name)

    if len(names) < 2:
        return ""

    texts = []
    for value, workers in sorted(names.items()):
        texts.append(f"{value or 'none'} on {_listed(workers)}")

    return f"{part}: {', '.join(texts)}"


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    if more <= 0:
        return " and ".join(names)

    return f"{', '.join(names[:_NAMED])} and {more} more"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{round(seconds)} s"

    return f"{round(seconds / 60)} min"
