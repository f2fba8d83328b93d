"""Rules applied to frames, for sinks and programs that take rows as they come: what a rule hides leaves nowhere.

Records have their rules compiled in (`plan`). Here the columns that stay are cut out of each frame, hidden values are
replaced by the same codecs, and the table describes what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pycdc.config.pipeline import CapturePipeline
from pycdc.config.values import TableRule
from pycdc.errors import ProtocolError
from pycdc.model.change import Batch, Op, PgType, Run, Table
from pycdc.rows.images import Images, old_and_new
from pycdc.rows.plan import merged_rule, treatments
from pycdc.rows.rewriter import copy_line, tuple_data
from pycdc.rows.tuples import ROW, ColumnBytes, split_line

_TEXT = PgType(25, "text")
_ROWS = frozenset((Op.CREATE, Op.UPDATE, Op.DELETE, Op.READ))


@dataclass(frozen=True, slots=True)
class _Ruled:
    """A table under its rules: which of its columns stay, in order, and what becomes of their texts."""

    table: Table
    columns: tuple[tuple[int, Callable[[bytes], bytes] | None], ...]
    width: int

    def texts(self, texts: Sequence[ColumnBytes]) -> list[ColumnBytes]:
        if len(texts) != self.width:
            raise ProtocolError(f"row of {self.table} has {len(texts)} columns where {self.width} were described")
        return [
            hide(text) if hide is not None and isinstance(text := texts[index], bytes) else texts[index]
            for index, hide in self.columns
        ]

    def frame(self, op: Op, frame: bytes) -> bytes:
        if op is Op.READ:
            return copy_line(self.texts(split_line(frame) if frame or self.width else []))
        old, kind, new = old_and_new(frame, op)
        parts = [frame[: ROW - 1]]
        if old is not None:
            parts += [bytes((kind,)), tuple_data(self.texts(old))]
        if new is not None:
            parts += [b"N", tuple_data(self.texts(new))]
        return b"".join(parts)


class RuledRows:
    """Batches under a configuration's rules."""

    def __init__(self, config: CapturePipeline) -> None:
        self._config = config
        self._tables: dict[Table, _Ruled | None] = {}

    def batch(self, batch: Batch) -> Batch:
        """Return the batch with its rows under their rules. Raises ConfigError where these cannot be met."""
        if not self._config.rules:
            return batch
        ruled = replace(batch, runs=[self._run(run) for run in batch.runs])
        if batch.dropped:
            self._tables = {table: kept for table, kept in self._tables.items() if table.oid not in batch.dropped}
        return ruled

    def _run(self, run: Run) -> Run:
        table = run.table
        ruled = None if table is None else self._ruled(table)
        if ruled is None:
            return run
        frames = [ruled.frame(run.op, frame) for frame in run.frames] if run.op in _ROWS else run.frames
        return Run(run.op, ruled.table, run.transaction, run.index, frames, run.marker, run.message, run.routing)

    def _ruled(self, table: Table) -> _Ruled | None:
        if table not in self._tables:
            # An older version of the table no longer comes.
            for old in [old for old in self._tables if old.oid == table.oid]:
                del self._tables[old]
            rule = merged_rule(table, self._config.rules)
            same = rule == TableRule() or rule == TableRule(topic=rule.topic)
            self._tables[table] = None if same else _under(table, rule, self._config)
        return self._tables[table]


def _under(table: Table, rule: TableRule, config: CapturePipeline) -> _Ruled:
    chosen = treatments(table, rule, config.values, config.compatibility)
    columns = tuple(
        replace(column, name=name, type=_TEXT if treated else column.type, default=None if treated else column.default)
        for column, name, treated in ((table.columns[index], name, hide is not None) for index, name, hide in chosen)
    )
    names = {table.columns[index].name: name for index, name, _ in chosen}
    key = table.key if rule.key is None else tuple(rule.key)
    ruled = replace(
        table, columns=columns, key=tuple(names[name] for name in key), images=Images(columns), relabelled=None
    )
    return _Ruled(ruled, tuple((index, hide) for index, _, hide in chosen), len(table.columns))
