"""Draws docs/assets/states.svg: the states of an entry and the transitions between them.

    python docs/tooling/states.py

The picture has no colours of its own for text and lines (``currentColor``): as a file it follows the reader's system,
in the site, which puts it into the page, it follows the page.
"""

from __future__ import annotations

from pathlib import Path

TARGET = Path(__file__).parents[1] / "assets" / "states.svg"
WIDTH, HEIGHT = 900, 400
BOX = (140, 56)
STATES = {
    "scheduled": (100, 110, "#8e7cc3", "in the schedule"),
    "pending": (330, 110, "#4a86c8", "on the stream"),
    "processing": (560, 110, "#3d9a50", "with one consumer"),
    "retrying": (560, 290, "#c98a1b", "due at its time"),
    "dead": (800, 290, "#c0504d", "a dead letter"),
    "done": (800, 110, "#7a869a", "nothing is kept"),
}
ARROWS = (
    # points, label, place of the label, its anchor
    ([(100, 20), (100, 80)], "publish with a delay", (112, 34), "start"),
    ([(330, 20), (330, 80)], "publish", (342, 34), "start"),
    ([(172, 110), (258, 110)], "promote", (215, 100), "middle"),
    ([(402, 110), (488, 110)], "fetch", (445, 100), "middle"),
    ([(632, 110), (728, 110)], "ack", (680, 100), "middle"),
    ([(535, 140), (535, 260)], "retry, snooze,\nrelease, reclaim", (525, 196), "end"),
    ([(585, 260), (585, 140)], "fetch,\nwhen due", (596, 196), "start"),
    ([(632, 132), (770, 260)], "dead_letter", (716, 190), "start"),
    ([(830, 260), (830, 140)], "discard", (840, 205), "start"),
    ([(800, 320), (800, 372), (330, 372), (330, 140)], "replay", (560, 362), "middle"),
)


def _text(x: float, y: float, text: str, kind: str, anchor: str = "middle") -> str:
    lines = "".join(
        f'<tspan x="{x}" dy="{0 if number == 0 else 17}">{line}</tspan>'
        for number, line in enumerate(text.split("\n"))
    )
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{lines}</text>'


def draw() -> str:
    """The picture as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" class="states"'
        ' font-family="system-ui, sans-serif" aria-labelledby="states-title">',
        '<title id="states-title">The states of an entry and the transitions between them</title>',
        "<style>svg.states{color:#24292f}@media (prefers-color-scheme:dark){svg.states{color:#e6e9f0}}</style>",
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 10 5 0 10z" fill="currentColor"/></marker></defs>',
    ]
    for points, label, (x, y), anchor in ARROWS:
        path = " ".join(f"{x} {y}" for x, y in points)
        parts.append(
            f'<path d="M{path}" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linejoin="round"'
            ' marker-end="url(#tip)"/>'
        )
        parts.append(
            _text(x, y, label, "label", anchor).replace(
                "<text ", '<text font-size="14" fill="currentColor" '
            )
        )
    width, height = BOX
    for name, (x, y, colour, note) in STATES.items():
        parts.append(
            f'<rect x="{x - width / 2}" y="{y - height / 2}" width="{width}" height="{height}" rx="10"'
            f' fill="{colour}" fill-opacity="0.16" stroke="{colour}" stroke-width="2"/>'
        )
        parts.append(
            _text(x, y - 3, name, "state").replace(
                "<text ", '<text font-size="17" font-weight="600" fill="currentColor" '
            )
        )
        parts.append(
            _text(x, y + 17, note, "note").replace(
                "<text ", '<text font-size="12" fill="currentColor" '
            )
        )
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(draw(), "utf-8")
