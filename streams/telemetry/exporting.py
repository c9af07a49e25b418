"""The SDK, set up for programs that have none of their own: where spans and metrics go."""

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
    """What was set up; ``close`` sends what is left.

    Attributes:
        tracers: None where no spans go anywhere.
        meters: None where no metrics do.
        registry: of Prometheus; None without it.
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
        """Send what is left, and end."""
        for provider in (self.tracers, self.meters):
            if provider is not None:
                provider.shutdown()


def export(words: Sequence[str], *, service: str = "streams") -> Exported:
    """Set up what is asked for; the ``OTEL_*`` variables say where and how, e.g. ``OTEL_EXPORTER_OTLP_ENDPOINT``.

    Args:
        words: ``otlp``: spans and metrics by OTLP over HTTP (extra ``otlp``); ``prometheus``: metrics to be scraped
            from the health address (extra ``prometheus``).
        service: the name of the service, unless ``OTEL_SERVICE_NAME`` says another.

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

    # What the environment says goes before what is said here.
    resource = Resource({SERVICE_NAME: service, SERVICE_VERSION: __version__}).merge(
        OTELResourceDetector().detect()
    )
    found, readers = Exported(), list[Any]()
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

            found.registry = CollectorRegistry()
            readers.append(
                PrometheusMetricReader(
                    registry=found.registry, scope_info_enabled=False
                )
            )
    except ImportError as error:
        extra = "otlp" if "otlp" in str(error) else "prometheus"
        raise ConfigurationError(
            f"this needs the extra {extra}: pip install 'streams[{extra}]'"
        ) from None
    found.meters = MeterProvider(readers, resource)
    return found
