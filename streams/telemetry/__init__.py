"""Traces and metrics by OpenTelemetry's messaging conventions, switched on explicitly.

``instrument`` uses only the API of OpenTelemetry. ``export`` sets up the SDK for programs
that do not set it up themselves.
"""

from streams.telemetry.exporting import Exported, export
from streams.telemetry.instrumenting import instrument
from streams.telemetry.metrics import Metrics
from streams.telemetry.tracing import Tracing

__all__ = ["Exported", "Metrics", "Tracing", "export", "instrument"]
