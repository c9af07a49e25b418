"""Setting up the SDK of OpenTelemetry, which sends spans and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streams.errors import ConfigurationError
from streams.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider
    from prometheus_client import CollectorRegistry

WORDS = ("otlp", "prometheus")


@dataclass(slots=True)
class Exported:
    """The parts of the SDK; ``close`` sends the remaining data.

    Attributes:
        tracers: None if spans are not exported.
        meters: None if metrics are not exported.
        registry: the registry of Prometheus; None without it.
    """

    tracers: TracerProvider | None = None
    meters: MeterProvider | None = None
    registry: CollectorRegistry | None = None

    def exposition(self) -> bytes:
        """Every metric, in the text format of Prometheus; empty without it."""
        if self.registry is None:
            return b""

        from prometheus_client import generate_latest

        return bytes(generate_latest(self.registry))

    def close(self) -> None:
        """Send the remaining data and shut down."""
        for provider in (self.tracers, self.meters):
            if provider is not None:
                provider.shutdown()


def export(words: Sequence[str], *, service: str = "streams") -> Exported:
    """Set up exporters, which read the ``OTEL_*`` variables.

    E.g. ``OTEL_EXPORTER_OTLP_ENDPOINT`` is the target of OTLP.

    Args:
        words: ``otlp``: spans and metrics by OTLP over HTTP (extra ``otlp``);
            ``prometheus``: metrics to scrape from the health address (extra
            ``prometheus``).
        service: the name of the service, unless ``OTEL_SERVICE_NAME`` is set.

    Raises:
        ConfigurationError: a word is unknown, or its extra is not installed.
    """
    unknown = sorted(set(words) - set(WORDS))
    if unknown or not words:
        raise ConfigurationError(
            f"telemetry is {' and '.join(WORDS)}, not {', '.join(unknown) or 'nothing'}"
        )

    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import (
        SERVICE_NAME,
        SERVICE_VERSION,
        OTELResourceDetector,
        Resource,
    )

    default = Resource({SERVICE_NAME: service, SERVICE_VERSION: __version__})
    # The variables of the environment come first.
    resource = default.merge(OTELResourceDetector().detect())
    found = Exported()
    readers: list[Any] = []
    try:
        if "otlp" in words:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import (
                OTLPMetricExporter,
            )
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
                OTLPSpanExporter,
            )
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            found.tracers = TracerProvider(resource=resource)
            found.tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
            readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))

        if "prometheus" in words:
            from opentelemetry.exporter.prometheus import PrometheusMetricReader
            from prometheus_client import CollectorRegistry

            found.registry = registry = CollectorRegistry()
            reader = PrometheusMetricReader(registry=registry, scope_info_enabled=False)
            readers.append(reader)
    except ImportError as error:
        extra = "otlp" if "otlp" in str(error) else "prometheus"
        raise ConfigurationError(
            f"this needs the extra {extra}: pip install 'streams[{extra}]'"
        ) from None

    found.meters = MeterProvider(readers, resource)
    return found
