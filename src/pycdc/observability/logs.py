"""What the command line logs and how. Only the CLI calls this; programs that embed pycdc keep their own settings.

Lines are ``key=value`` or JSON, one an event, on standard error; the standard library's loggers (of our clients for
Kafka and the registry) come out the same way. Rows never do: nobody passes values to a logger, and tracebacks are
written without local variables.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TextIO

from pycdc.observability.logger import EVENT
from pycdc.observability.repeated_lines import RepeatedLines
from pycdc.printable import json_printable

Format = Literal["text", "json"]

_NOISY = ("httpx", "httpx2", "httpcore", "urllib3", "asyncio", "authlib")
_OF_A_RECORD = {*vars(logging.makeLogRecord({})), "message", "asctime"}
"""What every record has; the rest are the event's fields."""
_PLAIN = re.compile(r"[^\s\"=\\\x00-\x1f\x7f]+")
"""What a value may consist of to stand without quotes. `\\s` holds every character that ends a line."""


def configure(style: Format = "text", level: int = logging.INFO) -> None:
    """Set the root logger up for this process: what Python itself would print of errors comes out as lines too."""
    handler = _StandardError()
    handler.setFormatter(_Lines(style))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    if style == "json":
        logging.captureWarnings(True)
        threading.excepthook = _thread_failed
        sys.unraisablehook = _unraisable


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    _failed("a thread failed", failed.exc_type, failed.exc_value, failed.exc_traceback)


def _unraisable(failed: sys.UnraisableHookArgs) -> None:
    _failed("an error was ignored", failed.exc_type, failed.exc_value, failed.exc_traceback)


def _failed(event: str, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """Return kind and place of an error: its text may hold anything."""
    where = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(trace)][-3:]
    logging.getLogger("pycdc").error(event, extra={EVENT: event, "error": kind.__name__, "where": where})


class _StandardError(logging.StreamHandler[TextIO]):
    """Looks standard error up each time: the live view puts itself between while it is shown. Repeats are counted."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self._repeats = RepeatedLines()
        self.addFilter(self._repeats)

    def emit(self, record: logging.LogRecord) -> None:
        for held in self._repeats.overdue():
            super().emit(held)
        super().emit(record)

    def close(self) -> None:
        """At the end of the process, too."""
        for held in self._repeats.rest():
            super().emit(held)
        super().close()

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        raise AttributeError("the stream is standard error")


class _Lines(logging.Formatter):
    """Time, level, event, fields, and the traceback if there is one."""

    def __init__(self, style: Format) -> None:
        super().__init__()
        self._written = _json if style == "json" else _text

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in vars(record).items() if name not in _OF_A_RECORD}
        event = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            # Our own records carry their fields beside the message, which repeats them for others' formatters.
            "event": fields.pop(EVENT, None) or record.getMessage(),
            **{name: _plain(value) for name, value in fields.items()},
        }
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return self._written(event)


def _plain(value: Any) -> Any:
    """Return lists as text with commas: both forms would otherwise show Python's notation, or differ."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _json(event: dict[str, Any]) -> str:
    return json_printable(json.dumps(event, ensure_ascii=False, default=str))


def _text(event: dict[str, Any]) -> str:
    return " ".join(f"{name}={_quoted(value)}" for name, value in event.items())


def _quoted(value: Any) -> str:
    """Quote as logfmt does: a word as it is, anything else in double quotes with JSON's escapes."""
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    if not text or (_PLAIN.fullmatch(text) and text.isprintable()):
        return text
    return json_printable(json.dumps(text, ensure_ascii=False))
