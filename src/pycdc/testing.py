"""Doubles for tests, of pycdc and of what is built on it: a source and a sink in memory, with faults by script.

::

    source = MemoryConnector.of_rows("public.orders", [{"id": 1}, {"id": 2}])
    sink = MemorySink(faults={"commit": [None, DeliveryError("the broker is away")]})
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pycdc.interfaces import Checkpoint
from pycdc.model.change import NOWHERE, Batch, Change, Lsn, Op, Position, Row, Run, Table, Transaction

Faults = Mapping[str, Sequence[Exception | None]]
"""For a method's name what each call raises in turn; None, and calls beyond the list, raise nothing."""


class _Script:
    def __init__(self, faults: Faults | None) -> None:
        self._faults = {name: list(steps) for name, steps in (faults or {}).items()}

    def step(self, name: str) -> None:
        steps = self._faults.get(name)
        if steps:
            fault = steps.pop(0)
            if fault is not None:
                raise fault


class _Rows:
    """A table's `images`, where a frame is the number of a row."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def __call__(self, change: Change) -> tuple[Row | None, Row | None]:
        return None, self._rows[int(change.frame)]


class MemoryConnector:
    """Yields batches that were prepared, from the checkpoint on, then ends (or goes on idling)."""

    def __init__(self, batches: Sequence[Batch], *, idle: bool = False, faults: Faults | None = None) -> None:
        self._batches = batches
        self._idle = idle
        self._script = _Script(faults)
        self.acknowledged: list[Position] = []
        self.closed = 0

    @classmethod
    def of_rows(
        cls,
        table: str,
        rows: Sequence[Row],
        *,
        per_batch: int = 1,
        idle: bool = False,
        faults: Faults | None = None,
    ) -> MemoryConnector:
        """Make one transaction a batch, each of `per_batch` inserts, at LSNs 100, 200 and so on."""
        schema, _, name = table.rpartition(".")
        version = Table(1, schema or "public", name, (), images=_Rows(rows))
        batches = []
        for number, first in enumerate(range(0, len(rows), per_batch), 1):
            frames = [b"%d" % index for index in range(first, min(len(rows), first + per_batch))]
            transaction = Transaction(number, number * 100 - 10, 0)
            run = Run(Op.READ, version, transaction, 0, frames)
            batches.append(Batch([run], Position(Lsn(number * 100)), Lsn(number * 100), len(frames)))
        return cls(batches, idle=idle, faults=faults)

    def batches(self, start: Checkpoint | None) -> Iterator[Batch | None]:
        begin = NOWHERE if start is None else start.position.lsn
        for batch in self._batches:
            if batch.position is not None and batch.position.lsn <= begin:
                continue
            self._script.step("batches")
            yield batch
        while self._idle:
            yield None

    def checkpoint(self, batch: Batch) -> Checkpoint:
        assert batch.position is not None
        return Checkpoint(batch.position, batch.last_commit)

    def acknowledge(self, checkpoint: Checkpoint) -> None:
        self._script.step("acknowledge")
        self.acknowledged.append(checkpoint.position)

    def close(self) -> None:
        self.closed += 1


class MemorySink:
    """Keeps changes; `durable` is what the last successful commit covered."""

    def __init__(self, faults: Faults | None = None) -> None:
        self._script = _Script(faults)
        self.written: list[Change] = []
        self.durable: list[Change] = []
        self.checkpoints: list[Checkpoint] = []

    def write(self, batch: Batch) -> None:
        self._script.step("write")
        self.written += list(batch)

    def commit(self, checkpoint: Checkpoint) -> None:
        self._script.step("commit")
        self.durable = list(self.written)
        self.checkpoints.append(checkpoint)
