"""When may the position move. Nobody else decides that.

Invariants:

1. A position is stored only after everything before it was written to the sink, and the sink made it durable.
2. The source is told to forget only what lies before a stored position.
3. Positions never go back.

The steps of a checkpoint: (1) the sink makes everything written durable and stores the position with it, (2) the
source may forget. A crash between any two of them repeats changes and loses none.

A transactional sink makes records visible by step 1, all that were written since the last one. So there a position is
stored only while the newest batch has it: behind that batch nothing was written that belongs to a later position.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Generic

from pycdc.config.runtime import CheckpointConfig
from pycdc.engine_interfaces import BatchSink, BatchSource, BatchT, CheckpointT

_IDLE_FACTOR = 10
"""A position that moved without changes is stored this many times less often."""
_COST_FACTOR = 10
"""A transactional sink stores after this many times as long as that takes: readers wait for it."""


class Checkpointer(Generic[BatchT, CheckpointT]):
    """Follows the batches written and says when the position is to be stored. `transactional`: the sink is."""

    def __init__(
        self, rule: CheckpointConfig, now: Callable[[], float] = time.monotonic, *, transactional: bool = False
    ) -> None:
        self._rule = rule
        self._now = now
        self._transactional = transactional
        self._newest: BatchT | None = None
        self._cost = 0.0
        self._stored_at = now()
        self._batch: BatchT | None = None
        self._changes = 0
        self._new_changes = 0
        self.stored: Any = None

    def written(self, batch: BatchT) -> None:
        """Take note that the sink took `batch`."""
        self._changes += batch.size
        if self._transactional:
            self._written_together(batch)
        elif batch.position is not None and (self.stored is None or batch.position > self.stored):
            self._batch = batch
            self._new_changes = self._changes

    def _written_together(self, batch: BatchT) -> None:
        """Whatever `batch` has becomes visible with the position of the newest batch that has one."""
        if batch.position is not None and (self.stored is None or batch.position >= self.stored):
            self._newest = batch
        elif batch.size or not batch.ends_at_commit:
            self._newest = None
        self._batch = self._newest
        self._new_changes = self._changes

    @property
    def pending(self) -> bool:
        """There is a position that is not stored yet."""
        return self._batch is not None

    def due(self, *, at_once: bool = False) -> bool:
        """`at_once`: readers wait for what was written, and nothing more comes with it."""
        if self._batch is None:
            return False
        if at_once or self._batch.checkpoint_now or self._new_changes >= self._rule.changes:
            return True
        wait = self._rule.interval * (1 if self._new_changes else _IDLE_FACTOR)
        if self._transactional and self._new_changes:
            wait = min(wait, self._cost * _COST_FACTOR)
        return self._now() - self._stored_at >= wait

    def store(
        self, source: BatchSource[BatchT, CheckpointT], sink: BatchSink[BatchT, CheckpointT]
    ) -> CheckpointT | None:
        """Do the steps; return what was stored, None if nothing was pending."""
        batch = self._batch
        if batch is None or batch.position is None:
            return None
        began = self._now()
        checkpoint = source.checkpoint(batch)
        checkpoint = sink.commit(checkpoint) or checkpoint  # step 1
        source.acknowledge(checkpoint)  # step 2
        self.stored = checkpoint.position
        self._stored_at = self._now()
        self._cost = self._stored_at - began
        self._batch = None
        self._changes -= self._new_changes
        self._new_changes = 0
        return checkpoint
