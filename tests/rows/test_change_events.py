"""What a run means in Debezium's terms, before any bytes are written."""

from __future__ import annotations

import pytest

from pycdc.config.values import CompatibilityConfig, TableRule, ValuesConfig
from pycdc.errors import ConversionError, ProtocolError
from pycdc.model.change import UNCHANGED, Op, Run, Table
from pycdc.rows.change_events import RecordPlan, events
from pycdc.rows.encoder import RowEncoder
from pycdc.rows.plan import plan_table
from pycdc.rows.tuples import ColumnBytes
from tests.connectors.postgres import frames
from tests.serialization.runs import COMMIT, FULL, LOG, USERS, column, run

OLD: list[ColumnBytes] = [b"1", None, None]
NEW: list[ColumnBytes] = [b"1", b"Ada", b"36"]
MOVED: list[ColumnBytes] = [b"2", b"Ada", b"36"]


def told(made: Run, rule: TableRule | None = None) -> list[RecordPlan]:
    assert made.table is not None
    plan = plan_table(made.table, [] if rule is None else [rule], ValuesConfig(), CompatibilityConfig())
    return list(events(made, RowEncoder(plan, lambda table, column: None)))


def update(table: Table, new: list[ColumnBytes], old: list[ColumnBytes] | None = None, kind: bytes = b"K") -> Run:
    return run(Op.UPDATE, table, frames.update(table.oid, new, old, kind))


def test_inserts_and_reads_have_an_after_and_a_key() -> None:
    made = run(Op.CREATE, USERS, frames.insert(1, NEW), frames.insert(1, MOVED), index=5)
    assert told(made) == [
        RecordPlan(Op.CREATE, COMMIT - 99, 5, NEW, None, NEW),
        RecordPlan(Op.CREATE, COMMIT - 98, 6, MOVED, None, MOVED),
    ]
    assert told(run(Op.READ, USERS, b"1\tAda\t36")) == [RecordPlan(Op.READ, COMMIT, 0, NEW, None, NEW)]


def test_an_update_without_an_old_row_has_no_before() -> None:
    [event] = told(update(USERS, NEW))
    assert (event.op, event.before, event.after, event.partial) == (Op.UPDATE, None, NEW, False)


def test_an_update_of_the_key_is_a_delete_and_a_create_that_name_each_other() -> None:
    deleted, created = told(update(USERS, MOVED, OLD))
    assert (deleted.op, deleted.key, deleted.before, deleted.after) == (Op.DELETE, OLD, OLD, None)
    assert (deleted.partial, deleted.other_key) == (True, MOVED)
    assert (created.op, created.key, created.before, created.after) == (Op.CREATE, MOVED, None, MOVED)
    assert (created.partial, created.other_key) == (False, OLD)


def test_a_full_old_row_whose_key_stays_is_an_update_with_a_before() -> None:
    old: list[ColumnBytes] = [b"1", b"Ad", b"big"]
    [event] = told(update(FULL, [b"1", b"Ada", UNCHANGED], old, b"O"))
    assert (event.op, event.before, event.after, event.partial) == (Op.UPDATE, old, [b"1", b"Ada", b"big"], False)


LONG = Table(4, "public", "long", (column("name", identity=True, nullable=False), column("big")), ("name",))


def test_an_old_key_that_did_not_change_is_an_update_under_that_key() -> None:
    """Postgres sends it where the key is TOASTed, and leaves it out of the new row."""
    [event] = told(update(LONG, [UNCHANGED, UNCHANGED], [b"Ada", None]))
    assert (event.op, event.key, event.after) == (Op.UPDATE, [b"Ada", UNCHANGED], [b"Ada", UNCHANGED])
    assert event.partial


def test_a_delete_has_what_the_identity_tells() -> None:
    [event] = told(run(Op.DELETE, USERS, frames.delete(1, OLD)))
    assert (event.op, event.key, event.before, event.after, event.partial) == (Op.DELETE, OLD, OLD, None, True)
    [event] = told(run(Op.DELETE, FULL, frames.delete(2, NEW, b"O")))
    assert (event.before, event.partial) == (NEW, False)


def test_a_table_without_a_key_has_no_change_of_key() -> None:
    [event] = told(update(Table(3, "public", "log", LOG.columns, (), "f"), [b"2", b"y"], [b"1", b"x"], b"O"))
    assert event.op is Op.UPDATE


def test_a_truncate_has_no_rows() -> None:
    [event] = told(run(Op.TRUNCATE, USERS, frames.truncate(1)))
    assert (event.op, event.key, event.before, event.after) == (Op.TRUNCATE, None, None, None)


@pytest.mark.parametrize(
    "made", [run(Op.DELETE, USERS, frames.delete(1, OLD)), update(USERS, MOVED, OLD)], ids=["delete", "update"]
)
def test_an_old_row_without_the_message_key_is_refused_with_a_remedy(made: Run) -> None:
    with pytest.raises(ConversionError, match=r"public\.users do not hold the message key") as error:
        told(made, TableRule(key=["name"]))
    assert "REPLICA IDENTITY FULL" in error.value.hint


MESSAGES = {
    Op.CREATE: frames.insert(1, NEW),
    Op.UPDATE: frames.update(1, NEW, OLD),
    Op.DELETE: frames.delete(1, OLD),
}


@pytest.mark.parametrize("op", MESSAGES)
def test_a_frame_cut_at_any_place_or_too_long_is_a_protocol_error_that_names_the_table(op: Op) -> None:
    [whole] = run(op, USERS, MESSAGES[op]).frames
    for frame in (*(whole[:cut] for cut in range(len(whole))), whole + b"N"):
        with pytest.raises(ProtocolError, match=r"public\.users"):
            told(Run(op, USERS, run(op, USERS).transaction, 0, [frame]))


def test_a_tuple_of_another_kind_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match=r"public\.users"):
        told(run(Op.CREATE, USERS, frames.delete(1, OLD)))
    with pytest.raises(ProtocolError, match=r"public\.users"):
        told(run(Op.DELETE, USERS, frames.insert(1, NEW)))
