"""The stages of the resolver, each alone: what is planned, what a plan's statement leaves, what becomes of that."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from pycdc.config.postgres_sink import ConflictRule
from pycdc.model.event import Event, Forms, Partition
from pycdc.sinks.postgres.conflicts.batch_preparation import prepare_writes
from pycdc.sinks.postgres.conflicts.conflict import ConflictKind, Decision
from pycdc.sinks.postgres.conflicts.locked_rows import LockedRow
from pycdc.sinks.postgres.conflicts.plan import Planner
from pycdc.sinks.postgres.conflicts.policy import KnownColumns, Policy, detection
from pycdc.sinks.postgres.conflicts.run import run_plan, run_unguarded
from pycdc.sinks.postgres.conflicts.settle import settle, settle_late, settle_row
from pycdc.sinks.postgres.routing.field_paths import look_up
from pycdc.sinks.postgres.target_tables import TargetTable, read_table
from pycdc.sinks.postgres.writing.write_errors import ParkRequested, RowMissing, WriteRejected
from pycdc.sinks.postgres.writing.writes import RowWrite, WriteGroup, shape_of
from tests.sinks.postgres.routing.test_router import ITEMS

START = datetime(2026, 1, 1, tzinfo=UTC)
TOPIC = Partition("items", 0)
_JSON = Forms(typed=False)


def policy(default: str, table: TargetTable = ITEMS, *, by_origin: bool = True, **options: Any) -> Policy:
    rule = ConflictRule.model_validate({"default": default, **options})
    columns = {name: (name, look_up(name)) for name in table.columns}
    known = (KnownColumns("items", (), columns, False),)
    return Policy(table, rule, True, detection(rule, by_origin=by_origin), by_origin, None, known)


def event(before: Any = None, row: Any = None, at: int = 0, partition: Partition = TOPIC, offset: int = 0) -> Event:
    op = "d" if row is None else "u" if before is not None else "c"
    envelope = {"op": op, "source": {"ts_ms": at}}
    deleted = row is None
    return Event(
        partition, offset, at, raw_value=b"{}", row=row, before=before, deleted=deleted, envelope=envelope, forms=_JSON
    )


def write(
    operation: Any, key: int = 1, of: Event | None = None, table: TargetTable = ITEMS, **assigned: Any
) -> RowWrite:
    of = of or event(row={"id": key, **assigned})
    shape = shape_of(table, operation, ("id",), tuple(assigned))
    return RowWrite(shape, (str(key),), tuple(assigned.values()), (), of, of)


def planner(chosen: Policy, since: datetime | None = None) -> Planner:
    return Planner({chosen.table: chosen}, "back", since)


def group_of(*writes: RowWrite) -> WriteGroup:
    return WriteGroup(writes[0].shape, list(writes))


def locked(write: RowWrite, current: Any = None, **changes: Any) -> LockedRow:
    key = None if current is None else write.key
    incoming = None if write.shape.operation == "delete" else dict(zip(write.shape.set, write.set, strict=True))
    found = LockedRow(write, key, current, incoming, None, "", START, False, False, False)
    return replace(found, **changes)


# Prepared.


def test_a_write_behind_a_newer_version_of_its_row_is_settled_before_anything_is_written() -> None:
    chosen = policy("version", version="quantity")
    newer, older = write("upsert", name="a", quantity="2"), write("upsert", name="b", quantity="1")
    prepared = prepare_writes({ITEMS: chosen}, [newer, older])
    assert prepared.writes == [newer]
    assert [(each.conflict.kind, each.decision) for each in prepared.resolved] == [
        (ConflictKind.UPDATE_STALE, Decision.KEEP_LOCAL)
    ]


def test_an_upsert_that_became_an_update_is_kept_for_a_row_that_is_missing() -> None:
    chosen = policy("apply_remote", detect="old_values")
    upsert = write("upsert", of=event({"id": 1, "name": "a"}, {"id": 1, "name": "b"}), name="b")
    prepared = prepare_writes({ITEMS: chosen}, [upsert])
    assert [each.shape.operation for each in prepared.writes] == ["update"]
    assert list(prepared.inserts.values()) == [upsert]


def test_an_event_without_what_its_rule_needs_is_rejected() -> None:
    with pytest.raises(WriteRejected, match="quantity"):
        prepare_writes({ITEMS: policy("version", version="quantity")}, [write("upsert", name="a")])


# Planned.


@pytest.mark.parametrize(
    ("rule", "kind", "own"),
    [
        ({"default": "apply_remote"}, "origin", ("pycdc:back:", START)),
        ({"default": "last_write_wins"}, "origin", ("pycdc:back:", None)),
        ({"default": "version", "version": "quantity"}, "version", ('{"7"}',)),
        ({"default": "keep_local", "detect": "old_values"}, "before", None),
    ],
)
def test_a_plan_has_the_guard_of_its_rule_and_what_the_guard_compares(rule: Any, kind: str, own: Any) -> None:
    chosen = policy(**rule)
    made = write("update", of=event({"id": 1, "quantity": 7}, {"id": 1, "quantity": 7}), quantity="7")
    plan = planner(chosen, START).plan(group_of(made))
    assert plan.guard is not None
    assert plan.guard.kind == kind
    beside = tuple(plan.parameters[2:])
    assert len(beside) == 1 if own is None else beside == own


def test_nothing_is_guarded_where_nothing_can_conflict() -> None:
    free = replace(policy("apply_remote"), configured=False)
    plan = planner(free).plan(group_of(write("insert", name="a")))
    assert (plan.guard, plan.parameters) == (None, [])


def test_rows_are_written_without_their_events_only_where_no_rule_has_to_see_each() -> None:
    upsert = write("upsert", name="a").shape
    by_origin = planner(policy("apply_remote"), START).direct(upsert)
    assert by_origin is not None
    assert (by_origin.own, by_origin.complete) == (("pycdc:back:", START), True)
    assert planner(policy("version", version="quantity")).direct(upsert) is None


# Run.


@pytest.fixture
def connection(database: str) -> Any:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE items (id int PRIMARY KEY, name text, quantity int)")
        connection.execute("INSERT INTO items VALUES (1, 'old', 5), (2, 'old', 1)")
        yield connection


def items(connection: Any) -> TargetTable:
    table = read_table(connection, "items")
    assert table is not None
    return table


@pytest.mark.pg("newest")
@pytest.mark.parametrize("operation", ["upsert", "update"])
def test_a_plans_statement_returns_the_writes_that_it_left_alone(connection: Any, operation: str) -> None:
    table = items(connection)
    chosen = policy("version", table, version="quantity")
    writes = [write(operation, key, table=table, name="new", quantity="3") for key in (1, 2)]
    result = run_plan(connection, planner(chosen).plan(group_of(*writes)))
    assert result.left == writes[:1]
    assert result.written == ({("2",)} if operation == "upsert" else set())
    run_unguarded(connection, result.left)
    assert connection.execute("SELECT id, name FROM items ORDER BY id").fetchall() == [(1, "new"), (2, "new")]


@pytest.mark.pg("newest")
def test_rows_that_are_not_there_are_counted_where_nothing_guards_the_statement(connection: Any) -> None:
    table = items(connection)
    chosen = replace(policy("apply_remote", table, detect="none"), configured=False)
    delete = group_of(write("delete", 9, event({"id": 9}), table))
    update = group_of(write("upsert", 9, table=table, name="new"))
    assert run_plan(connection, planner(chosen).plan(delete)).left == delete.writes, "a guarded delete returns its rows"
    assert run_plan(connection, planner(chosen).plan(update)).missing == 0


# Settled.


def settled(default: str, found: LockedRow, since: datetime | None = None, **options: Any) -> Any:
    plan = planner(policy(default, **options), since).plan(group_of(found.write))
    outcome = settle_row(plan, found, {})
    kind = None if outcome.resolved is None else (outcome.resolved.conflict.kind, outcome.resolved.decision)
    return kind, outcome.rewrite and (outcome.rewrite.shape.operation, outcome.rewrite.set)


ROW = {"id": 1, "name": "theirs", "quantity": 1}


@pytest.mark.parametrize(
    ("default", "decision", "rewrite"),
    [
        ("apply_remote", Decision.APPLY_REMOTE, ("update", ("a",))),
        ("keep_local", Decision.KEEP_LOCAL, None),
    ],
)
def test_the_rule_decides_about_a_row_that_somebody_else_wrote(default: str, decision: Decision, rewrite: Any) -> None:
    found = locked(write("upsert", name="a"), ROW)
    assert settled(default, found) == ((ConflictKind.UPDATE_ORIGIN_DIFFERS, decision), rewrite)


def test_a_row_that_is_as_expected_once_it_is_locked_is_no_conflict() -> None:
    assert settled("keep_local", locked(write("upsert", name="a"), ROW, ours=True)) == (None, ("update", ("a",)))


def test_a_row_from_before_the_pipeline_is_overwritten_and_not_reported() -> None:
    found = locked(write("upsert", name="a"), ROW, committed_at=START)
    assert settled("apply_remote", found, START + timedelta(1)) == (None, ("update", ("a",)))


def test_a_row_that_went_meanwhile_is_made() -> None:
    assert settled("keep_local", locked(write("upsert", name="a"))) == (None, ("insert", ("a",)))


def test_a_delete_of_a_row_that_is_gone_is_reported_as_ignored() -> None:
    removal = write("delete", of=event({"id": 1}))
    assert settled("apply_remote", locked(removal)) == ((ConflictKind.DELETE_MISSING, Decision.IGNORED), None)


def test_a_rule_that_parks_and_an_update_that_must_find_its_row_end_the_stage_before_anything_is_written() -> None:
    with pytest.raises(ParkRequested):
        settled("park", locked(write("upsert", name="a"), ROW))
    change = write("update", name="a")
    must = change._replace(shape=shape_of(ITEMS, "update", ("id",), ("name",), must_exist=True))
    with pytest.raises(RowMissing):
        settled("apply_remote", locked(must))


def test_a_settlement_counts_what_is_not_done_and_leaves_out_keys_that_are_written_in_another_way() -> None:
    writes = [write("upsert", key, name="a") for key in (1, 2, 3)]
    plan = planner(policy("keep_local")).plan(group_of(*writes))
    found = [locked(writes[0], ROW), locked(writes[1], ROW, ours=True), locked(writes[2], ROW)]
    settlement = settle(plan, found, {("3",)}, {})
    assert (settlement.undone, settlement.unapplied) == (1, writes[:1])
    assert [each.key for each in settlement.rewrites] == [("2",)]
    assert len(settlement.resolved) == 1


@pytest.mark.parametrize(("remembered", "wins"), [(-1, True), (1, False)])
def test_a_late_event_wins_only_against_an_earlier_time(remembered: int, wins: bool) -> None:
    late = write("upsert", of=event(row={"id": 1, "name": "a"}, at=int(START.timestamp() * 1000)), name="a")
    times = [START + timedelta(seconds=remembered)]
    settlement = settle_late(policy("last_write_wins"), [locked(late, ROW, ours=True)], times)
    assert (settlement.won, settlement.lost) == (([late], set()) if wins else ([], {("1",)}))
    assert [each.decision for each in settlement.resolved] == ([] if wins else [Decision.KEEP_LOCAL])
