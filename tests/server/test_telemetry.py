"""Traces of a real pipeline: what one trace shows, where they go, and who is instrumented."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streams import ConfigurationError, Event, Filter, Pipeline, Retry, Settings
from streams.logs import EventFilter
from streams.telemetry import Metrics, Tracing, export, instrument
from streams.testing import Harness
from tests.conftest import eventually
from tests.server.recorded import Recorded, trace_of
from tests.whatsapp.servers import serving

pytestmark = pytest.mark.in_turn

SECRET = "5511999998888"


@asynccontextmanager
async def working(pipeline: Pipeline) -> AsyncIterator[Any]:
    """The pipeline open and its worker running; what is given waits until so many events are handled."""
    async with pipeline:
        service = pipeline.service(pipeline.plans)
        running = asyncio.create_task(service.run())

        async def done(count: int) -> None:
            await eventually(
                lambda: sum(c.stats.done for c in service.consumers) == count,
                what="the events",
            )

        yield done
        service.stop()
        await running


async def test_one_trace_shows_the_whole_life(server, namespace):
    recorded = Recorded(server, namespace)
    pipeline, mended = recorded.pipeline, []

    @pipeline.handler(
        "orders", group="billing", retry=Retry(max_retries=1, delay=0.01, jitter=0.0)
    )
    async def charge(event: Event) -> None:
        current.append(trace.get_current_span().get_span_context().span_id)
        if not mended:
            raise OSError(f"no answer for {SECRET}")

    current: list[int] = []
    running = asyncio.create_task(pipeline.run())
    async with pipeline.twin() as other:
        receipt = await other.publish(
            "orders", {"phone": SECRET}, type="order.created", tenant="acme", priority=5
        )
        letters = other.dead_letters("orders", "billing")

        async def dead() -> bool:
            return await letters.count() == 1

        await eventually(dead, what="the event to die")
        mended.append(True)
        await letters.replay(Filter())
        await eventually(
            lambda: len(recorded.named("ack orders")) == 1, what="it to be handled"
        )
        pipeline.stop()
        await running
    (sent,) = recorded.named("send orders")
    life = [
        span
        for span in recorded.spans.get_finished_spans()
        if trace_of(span) == trace_of(sent)
    ]
    names = Counter(span.name for span in life)
    assert names == {
        "send orders": 1,
        "process orders": 3,
        "retry orders": 1,
        "dead_letter orders": 1,
        "replay orders": 1,
    }
    assert all(
        span.parent.span_id == sent.context.span_id for span in life if span is not sent
    )
    assert {span.kind.name for span in life} == {"PRODUCER", "CONSUMER", "CLIENT"}
    attempts = sorted(
        recorded.named("process orders"), key=lambda span: span.start_time
    )
    assert [span.attributes["streams.outcome"] for span in attempts] == [
        "failed",
        "failed",
        "done",
    ]
    assert [span.attributes["streams.attempt"] for span in attempts] == [1, 2, 1]
    assert {span.attributes["streams.event.type"] for span in attempts} == {
        "order.created"
    }
    # It is current for the handler.
    assert [span.context.span_id for span in attempts] == current
    for span in attempts[:2]:
        assert span.attributes["error.type"] == "OSError"
        assert span.status.status_code.name == "ERROR"
    (buried,) = recorded.named("dead_letter orders")
    assert (
        buried.attributes["streams.reason"],
        buried.attributes["streams.attempt"],
    ) == ("retries-used-up", 2)
    (retried,) = recorded.named("retry orders")
    assert retried.attributes["streams.delay"] == 0.01
    # Reads and acknowledgements stand alone, and say which events they carried.
    received, (acked,) = recorded.named("receive orders"), recorded.named("ack orders")
    assert len(received) == 3
    for span in (*received, acked):
        assert trace_of(span) != trace_of(sent)
        assert span.attributes["messaging.batch.message_count"] == 1
        assert [link.context.span_id for link in span.links] == [sent.context.span_id]
        assert span.attributes["messaging.consumer.group.name"] == "billing"
    assert acked.links[0].attributes["messaging.message.id"] == receipt.event_id
    everything = "".join(span.to_json() for span in recorded.spans.get_finished_spans())
    assert SECRET not in everything
    assert "acme" not in everything


async def test_a_batch_is_one_span_and_whoever_forwards_keeps_the_trace(
    server, namespace
):
    recorded = Recorded(server, namespace)
    foreign = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    pipeline = recorded.pipeline

    @pipeline.handler("orders", group="billing")
    async def work(event: Event) -> None:
        return None

    async def forwarded():
        yield Event("t", 6)

    async with working(pipeline) as done:
        await pipeline.publish_many("orders", [1, 2, 3], type="t")
        await pipeline.publish_many(
            "orders", [Event("t", 4), Event("t", 5, traceparent=foreign)]
        )
        await pipeline.publish_many("orders", forwarded())
        await pipeline.publish("orders", Event("t", 7))
        await pipeline.publish("orders", 8, type="t", traceparent=foreign)
        await done(8)
    sent = recorded.named("send orders")
    assert [span.attributes.get("messaging.batch.message_count") for span in sent] == [
        3,
        2,
        1,
        None,
        None,
    ]
    traces = Counter(trace_of(span) for span in recorded.named("process orders"))
    assert [traces[trace_of(span)] for span in sent] == [3, 1, 1, 1, 0]
    assert traces[int(foreign[3:35], 16)] == 2


@pytest.mark.one_server
async def test_polling_makes_no_span(server, namespace):
    recorded = Recorded(server, namespace)

    @recorded.pipeline.handler("orders", group="billing")
    async def work(event: Event) -> None:
        return None

    running = asyncio.create_task(recorded.pipeline.run())
    async with recorded.pipeline.twin() as other:

        async def reads() -> int:
            info = (await other.broker.control.call("INFO", "commandstats")).decode()
            found = [
                line
                for line in info.splitlines()
                if line.startswith("cmdstat_xreadgroup:")
            ]
            return int(found[0].split("calls=")[1].split(",")[0]) if found else 0

        before = await reads()

        async def several() -> bool:
            return await reads() > before + 3

        await eventually(several, seconds=20, what="a few reads that bring nothing")
    recorded.pipeline.stop()
    await running
    assert recorded.spans.get_finished_spans() == ()


async def test_a_pipeline_is_traced_inside_a_harness_and_after_it(server, namespace):
    recorded = Recorded(server, namespace)
    async with Harness(recorded.pipeline, url=server.url) as harness:
        await recorded.pipeline.publish("orders", 1, type="t")
        assert len(recorded.named("send orders")) == 1
        assert "traceparent" in harness.published("orders")[0].meta
    async with recorded.pipeline:
        await recorded.pipeline.publish("orders", 2, type="t")
    assert len(recorded.named("send orders")) == 2


async def test_log_lines_of_handlers_have_the_span(server, namespace):
    recorded, seen = Recorded(server, namespace), []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append((record.trace_id, record.span_id))

    handler = Keep()
    handler.addFilter(EventFilter())
    log = logging.getLogger("shop.telemetry")
    log.addHandler(handler)
    try:

        @recorded.pipeline.handler("orders", group="billing")
        async def work(event: Event) -> None:
            log.error("hello")

        async with Harness(recorded.pipeline, url=server.url) as harness:
            await recorded.pipeline.publish("orders", 1, type="t")
            await harness.drain()
    finally:
        log.removeHandler(handler)
    (span,) = recorded.named("process orders")
    assert seen == [(f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}")]


async def test_spans_and_metrics_arrive_at_a_collector(server, namespace, monkeypatch):
    """By OTLP, as a real receiver reads it."""
    spans: list[str] = []
    metrics: set[str] = set()

    async def receive(request: Request) -> Response:
        body = await request.body()
        if request.url.path == "/v1/traces":
            told = ExportTraceServiceRequest.FromString(body)
            for resource in told.resource_spans:
                names.update(
                    {a.key: a.value.string_value for a in resource.resource.attributes}
                )
                spans.extend(
                    span.name for scope in resource.scope_spans for span in scope.spans
                )
        else:
            told = ExportMetricsServiceRequest.FromString(body)
            metrics.update(
                m.name
                for r in told.resource_metrics
                for s in r.scope_metrics
                for m in s.metrics
            )
        return Response(b"", media_type="application/x-protobuf")

    names: dict[str, str] = {}
    app = Starlette(
        routes=[
            Route(f"/v1/{what}", receive, methods=["POST"])
            for what in ("traces", "metrics")
        ]
    )
    async with serving(app) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
        exported = export(("otlp", "prometheus"))
        pipeline = Pipeline(settings=Settings(url=server.url, namespace=namespace))
        instrument(pipeline, exported)

        @pipeline.handler("orders", group="billing")
        async def work(event: Event) -> None:
            return None

        async with working(pipeline) as done:
            await pipeline.publish("orders", 1, type="t")
            await done(1)
        text = exported.exposition()
        await asyncio.to_thread(exported.close)
    assert sorted(spans) == [
        "ack orders",
        "process orders",
        "receive orders",
        "send orders",
    ]
    assert {
        "messaging.client.sent.messages",
        "messaging.process.duration",
        "streams.settled",
    } <= metrics
    assert names["service.name"] == "shop"
    assert b"messaging_process_duration_seconds_bucket" in text


async def test_without_an_sdk_nothing_is_made_and_events_stay_as_they_are(
    server, namespace
):
    pipeline = Pipeline(settings=Settings(url=server.url, namespace=namespace))
    instrument(pipeline)
    async with pipeline:
        await pipeline.publish("orders", 1, type="t")
        ((_, fields),) = await pipeline.broker.control.call(
            "XRANGE", pipeline.broker.keys("orders").level(0), "-", "+"
        )
        assert (
            b"meta" not in fields
            or b"traceparent" not in fields[fields.index(b"meta") + 1]
        )


def test_who_is_instrumented_twice_or_too_late_is_told():
    pipeline = Pipeline("redis://127.0.0.1:1/0")
    instrument(pipeline)
    assert [type(found) for found in pipeline.middleware[:2]] == [Tracing, Metrics]
    with pytest.raises(ConfigurationError, match="already"):
        instrument(pipeline)
    with pytest.raises(ConfigurationError, match="otlp and prometheus, not statsd"):
        export(("statsd",))


async def test_an_open_pipeline_is_not_instrumented(server, namespace):
    async with Pipeline(
        settings=Settings(url=server.url, namespace=namespace)
    ) as pipeline:
        with pytest.raises(ConfigurationError, match="before it is opened"):
            instrument(pipeline)


def test_who_does_not_measure_imports_nothing():
    import subprocess
    import sys

    code = "import streams.cli.loading, streams.cli.app, sys; print([m for m in sys.modules if 'opentelemetry' in m])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
