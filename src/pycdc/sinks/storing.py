"""Sinks that keep no position themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pycdc.interfaces import OffsetStore, Sink


class StoringSink:
    """A sink without a place for positions, completed by an offset store."""

    def __init__(self, sink: Sink, offsets: OffsetStore) -> None:
        self._sink = sink
        self._offsets = offsets
        self.write = sink.write
        self.close: Callable[[], None] = getattr(sink, "close", lambda: None)

    def commit(self, checkpoint: Any) -> None:
        self._sink.commit(checkpoint)
        self._offsets.store(checkpoint)
