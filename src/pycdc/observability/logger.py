"""The engine's logger: structlog's way of writing, the standard library's way out, and no global configuration.

A program that embeds pycdc gets records of the logger ``pycdc`` like those of any other library: ``event key=value …``
as the message, and the fields as `extra`. The command line turns them into lines of its own (`logs.configure`).
"""

from __future__ import annotations

import logging
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

EVENT = "pycdc_event"
"""The field of `extra` that holds the event without its fields."""


def get_logger(name: str = "pycdc") -> structlog.stdlib.BoundLogger:
    """A logger on top of ``logging.getLogger(name)``."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, _for_standard_library],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=False,
    )
    return logger


def _for_standard_library(logger: WrappedLogger, method: str, fields: EventDict) -> tuple[tuple[str], dict[str, Any]]:
    event = str(fields.pop("event"))
    kept = {name: fields.pop(name) for name in ("exc_info", "stack_info", "stacklevel") if name in fields}
    shown = " ".join([event, *(f"{name}={value}" for name, value in fields.items())])
    return (shown,), {**kept, "extra": {EVENT: event, **fields}}
