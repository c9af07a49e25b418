"""Traces and metrics, by the messaging conventions of OpenTelemetry. Off unless somebody calls ``instrument``.

Only the API of OpenTelemetry is used here; ``export`` sets up the SDK for programs that have none of their own.
"""

from streams.telemetry.exporting import Exported, export
from streams.telemetry.instrumenting import instrument
from streams.telemetry.metrics import Metrics
from streams.telemetry.tracing import Tracing

__all__ = ["Exported", "Metrics", "Tracing", "export", "instrument"]
