"""Tracing, where it is on: nothing of OpenTelemetry is imported before."""

from __future__ import annotations

from typing import Any

from pycdc.config.runtime import TracingConfig
from pycdc.errors import ConfigError


def traced_capture(sink: Any, settings: TracingConfig | None, pipeline: str) -> Any:
    """Return the sink of a capture, with spans where `settings` are there. Raises ConfigError."""
    if settings is None:
        return sink
    made = _spans()
    return made.TracedCapture(sink, made.Tracer(settings, pipeline), pipeline, settings.sample)


def traced_apply(sink: Any, settings: TracingConfig | None, pipeline: str) -> Any:
    """Return the sink of an apply pipeline, with spans where `settings` are there. Raises ConfigError."""
    if settings is None:
        return sink
    made = _spans()
    return made.TracedApply(sink, made.Tracer(settings, pipeline), pipeline)


def _spans() -> Any:
    try:
        from pycdc.observability import spans
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the section `tracing` needs {error.name}, which is not installed",
            hint="pip install 'pycdc-postgres[tracing]'",
        ) from None
    return spans
