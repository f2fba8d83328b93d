"""Repair through the pipeline: the capture is asked to send rows again, so that order, marks and conflict rules hold.

Only what a new verification still finds, in the same rows, is repaired: whatever changed since is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from psycopg import sql

from pycdc.build.offsets import stored_source
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.signals.messages import Signal, ask
from pycdc.errors import ConfigError
from pycdc.operations.verify.result import Difference, DifferenceKind, Key, TableResult, Verification

_ROWS: Final = 200
"""Rows that one signal asks for."""
_SENT: Final = (DifferenceKind.MISSING, DifferenceKind.CHANGED)


@dataclass(slots=True)
class RepairPlan:
    """What mends differences.

    `signals` ask for rows; `deletes` are statements for rows that are too many, which nobody runs: no event of the
    source can say that a row which it never had is gone. `left` counts differences that are not the same any more.
    """

    signals: list[Signal] = field(default_factory=list)
    rows: int = 0
    deletes: list[str] = field(default_factory=list)
    left: int = 0


def plan_repair(reported: Verification, now: Verification) -> RepairPlan:
    """Return what mends the differences that both verifications found.

    Raises ConfigError where the rows of a table cannot be asked for.
    """
    plan = RepairPlan()
    before = {_identity(one) for one in reported.differences}
    for table in now.tables:
        same = [one for one in table.differences if _identity(one) in before and one.explanation is None]
        wanted = [tuple(one.key.values()) for one in same if one.kind in _SENT]
        plan.signals += _signals(table, wanted)
        plan.rows += len(wanted)
        plan.deletes += [_delete(one) for one in same if one.kind is DifferenceKind.EXTRA]
    plan.left = len(before) - plan.rows - len(plan.deletes)
    return plan


def send_repair(plan: RepairPlan, capture: CapturePipeline) -> bool:
    """Ask the capture for the rows; return whether it runs. Raises PycdcError."""
    stored = stored_source(capture)
    running = [ask(capture, signal, stored) for signal in plan.signals]
    return all(running)


def _identity(one: Difference) -> tuple[str, DifferenceKind, tuple[tuple[str, str], ...], tuple[str, ...]]:
    return one.table, one.kind, tuple(one.key.items()), one.columns


def _signals(table: TableResult, keys: Sequence[Key]) -> Iterator[Signal]:
    if not keys:
        return
    if len(table.key_fields) != len(table.key):
        raise ConfigError(
            f"rows of table {table.table} cannot be asked for: its key is not that of one table of the source",
            hint="read its tables again with `pycdc snapshot`",
        )
    names = sql.SQL(", ").join(sql.SQL("({})::text").format(sql.Identifier(name)) for name in table.key_fields)
    for at in range(0, len(keys), _ROWS):
        rows = sql.SQL(", ").join(
            sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, key))) for key in keys[at : at + _ROWS]
        )
        where = sql.SQL("({}) IN ({})").format(names, rows).as_string(None)
        yield from (Signal("snapshot", (source,), where) for source in table.sources)


def _delete(one: Difference) -> str:
    schema, _, name = one.table.partition(".")
    conditions = sql.SQL(" AND ").join(
        sql.SQL("({})::text = {}").format(sql.Identifier(column), sql.Literal(text)) for column, text in one.key.items()
    )
    return sql.SQL("DELETE FROM {} WHERE {};").format(sql.Identifier(schema, name), conditions).as_string(None)
