"""Print each change as a line of JSON, for looking at a stream. It decodes every row: not for production."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, TextIO

from pycdc.config.capture_sink import ConsoleSinkConfig
from pycdc.interfaces import Checkpoint, OffsetStore
from pycdc.model.change import UNCHANGED, Batch, Change, Row


class ConsoleSink:
    """Writes to `stream`. With `offsets` it resumes like any other sink."""

    def __init__(self, settings: ConsoleSinkConfig, stream: TextIO, offsets: OffsetStore | None = None) -> None:
        self._indent = 2 if settings.pretty else None
        self._stream = stream
        self._offsets = offsets

    def write(self, batch: Batch) -> None:
        for change in batch:
            text = json.dumps(event(change), ensure_ascii=False, allow_nan=False, indent=self._indent)
            self._stream.write(text + "\n")
        self._stream.flush()

    def commit(self, checkpoint: Checkpoint) -> None:
        self._stream.flush()
        if self._offsets is not None:
            self._offsets.store(checkpoint)


def event(change: Change) -> dict[str, Any]:
    """Return a change as JSON-ready values.

    TOASTed columns that were not sent are not in `after` but named in `unchanged`.
    """
    out: dict[str, Any] = {
        "op": change.op.value,
        "table": None if change.table is None else str(change.table),
        "position": str(change.position),
        "committed_at": change.commit_time.isoformat(),
    }
    if change.message is not None:
        out |= {"prefix": change.message.prefix, "content": _friendly(change.message.content)}
        return out
    out |= {"before": _row(change.before), "after": _row(change.after)}
    unchanged = [name for name, value in (change.after or {}).items() if value is UNCHANGED]
    return {**out, "unchanged": unchanged} if unchanged else out


def _row(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {name: _friendly(value) for name, value in row.items() if value is not UNCHANGED}


def _friendly(value: Any) -> Any:
    """Return the nearest JSON value; numbers that JSON cannot hold exactly become strings, bytes base64."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | timedelta):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _friendly(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_friendly(item) for item in value]
    return str(value)
