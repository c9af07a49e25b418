"""A picture of ``results/peers.json``: ``python -m benchmarks.picture`` writes ``docs/assets/peers.svg``.

Bars on a logarithmic scale, one colour per measurement, the figure beside each bar; readable on light and dark pages.
"""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TARGET = HERE.parent / "docs" / "assets" / "peers.svg"
KINDS = (
    ("drain", "handled per second, one worker", "#0072b2"),
    ("bulk", "published in bulk per second", "#e69f00"),
)
"""Measurement, its name, and a colour of the palette that colour-blind readers can tell apart."""
_LEFT, _WIDTH, _BAR, _GAP, _TOP = 150, 520, 13, 12, 58
_LOW, _HIGH = 100, 1_000_000


def medians(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Project to measurement to the median rate of the rounds, the fastest drain first."""
    rounds = results["rounds"]
    found = {
        peer: {
            kind: statistics.median(each[peer][kind]["rate"] for each in rounds)
            for kind, _, _ in KINDS
        }
        for peer in rounds[0]
    }
    return dict(sorted(found.items(), key=lambda row: -row[1]["drain"]))


def picture(results: dict[str, Any]) -> str:
    """The SVG."""
    rows = medians(results)
    step = len(KINDS) * _BAR + _GAP
    height = _TOP + len(rows) * step + 34
    about = results["about"]
    title = f"{about['server']}, Python {about['python']}, {about['cores']} cores, {about['date']}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 90} {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#7f7f7f">',
        f"<title>Events per second, by project: {title}</title>",
    ]
    for at, (_, name, colour) in enumerate(KINDS):
        x = _LEFT + at * 250
        parts.append(
            f'<rect x="{x}" y="10" width="12" height="12" fill="{colour}"/><text x="{x + 18}" y="20">{name}</text>'
        )
    for power in range(int(math.log10(_LOW)), int(math.log10(_HIGH)) + 1):
        x = _LEFT + _length(10**power)
        parts.append(
            f'<line x1="{x:.0f}" y1="{_TOP - 8}" x2="{x:.0f}" y2="{height - 26}" stroke="#7f7f7f" '
            'stroke-opacity=".25"/>'
            f'<text x="{x:.0f}" y="{_TOP - 14}" text-anchor="middle">{10**power:,}</text>'
        )
    for row, (peer, rates) in enumerate(rows.items()):
        y = _TOP + row * step
        weight = ' font-weight="bold"' if peer == "streams" else ""
        parts.append(
            f'<text x="{_LEFT - 10}" y="{y + _BAR + 4}" text-anchor="end"{weight}>{peer}</text>'
        )
        for at, (kind, _, colour) in enumerate(KINDS):
            top, long = y + at * _BAR, _length(rates[kind])
            parts.append(
                f'<rect x="{_LEFT}" y="{top}" width="{long:.0f}" height="{_BAR - 2}" fill="{colour}"/>'
                f'<text x="{_LEFT + long + 6:.0f}" y="{top + 10}" font-size="11"{weight}>{rates[kind]:,.0f}</text>'
            )
    parts.append(
        f'<text x="{_LEFT}" y="{height - 8}" font-size="11">logarithmic; {title}</text></svg>'
    )
    return "\n".join(parts) + "\n"


def _length(rate: float) -> float:
    share = (math.log10(max(rate, _LOW)) - math.log10(_LOW)) / (
        math.log10(_HIGH) - math.log10(_LOW)
    )
    return max(1.0, share * _WIDTH)


def main() -> None:
    results = json.loads((HERE / "results" / "peers.json").read_text("utf-8"))
    TARGET.write_text(picture(results), "utf-8")
    print(TARGET)


if __name__ == "__main__":
    main()
