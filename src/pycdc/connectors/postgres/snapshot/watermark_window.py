"""Where the rows of a chunk belong in the stream: behind every change that its snapshot sees, before those it does not.

A chunk was read by a snapshot; a mark was written just behind it. When the mark comes by the stream, every change that
the snapshot sees has come. A change that it does not see may have come earlier: then the row that it touches goes
right before it, and the rest goes to the mark. So each row stands between the same two changes of its key as it did in
the table. Nothing is dropped, which matters for a row whose change leaves out what it did not touch (TOAST).

Keys are compared as texts, by the columns of the replica identity: what an old tuple holds, and what makes two rows
two rows to Postgres, whatever a collation thinks of their texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pycdc.connectors.postgres.catalog.keyset import KeyValues
from pycdc.connectors.postgres.snapshot.backlog import TableTask
from pycdc.connectors.postgres.snapshot.pg_snapshot import PgSnapshot
from pycdc.model.change import Op, Run, Table, Transaction
from pycdc.rows.images import old_and_new
from pycdc.rows.tuples import ROW, ColumnBytes, split_line, split_tuple

_ROWS: Final = frozenset({Op.CREATE, Op.UPDATE, Op.DELETE})
RowIdentity = tuple[ColumnBytes, ...]


@dataclass(slots=True)
class WatermarkWindow:
    """A chunk that waits for its watermark. `lines` are its rows, in order; those placed already are None.

    `moment` stands in for the rows' transaction. `last`: its table has no more rows behind this chunk. `after` is the
    key of its last row.
    """

    id: str
    task: TableTask
    table: Table
    visibility: PgSnapshot
    moment: Transaction
    lines: list[bytes | None]
    last: bool
    after: KeyValues | None = None
    placed: int = 0
    _index: dict[RowIdentity, int] = field(default_factory=dict)
    _indexed: tuple[str, ...] | None = None

    def meets(self, run: Run) -> bool:
        """Return whether `run` changes rows of this table, unseen by the snapshot."""
        if run.table is None or run.table.oid != self.table.oid:
            return False
        return (run.op in _ROWS or run.op is Op.TRUNCATE) and not self.visibility.sees(run.transaction.xid)

    def before(self, run: Run) -> list[Run]:
        """Return the rows that have to come before `run`, which meets the window."""
        assert run.table is not None
        if run.op is Op.TRUNCATE:
            return self._all(run)
        names = _identity(run.table, self.table)
        if not names:
            # Without an identity rows are only added; without the same columns the key cannot be told.
            return [] if run.op is Op.CREATE else self._all(run)
        self._build(names)
        places = _places(run.table, names)
        out: list[Run] = []
        for frame in run.frames:
            for identity in _touched(frame, run.op, places):
                number = self._index.pop(identity, None)
                if number is not None:
                    out.append(self._row(number, frame))
        return out

    def _build(self, names: tuple[str, ...]) -> None:
        if self._indexed == names:
            return
        self._indexed, columns = names, _places(self.table, names)
        self._index = {}
        for number, line in enumerate(self.lines):
            if line is not None:
                texts = split_line(line)
                self._index[tuple(texts[place] for place in columns)] = number

    def _row(self, number: int, frame: bytes) -> Run:
        """Return a row that goes before a change, with the change's LSN: what consumers order by never goes back."""
        line = self.lines[number]
        assert line is not None
        self.lines[number] = None
        moment = Transaction(None, int.from_bytes(frame[1:9], "big"), self.moment.commit_time)
        return self._run([line], self.marker, moment)

    def _all(self, run: Run) -> list[Run]:
        lines = self.rest()
        moment = Transaction(None, int.from_bytes(run.frames[0][1:9], "big"), self.moment.commit_time)
        self.lines = []
        self._index.clear()
        return [self._run(lines, self.marker, moment)] if lines else []

    def rest(self) -> list[bytes]:
        """Return the rows that are not placed yet, in order."""
        return [line for line in self.lines if line is not None]

    @property
    def marker(self) -> str:
        return "incremental" if self.task.ad_hoc else "true"

    def runs(self, lines: list[bytes], *, ends: str | None) -> list[Run]:
        """Return runs of rows at the watermark. `ends` is the marker of the very last row, if this is it."""
        marker = self.marker
        head, tail = [], []
        if not self.task.ad_hoc:
            if self.task.rows + self.placed == 0 and len(lines) > 1:
                head, lines = [(lines[:1], "first_in_data_collection")], lines[1:]
            if ends is not None and lines:
                tail, lines = [(lines[-1:], ends)], lines[:-1]
        parts: Sequence[tuple[list[bytes], str]] = [*head, (lines, marker), *tail]
        return [self._run(part, name, self.moment) for part, name in parts if part]

    def _run(self, lines: list[bytes], marker: str, moment: Transaction) -> Run:
        run = Run(Op.READ, self.table, moment, self.placed, lines, marker)
        self.placed += len(lines)
        return run


def _identity(changed: Table, read: Table) -> tuple[str, ...]:
    """Return the columns that identify a row of both versions.

    They are the replica identity's, the key's where that is the whole row.
    """
    names = {column.name for column in changed.columns}
    chosen = read.key if changed.identity == "f" else tuple(c.name for c in changed.columns if c.identity)
    known = {column.name for column in read.columns}
    return chosen if names.issuperset(chosen) and known.issuperset(chosen) else ()


def _places(table: Table, names: Sequence[str]) -> list[int]:
    by_name = {column.name: place for place, column in enumerate(table.columns)}
    return [by_name[name] for name in names]


def _touched(frame: bytes, op: Op, places: Sequence[int]) -> list[RowIdentity]:
    """Return the identity of the row before the change, and of the one after it."""
    if op is Op.CREATE:
        return [_pick(split_tuple(frame, ROW)[0], places)]
    old, _, new = old_and_new(frame, op)
    return [_pick(texts, places) for texts in (old, new) if texts is not None]


def _pick(texts: Sequence[ColumnBytes], places: Sequence[int]) -> RowIdentity:
    return tuple(texts[place] for place in places)
