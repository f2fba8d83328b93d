"""What the command line logs and how. Only the CLI calls this; programs that embed pycdc keep their own settings.

Lines are ``key=value`` or JSON, one an event, on standard error; the standard library's loggers (of our clients for
Kafka and the registry) come out the same way. Rows never do: nobody passes values to a logger, and tracebacks are
written without local variables.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from pycdc.observability.logger import EVENT

Format = Literal["text", "json"]

_NOISY = ("httpx", "httpx2", "httpcore", "urllib3", "asyncio", "authlib")


def configure(style: Format = "text", level: int = logging.INFO) -> None:
    """Set the root logger up for this process."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.ExtraAdder(),
        _own_event,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _plain_values,
    ]
    handler = _StandardError()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _renderer(style),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


class _StandardError(logging.StreamHandler[TextIO]):
    """Looks standard error up each time: the live view puts itself between while it is shown."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        raise AttributeError("the stream is standard error")


def _renderer(style: Format) -> Processor:
    if style == "json":
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    return structlog.processors.LogfmtRenderer(
        key_order=["timestamp", "level", "event"], drop_missing=True, bool_as_flag=False
    )


def _own_event(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Our own records carry their fields beside the message, which repeats them for other programs' formatters."""
    if EVENT in event:
        event["event"] = event.pop(EVENT)
    return event


def _plain_values(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Lists as text with commas: both renderers would otherwise show Python's notation, or differ."""
    return {key: _plain(value) for key, value in event.items()}


def _plain(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
