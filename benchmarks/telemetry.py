"""What telemetry costs per event: ``python benchmarks/telemetry.py [N] [rounds]``.

One process publishes N events one after the other and handles them, with telemetry off and switched on in different
ways, in turn, on one server. The figure is its CPU time per event, the least of all rounds: the server is another
process.
"""

from __future__ import annotations

import asyncio
import sys
import time

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    Sampler,
    TraceIdRatioBased,
)

from streams import Event, Pipeline
from streams.telemetry import Exported, instrument


class Nowhere(SpanExporter):
    """Takes spans and forgets them."""

    def export(self, spans: object) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def with_sdk(sampler: Sampler) -> Exported:
    tracers = TracerProvider(sampler=sampler)
    tracers.add_span_processor(BatchSpanProcessor(Nowhere()))
    return Exported(tracers, MeterProvider([InMemoryMetricReader()]))


def only_metrics() -> Exported:
    return Exported(None, MeterProvider([InMemoryMetricReader()]))


KINDS = {
    "off": None,
    "on, without an SDK": lambda: None,
    "metrics": only_metrics,
    "metrics and spans, none sampled": lambda: with_sdk(ALWAYS_OFF),
    "metrics and spans, 1 % sampled": lambda: with_sdk(
        ParentBased(TraceIdRatioBased(0.01))
    ),
    "metrics and spans, all sampled": lambda: with_sdk(ALWAYS_ON),
}


async def run(url: str, stream: str, count: int, kind: str) -> float:
    """Microseconds of this process per event."""
    pipeline, make = Pipeline(url), KINDS[kind]
    if make is not None:
        instrument(pipeline, make())
    left, done = count, asyncio.Event()

    @pipeline.handler(stream, group="g")
    async def handle(event: Event) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    async with pipeline:
        service = pipeline.service(pipeline.plans)
        started = time.process_time()
        running = asyncio.create_task(service.run())
        for at in range(0, count, 100):
            await asyncio.gather(
                *(pipeline.publish(stream, {"n": at + n}, type="t") for n in range(100))
            )
        await done.wait()
        spent = time.process_time() - started
        service.stop()
        await running
    return spent / count * 1e6


async def main(count: int, rounds: int) -> None:
    least = dict.fromkeys(KINDS, float("inf"))
    async with Pipeline("memory://telemetry") as holder:
        for n in range(rounds):
            for at, kind in enumerate(KINDS):
                least[kind] = min(
                    least[kind],
                    await run(holder.settings.url, f"s{at}-{n}", count, kind),
                )
    for kind, spent in least.items():
        print(f"{kind}: {spent:.1f} µs per event, {spent / least['off']:.2f} times")


if __name__ == "__main__":
    asyncio.run(
        main(*(int(a) for a in sys.argv[1:]) if len(sys.argv) > 2 else (5_000, 5))
    )
