"""The engine's logger: an event and its fields, on top of the standard library's, and no global configuration.

A program that embeds pycdc gets records of the logger ``pycdc`` like those of any other library: ``event key=value …``
as the message, and the fields as `extra`. The command line turns them into lines of its own (`logs.configure`).
"""

from __future__ import annotations

import logging
from typing import Any

from pycdc.printable import printable

EVENT = "pycdc_event"
"""The field of `extra` that holds the event without its fields."""
_TO_THE_CALLER = 3
"""Frames between `logging` and who logs: the record names that place."""


class Logger:
    """``log.info("read a table", table="public.users", rows=3)``. Field names are not those of a LogRecord."""

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, event: str, **fields: Any) -> None:
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._log(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """Log an error with the traceback of the exception that is being handled."""
        self._log(logging.ERROR, event, fields, exc_info=True)

    def _log(self, level: int, event: str, fields: dict[str, Any], *, exc_info: bool = False) -> None:
        if not self._logger.isEnabledFor(level):
            return
        shown = printable(" ".join([event, *(f"{name}={value}" for name, value in fields.items())]))
        extra = {EVENT: event, **fields}
        self._logger.log(level, shown, exc_info=exc_info, extra=extra, stacklevel=_TO_THE_CALLER)


def get_logger(name: str = "pycdc") -> Logger:
    """Return a logger on top of ``logging.getLogger(name)``."""
    return Logger(logging.getLogger(name))
