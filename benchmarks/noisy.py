"""A campaign and two small tenants on one worker: ``python -m benchmarks.noisy`` measures starts and draws them.

Writes ``docs/assets/noisy-{none,fair,limited}.svg`` and prints how long the small tenants waited.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

from benchmarks.stage import label, stage
from streams import Broker, Consumer, ConsumerOptions, Event, Lanes, Limit, Producer
from streams.handlers.routes import Route, Router

TARGET = Path(__file__).parents[1] / "docs" / "assets"
FAIR = Lanes(fair_by=("tenant",))
CASES: dict[str, tuple[str, Lanes, list[Limit]]] = {
    "none": ("first come, first served", Lanes(), []),
    "fair": ("in turns", FAIR, []),
    "limited": (
        "in turns, 200/s each",
        FAIR,
        [Limit("tenant", rate="200/s", burst=20)],
    ),
}
TENANTS = {"campaign": "#d55e00", "bakery": "#0072b2", "dentist": "#009e73"}
"""Colours of the palette that colour-blind readers can tell apart."""
CAMPAIGN, SLOTS, WORK, EVERY, LONG = 2000, 10, 0.02, 0.15, 6.0
"""Messages of the campaign, slots; seconds of work, between messages of a small tenant, and of publishing."""
_BEFORE = 8
"""Messages of the small tenants before the campaign."""
_LEFT, _WIDTH, _ROW, _TOP = 90, 600, 46, 30
Starts = list[tuple[float, str, float]]
"""When, whose, and how long after it was published; seconds."""


async def run(url: str, lanes: Lanes, limits: list[Limit]) -> Starts:
    """The starts of one case."""
    starts: Starts = []

    async def handle(event: Event) -> None:
        now = time.perf_counter()
        starts.append((now - begin, event.tenant or "", now - event.data))
        await asyncio.sleep(WORK)

    async with Broker(url) as broker:
        route = Route(handle, limits=limits)
        consumer = Consumer(
            broker,
            "s",
            "g",
            Router([route]),
            ConsumerOptions(concurrency=SLOTS, lanes=lanes),
        )
        running = asyncio.create_task(consumer.run())
        producer = Producer(broker, "s")
        begin, sent = time.perf_counter(), 0
        while time.perf_counter() - begin < LONG:
            for tenant in ("bakery", "dentist"):
                await producer.publish(
                    Event("message", time.perf_counter(), tenant=tenant)
                )
                sent += 1
            if sent == _BEFORE:
                now = time.perf_counter()
                await producer.publish_many(
                    Event("message", now, tenant="campaign") for _ in range(CAMPAIGN)
                )
                sent += CAMPAIGN
            await asyncio.sleep(EVERY)
        while len(starts) < sent:  # noqa: ASYNC110 - nothing tells when the last one has started
            await asyncio.sleep(0.02)
        consumer.stop()
        await running
    return starts


def picture(title: str, starts: Starts, seconds: float) -> str:
    """The SVG: a row per tenant, a dot per start."""
    height = _TOP + len(TENANTS) * _ROW + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 30} {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#7f7f7f">',
        f"<title>Starts over time per tenant, {title}</title>",
        f'<text x="{_LEFT}" y="16">{title}: each dot is a start</text>',
    ]
    for second in range(int(seconds) + 1):
        x = _LEFT + second / seconds * _WIDTH
        parts.append(
            f'<line x1="{x:.0f}" y1="{_TOP}" x2="{x:.0f}" y2="{height - 34}" stroke="#7f7f7f" stroke-opacity=".25"/>'
            f'<text x="{x:.0f}" y="{height - 18}" text-anchor="middle">{second} s</text>'
        )
    for row, (tenant, colour) in enumerate(TENANTS.items()):
        y = _TOP + row * _ROW
        parts.append(
            f'<text x="{_LEFT - 10}" y="{y + _ROW / 2 + 4}" text-anchor="end">{tenant}</text>'
        )
        for number, at in enumerate(at for at, whose, _ in starts if whose == tenant):
            # Spread over the row, so that dots of the same moment do not hide each other.
            spread = (number * 7 % 12) * 2.6 if tenant == "campaign" else 14
            radius = 1.1 if tenant == "campaign" else 2.6
            x = _LEFT + at / seconds * _WIDTH
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y + 8 + spread:.1f}" r="{radius}" fill="{colour}"/>'
            )
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    found: dict[str, Starts] = {}
    with stage() as place:
        print(label(place))
        for name, (_, lanes, limits) in CASES.items():
            place.clear()
            found[name] = asyncio.run(run(place.url, lanes, limits))
    seconds = max(at for starts in found.values() for at, _, _ in starts)
    for name, (title, _, _) in CASES.items():
        (TARGET / f"noisy-{name}.svg").write_text(
            picture(title, found[name], seconds), "utf-8"
        )
        waits = [late for _, whose, late in found[name] if whose != "campaign"]
        print(
            f"| {title} | {statistics.median(waits) * 1000:,.0f} ms | {max(waits) * 1000:,.0f} ms |"
        )


if __name__ == "__main__":
    main()
