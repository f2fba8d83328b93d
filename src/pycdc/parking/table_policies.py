"""What the rules say of each table's rows that cannot be delivered, and how their keys are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pycdc.config.pipeline import CapturePipeline
from pycdc.errors import PycdcError, RecordTooLarge
from pycdc.model.change import Table
from pycdc.rows.plan import merged_rule, plan_table
from pycdc.rows.row_keys import RowKeys

RowErrorPolicy = Literal["stop", "park", "truncate"]


@dataclass(frozen=True, slots=True)
class TablePolicy:
    """`keys` tells the keys of the table's rows, `truncatable` are the columns that may be cut."""

    name: str
    keys: RowKeys
    on_error: RowErrorPolicy
    on_too_large: RowErrorPolicy
    truncatable: frozenset[str]

    @property
    def spares(self) -> bool:
        """Whether some rows of the table are parked or cut rather than stop the pipeline."""
        return self.on_error != "stop" or self.on_too_large != "stop"

    def of(self, error: PycdcError) -> RowErrorPolicy:
        return self.on_too_large if isinstance(error, RecordTooLarge) else self.on_error


class TablePolicies:
    """Knows the policy of each live table version."""

    def __init__(self, config: CapturePipeline) -> None:
        self._config = config
        self._known: dict[int, tuple[Table, TablePolicy]] = {}

    def of(self, table: Table) -> TablePolicy:
        known = self._known.get(table.oid)
        if known is None or known[0] is not table:
            known = self._known[table.oid] = table, self._made(table)
        return known[1]

    def live(self, table: Table) -> Table:
        """Return the version that rows come with at present, where it is the same as `table`."""
        known = self._known.get(table.oid)
        return known[0] if known is not None and _same(known[0], table) else table

    def forget(self, oids: frozenset[int]) -> None:
        self._known = {oid: known for oid, known in self._known.items() if oid not in oids}

    def _made(self, table: Table) -> TablePolicy:
        config = self._config
        rule = merged_rule(table, config.rules)
        plan = plan_table(table, config.rules, config.values, config.compatibility)
        on_error = rule.on_error or "stop"
        cut = frozenset(rule.truncatable)
        return TablePolicy(str(table), RowKeys(plan), on_error, rule.on_too_large or on_error, cut)


def _same(one: Table, other: Table) -> bool:
    return (one.schema, one.name, one.columns, one.key, one.identity) == (
        other.schema,
        other.name,
        other.columns,
        other.key,
        other.identity,
    )
