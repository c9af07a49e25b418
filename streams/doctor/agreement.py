"""Judging whether the workers of a group were declared alike. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from streams.doctor.finding import Bounds, Finding, Severity

_ALIVE = 60.0
"""Seconds since a worker wrote down how it was declared, up to which it counts: it does so every ten."""
_NAMED = 2


def judge_agreement(
    stream: str,
    group: str,
    workers: Mapping[str, Mapping[str, Any]],
    now: float,
    bounds: Bounds,
) -> Iterator[Finding]:
    """Whether living workers of a group differ in what they should have in common.

    While a deployment goes on they do, so it is a warning only when none has started lately.

    Args:
        stream: of the group.
        group: whose workers these are.
        workers: what each wrote down, by name.
        now: the server's Unix time.
        bounds: ``deployment`` says for how long workers may differ.
    """
    alive = {
        name: said
        for name, said in sorted(workers.items())
        if now - float(said.get("at", 0.0)) <= _ALIVE
    }
    declared = {name: _declared(said) for name, said in alive.items()}
    parts = dict.fromkeys(part for words in declared.values() for part in words)
    differences = [text for part in parts if (text := _difference(part, declared))]
    if not differences:
        return
    youngest = min(now - float(said.get("since", 0.0)) for said in alive.values())
    late = youngest > bounds.deployment
    severity: Severity = "warning" if late else "info"
    what = f"{len(alive)} workers differ in {'; in '.join(differences)}. The last one started {_span(youngest)} ago"
    todo = (
        "start the workers anew with one declaration; what may differ, and for how long, is in docs/workers.md"
        if late
        else "nothing, while a deployment goes on"
    )
    yield Finding("workers-disagree", severity, f"{stream}/{group}", what, todo)


def _declared(said: Mapping[str, Any]) -> dict[str, str]:
    """How one was declared, with its version; a version before says less."""
    words = said.get("declared")
    found = (
        {str(part): str(value) for part, value in words.items()}
        if isinstance(words, dict)
        else {}
    )
    return found | ({"version": str(said["version"])} if "version" in said else {})


def _difference(part: str, declared: Mapping[str, Mapping[str, str]]) -> str:
    """Who has what of one part, if not all that say so have the same; ''."""
    names: dict[str, list[str]] = {}
    for name, words in declared.items():
        if part in words:
            names.setdefault(words[part], []).append(name)
    if len(names) < 2:
        return ""
    return f"{part}: " + ", ".join(
        f"{value or 'none'} on {_listed(who)}" for value, who in sorted(names.items())
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return " and ".join(names) if not more else ", ".join(names[:_NAMED]) + more


def _span(seconds: float) -> str:
    return f"{round(seconds)} s" if seconds < 120 else f"{round(seconds / 60)} min"
