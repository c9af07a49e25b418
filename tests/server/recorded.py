"""Pipelines whose spans and metrics are recorded."""

from __future__ import annotations

from collections import Counter
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from streams import Pipeline, Settings
from streams.telemetry import Exported, instrument


class Recorded:
    """A pipeline whose spans and metrics are kept in memory."""

    def __init__(self, server, namespace) -> None:
        self.spans = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.exported = Exported(tracers, MeterProvider([self.reader]))
        self.pipeline = Pipeline(settings=Settings(url=server.url, namespace=namespace))
        instrument(self.pipeline, self.exported)

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans.get_finished_spans() if span.name == name]

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def counted(self, name: str, label: str) -> dict[Any, float]:
        found: Counter[Any] = Counter()
        for point in self.points(name):
            found[point.attributes.get(label)] += point.value
        return dict(found)


def trace_of(span) -> int:
    return span.context.trace_id
