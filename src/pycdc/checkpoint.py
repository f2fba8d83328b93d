"""When may the position move. Nobody else decides that.

Invariants:

1. A position is stored only after everything before it was written to the sink, and the sink made it durable.
2. The source is told to forget only what lies before a stored position.
3. Positions never go back.

The steps of a checkpoint: (1) the sink makes everything written durable and stores the position with it, (2) the
source may forget. A crash between any two of them repeats changes and loses none.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Generic

from pycdc.config.runtime import CheckpointConfig
from pycdc.engine_interfaces import BatchSink, BatchSource, BatchT, CheckpointT

_IDLE_FACTOR = 10
"""A position that moved without changes is stored this many times less often."""


class Checkpointer(Generic[BatchT, CheckpointT]):
    """Follows the batches written and says when the position is to be stored."""

    def __init__(self, rule: CheckpointConfig, now: Callable[[], float] = time.monotonic) -> None:
        self._rule = rule
        self._now = now
        self._stored_at = now()
        self._batch: BatchT | None = None
        self._changes = 0
        self._new_changes = 0
        self.stored: Any = None

    def written(self, batch: BatchT) -> None:
        """Take note that the sink took `batch`."""
        self._changes += batch.size
        if batch.position is not None and (self.stored is None or batch.position > self.stored):
            self._batch = batch
            self._new_changes = self._changes

    @property
    def pending(self) -> bool:
        """There is a position that is not stored yet."""
        return self._batch is not None

    def due(self) -> bool:
        if self._batch is None:
            return False
        if self._batch.checkpoint_now or self._new_changes >= self._rule.changes:
            return True
        wait = self._rule.interval * (1 if self._new_changes else _IDLE_FACTOR)
        return self._now() - self._stored_at >= wait

    def store(
        self, source: BatchSource[BatchT, CheckpointT], sink: BatchSink[BatchT, CheckpointT]
    ) -> CheckpointT | None:
        """Do the steps; return what was stored, None if nothing was pending."""
        batch = self._batch
        if batch is None or batch.position is None:
            return None
        checkpoint = source.checkpoint(batch)
        checkpoint = sink.commit(checkpoint) or checkpoint  # step 1
        source.acknowledge(checkpoint)  # step 2
        self.stored = checkpoint.position
        self._stored_at = self._now()
        self._batch = None
        self._changes -= self._new_changes
        self._new_changes = 0
        return checkpoint
