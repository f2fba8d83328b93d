"""A sink of rows behind the rules of tables: console and custom sinks, which make no records of them."""

from __future__ import annotations

from collections.abc import Callable

from pycdc.config.pipeline import CapturePipeline
from pycdc.interfaces import Checkpoint, Sink
from pycdc.model.change import Batch
from pycdc.rows.ruled import RuledRows


class ColumnRulesSink:
    """`sink` sees no column that a rule leaves out, and no value that one hides."""

    def __init__(self, sink: Sink, config: CapturePipeline) -> None:
        self._sink = sink
        self._rules = RuledRows(config)
        self.idle: Callable[[], object] = getattr(sink, "idle", lambda: None)
        self.close: Callable[[], object] = getattr(sink, "close", lambda: None)

    def write(self, batch: Batch) -> None:
        self._sink.write(self._rules.batch(batch))

    def commit(self, checkpoint: Checkpoint) -> Checkpoint | None:
        return self._sink.commit(checkpoint)
