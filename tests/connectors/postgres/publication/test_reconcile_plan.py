"""The plan: what joins, what leaves, what cannot, what somebody changed. Values in, values out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pycdc.config.postgres_source import PostgresSourceConfig
from pycdc.connectors.postgres.catalog.metadata import TableRef
from pycdc.connectors.postgres.publication.published_state import CandidateTable, Published, PublishedState
from pycdc.connectors.postgres.publication.reconcile_plan import CapturedTables, ReconcilePlan, plan, record
from pycdc.connectors.postgres.publication.writability import Writability
from pycdc.connectors.postgres.snapshot.backlog import ADDED, RESYNC, Backlog, TableTask

PUBLISHED = Published(900, frozenset("iudt"), False, "owner", True, frozenset({1001, 1002}), {})


def source(**options: Any) -> PostgresSourceConfig:
    return PostgresSourceConfig.model_validate({"dsn": "dbname=shop", "tables": ["*"], **options})


BARE = Writability('"public"."t3"', "identity")


def table(oid: int, name: str = "", *, root: int | None = None, **facts: Any) -> CandidateTable:
    if isinstance(grants := facts.get("grants"), int):
        facts["grants"] = frozenset({grants})
    return CandidateTable(TableRef(oid, "public", name or f"t{oid}", root=root), **facts)


def seen(*candidates: CandidateTable, **published: Any) -> PublishedState:
    return PublishedState(replace(PUBLISHED, **published), candidates)


A, B = table(1, grants=1001), table(2, grants=1002)
KNOWN = record(seen(A, B), [1, 2], source())


def planned(*candidates: CandidateTable, known: CapturedTables | None = KNOWN, **options: Any) -> ReconcilePlan:
    return plan(seen(*candidates), known, source(**options), "shop")


def names(tables: Any) -> list[str]:
    return [str(found) for found in tables]


def test_where_nothing_changed_there_is_nothing_to_do() -> None:
    assert not planned(A, B)
    assert not planned(A, B, known=None)


def test_the_record_survives_its_form() -> None:
    known = record(seen(replace(A, part="ab"), B), [1, 2, 3], source(exclude_tables=["x"]))
    assert CapturedTables.of_state(known.state) == known
    assert known.grants == {1: {1001}, 2: {1002}}
    assert CapturedTables.of_state({}) is None


def test_a_table_without_a_record_joins_and_is_published_where_it_is_not() -> None:
    found = planned(A, B, table(3), table(4, grants=1001))
    assert names(found.publish) == ["public.t3"]
    assert names(found.joining) == ["public.t3", "public.t4"]


def test_a_partition_is_published_by_its_root_and_waits_for_it() -> None:
    root, leaf = table(3), table(4, root=3)
    found = planned(A, B, root, leaf)
    assert (names(found.publish), names(found.joining)) == (["public.t3"], ["public.t3", "public.t4"])
    found = planned(A, B, replace(root, owned=False), leaf)
    assert (names(found.publish), names(found.joining)) == ([], [])


@pytest.mark.parametrize(
    ("facts", "options", "reason"),
    [
        ({"writes": BARE}, {}, "has no replica identity"),
        ({"owned": False}, {}, "only its owner may do that"),
        ({}, {"manage_publication": False}, "manage_publication is off"),
        ({"reachable": False}, {}, "schema that this role may not use"),
        ({"selectable": False}, {}, "may not be read"),
        ({"row_security": True}, {}, "row security"),
        ({"logged": False}, {}, "unlogged"),
    ],
)
def test_what_cannot_be_captured_comes_with_its_reason_and_does_not_join(
    facts: dict[str, Any], options: dict[str, Any], reason: str
) -> None:
    found = planned(A, B, table(3, **facts), **options)
    (left,) = found.left_out
    assert reason in left.reason
    assert left.remedy
    assert not found.joining
    assert left.by_owner == ("is not published" in left.reason)


@pytest.mark.parametrize(
    ("facts", "options"),
    [
        ({"writes": BARE}, {"tables": ["*", "t3"]}),
        ({"selectable": False, "row_security": True}, {"snapshot": "never"}),
        ({"owned": False, "grants": 1001, "writes": BARE}, {"manage_publication": False}),
    ],
)
def test_what_does_no_harm_joins(facts: dict[str, Any], options: dict[str, Any]) -> None:
    found = planned(A, B, table(3, **facts), **options)
    assert names(found.joining) == ["public.t3"]
    assert not found.left_out


def test_a_publication_without_updates_takes_tables_without_identity() -> None:
    found = plan(seen(table(3, writes=BARE), operations=frozenset("i")), None, source(), "shop")
    assert names(found.publish) == ["public.t3"]


def test_a_table_whose_grant_is_gone_drifted_and_one_that_only_left_its_root_joins_anew() -> None:
    gone = plan(seen(A, table(2), grants=frozenset({1001})), KNOWN, source(), "shop")
    assert (names(gone.drifted), [drift.fact for drift in gone.drift]) == (
        ["public.t2"],
        ["publication shop no longer publishes public.t2"],
    )
    detached = planned(A, table(2))
    assert not detached.drift
    assert names(detached.joining) == ["public.t2"]


def test_a_grant_of_its_own_beside_a_new_one_is_no_gap() -> None:
    moving = replace(B, grants=frozenset({1002, 2000}))
    assert not planned(A, moving)
    back = plan(seen(A, replace(B, grants=frozenset({2000})), grants=frozenset({1001, 2000})), KNOWN, source(), "shop")
    assert "put back public.t2" in back.drift[0].fact


def test_rows_or_columns_that_are_no_longer_published_are_drift() -> None:
    assert "other rows or columns than before of public.t2" in planned(A, replace(B, part="ab")).drift[0].fact


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"operations": frozenset("i")}, "SET (publish = 'insert, update, delete, truncate')"),
        ({"via_root": True}, "SET (publish_via_partition_root = false)"),
    ],
)
def test_a_publication_that_was_narrowed_can_be_widened(change: dict[str, Any], remedy: str) -> None:
    (narrowed,) = plan(seen(A, B, **change), KNOWN, source(), "shop").narrowed
    assert remedy in narrowed.remedy


def test_a_publication_that_was_dropped_is_beyond_repair() -> None:
    dropped = plan(PublishedState(None, (table(1), table(2))), KNOWN, source(), "shop")
    read_again = plan(seen(A, B, oid=901), KNOWN, source(), "shop")
    for found in (dropped, read_again):
        assert [drift.repairable for drift in found.drift] == [False]
        assert len(found.drifted) == 2


def test_only_listed_tables_that_nothing_captured_needs_are_withdrawn() -> None:
    listed = {1001: TableRef(1, "public", "t1"), 1002: TableRef(2, "public", "t2"), 1003: TableRef(9, "public", "root")}
    observation = seen(A, table(5, root=9, grants=1003), listed=listed)
    assert names(plan(observation, KNOWN, source(), "shop").withdraw) == ["public.t2"]
    assert not plan(observation, KNOWN, source(manage_publication=False), "shop").withdraw


def test_a_table_that_is_gone_is_nobodys_fault() -> None:
    found = plan(seen(A, grants=frozenset({1001})), KNOWN, source(), "shop")
    assert not found


# -- the list of what is to be read


def test_a_table_is_expected_once_and_begins_anew_after_a_gap() -> None:
    backlog = Backlog([first := TableTask("public", "t", after=(b"7",), rows=7, request=ADDED)])
    assert backlog.expect([TableTask("public", "t", request=ADDED)], read_again=(RESYNC,)) == []
    assert list(backlog) == [first]
    (again,) = backlog.expect([TableTask("public", "t", request=RESYNC)], read_again=(RESYNC,))
    assert list(backlog) == [again]
    backlog.expect([TableTask("public", "t", where="tableoid = 7", request=ADDED)], read_again=(RESYNC,))
    assert len(backlog) == 2


def test_what_a_reading_waits_for_survives_a_restart_until_it_is_over() -> None:
    backlog = Backlog([task := TableTask("public", "t", request=ADDED, since=2**40)])
    (restored,) = Backlog.of_state(backlog.state)
    assert restored.since == 2**40
    backlog.settle(task)
    assert [one.since for one in Backlog.of_state(backlog.state)] == [None]


def test_a_reading_that_waits_lets_others_pass() -> None:
    backlog = Backlog([a := TableTask("public", "a"), b := TableTask("public", "b")])
    assert backlog.current is a
    backlog.postpone(a)
    assert backlog.current is b
