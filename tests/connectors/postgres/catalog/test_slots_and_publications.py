"""Publications and slots: made right, safe to repeat, and where the role may not, with the SQL for somebody who may."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pycdc.clients import walsender_commands as walsender
from pycdc.connectors.postgres.catalog import slots_and_publications as admin_module
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import TableRef
from pycdc.connectors.postgres.catalog.slots_and_publications import (
    Admin,
    Blocker,
    add_tables_sql,
    create_publication_sql,
    create_slot_sql,
    drop_slot_sql,
)
from pycdc.errors import ConnectionLost, EnvironmentNotReady, SlotActive
from pycdc.model.change import Lsn


@pytest.fixture
def source(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def slot(source: psycopg.Connection[Any]) -> str:
    """A name; slots belong to the whole server."""
    return f"{source.info.dbname}_slot"


@pytest.fixture
def admin(database: str) -> Admin:
    return Admin(database)


@pytest.fixture
def catalog(database: str) -> Iterator[Catalog]:
    with Catalog(database) as catalog:
        yield catalog


@contextmanager
def role(source: psycopg.Connection[Any], database: str, attributes: str = "") -> Iterator[str]:
    """The DSN of a role without rights."""
    name = f"{source.info.dbname}_role"
    source.execute(sql.SQL("CREATE ROLE {} LOGIN " + attributes).format(sql.Identifier(name)))
    try:
        yield f"{database} user={name}"
    finally:
        source.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


# -- publications


def test_a_publication_lists_exactly_the_tables(
    admin: Admin, catalog: Catalog, source: psycopg.Connection[Any]
) -> None:
    source.execute('CREATE TABLE "a""b" (id int); CREATE TABLE "sel\'ect 🐘" (id int); CREATE TABLE other (id int)')
    source.execute("CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent)")
    chosen = [table for table in catalog.tables(["*"]) if table.name not in ("other", "child")]
    assert admin.ensure_publication('p"1', chosen, catalog.publication('p"1')) == chosen
    assert {table.name for table in catalog.publication_tables('p"1')} == {'a"b', "sel'ect 🐘", "parent"}


def test_missing_tables_are_added_and_nothing_is_taken_out(
    admin: Admin, catalog: Catalog, source: psycopg.Connection[Any]
) -> None:
    source.execute("CREATE TABLE a (id int); CREATE TABLE b (id int); CREATE PUBLICATION p FOR TABLE a")
    (b,) = catalog.tables(["b"])
    assert admin.ensure_publication("p", [b], catalog.publication("p")) == [b]
    assert admin.ensure_publication("p", [b], catalog.publication("p")) == []
    assert [table.name for table in catalog.publication_tables("p")] == ["a", "b"]


@pytest.mark.parametrize("via_root", [False, True])
def test_partitions_are_published_by_their_root_for_good(
    admin: Admin, catalog: Catalog, source: psycopg.Connection[Any], via_root: bool
) -> None:
    source.execute("CREATE TABLE m (day int) PARTITION BY LIST (day)")
    source.execute("CREATE TABLE m1 PARTITION OF m FOR VALUES IN (1)")
    tables = catalog.tables(["*"])
    admin.ensure_publication("p", tables, None, via_partition_root=via_root)
    source.execute("CREATE TABLE m2 PARTITION OF m FOR VALUES IN (2)")
    assert [table.name for table in catalog.publication_tables("p")] == (["m"] if via_root else ["m1", "m2"])
    assert admin.ensure_publication("p", catalog.tables(["*"]), catalog.publication("p")) == []


def test_a_publication_of_everything_lacks_nothing(
    admin: Admin, catalog: Catalog, source: psycopg.Connection[Any]
) -> None:
    source.execute("CREATE TABLE a (id int); CREATE PUBLICATION p FOR ALL TABLES")
    assert admin.ensure_publication("p", catalog.tables(["*"]), catalog.publication("p")) == []


def test_dropping_what_is_gone_is_harmless(admin: Admin) -> None:
    admin.drop_publication("no such publication")
    admin.drop_slot("no_such_slot")


def test_a_role_that_does_not_own_the_table_gets_the_sql_for_its_owner(
    catalog: Catalog, source: psycopg.Connection[Any], database: str
) -> None:
    source.execute("CREATE TABLE a (id int)")
    with role(source, database) as dsn, pytest.raises(EnvironmentNotReady) as caught:
        Admin(dsn).create_publication("p", catalog.tables(["a"]))
    assert 'let an owner run: CREATE PUBLICATION "p" FOR TABLE ONLY "public"."a";' in caught.value.hint
    assert "42501" in caught.value.fact


def test_the_statements_are_what_an_owner_would_write() -> None:
    tables = [TableRef(1, "public", "a"), TableRef(2, "s", "m", kind="p"), TableRef(3, "s", "m1", root=2)]
    assert create_publication_sql("p", tables, via_partition_root=True) == (
        'CREATE PUBLICATION "p" FOR TABLE ONLY "public"."a", "s"."m" WITH (publish_via_partition_root = true)'
    )
    assert add_tables_sql("p", tables[:1]) == 'ALTER PUBLICATION "p" ADD TABLE ONLY "public"."a"'
    assert create_slot_sql("s", failover=True) == (
        "SELECT pg_create_logical_replication_slot('s', 'pgoutput', failover => true)"
    )
    assert drop_slot_sql("it's") == "SELECT pg_drop_replication_slot('it''s')"


def test_the_slot_command_fits_the_servers_grammar() -> None:
    assert walsender.create_slot("s", version=140_000, export=True) == (
        'CREATE_REPLICATION_SLOT "s" LOGICAL pgoutput EXPORT_SNAPSHOT'
    )
    assert walsender.create_slot("s", version=180_000, export=False, failover=True) == (
        "CREATE_REPLICATION_SLOT \"s\" LOGICAL pgoutput (SNAPSHOT 'nothing', FAILOVER true)"
    )


# -- slots


def test_a_slot_starts_at_its_consistent_point(admin: Admin, catalog: Catalog, slot: str) -> None:
    created = admin.create_slot(slot)
    facts = catalog.slot(slot)
    assert facts is not None
    assert facts.confirmed_flush == created.consistent_point
    admin.drop_slot(slot)
    assert catalog.slot(slot) is None


def test_a_slot_that_exists_is_not_made_again(admin: Admin, slot: str) -> None:
    admin.create_slot(slot)
    with pytest.raises(SlotActive, match="another session made") as caught:
        admin.create_slot_with_snapshot(slot)
    assert drop_slot_sql(slot) in caught.value.hint


def test_a_slot_that_is_read_is_not_dropped(admin: Admin, slot: str, database: str) -> None:
    admin.create_slot(slot)
    with psycopg.connect(database, autocommit=True, replication="database") as reader:
        reader.execute(f"START_REPLICATION SLOT {slot} LOGICAL 0/0 (proto_version '1', publication_names 'p')".encode())
        with pytest.raises(SlotActive, match=str(reader.info.backend_pid)):
            admin.drop_slot(slot)
        reader.pgconn.finish()


@pytest.mark.pg(">=17")
def test_a_failover_slot_is_marked_as_one(admin: Admin, catalog: Catalog, slot: str) -> None:
    admin.create_slot(slot, failover=True)
    facts = catalog.slot(slot)
    assert facts is not None
    assert facts.failover


@pytest.mark.pg("<17")
def test_a_failover_slot_before_17_is_refused(admin: Admin, catalog: Catalog, slot: str) -> None:
    with pytest.raises(EnvironmentNotReady, match="need Postgres 17"):
        admin.create_slot(slot, failover=True)
    assert catalog.slot(slot) is None


def test_a_role_that_may_not_replicate_is_told_what_it_lacks(
    source: psycopg.Connection[Any], database: str, slot: str
) -> None:
    with role(source, database) as dsn, pytest.raises(EnvironmentNotReady) as caught:
        Admin(dsn).create_slot(slot)
    assert "REPLICATION" in caught.value.hint


# -- exported snapshots


def test_the_snapshot_is_the_rows_at_the_consistent_point(
    admin: Admin, source: psycopg.Connection[Any], database: str, slot: str
) -> None:
    source.execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2)")
    with admin.create_slot_with_snapshot(slot) as snapshot:
        source.execute("INSERT INTO t VALUES (3); DELETE FROM t WHERE id = 1")
        assert snapshot.slot.consistent_point <= Lsn.parse(
            source.execute("SELECT pg_current_wal_lsn()::text").fetchone()[0]  # type: ignore[index]
        )
        for _ in range(2):
            snapshot.ping()
            with psycopg.connect(database) as reader:
                reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                reader.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot.name))
                assert reader.execute("SELECT id FROM t ORDER BY id").fetchall() == [(1,), (2,)]


def test_a_snapshot_that_is_gone_says_so(admin: Admin, source: psycopg.Connection[Any], slot: str) -> None:
    with admin.create_slot_with_snapshot(slot) as snapshot:
        source.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        with pytest.raises(ConnectionLost, match="snapshot is gone"):
            snapshot.ping()


def test_a_snapshot_for_a_slot_made_before_is_of_now(admin: Admin, source: psycopg.Connection[Any], slot: str) -> None:
    created = admin.create_slot(slot)
    source.execute("CREATE TABLE t AS SELECT generate_series(1, 100)")
    with admin.export_snapshot(slot) as snapshot:
        assert snapshot.slot.consistent_point > created.consistent_point
        snapshot.ping()


def test_whoever_keeps_a_slot_from_being_made_is_named(
    admin: Admin, catalog: Catalog, source: psycopg.Connection[Any], database: str, slot: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(admin_module, "_PATIENCE", 0.2)
    source.execute("CREATE TABLE t (id int)")
    named: list[list[Blocker]] = []
    with psycopg.connect(database) as writer:
        writer.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(EnvironmentNotReady) as caught:
            admin.create_slot_with_snapshot(slot, timeout=1.0, on_wait=named.append)
        pid = writer.info.backend_pid
        assert [blocker.pid for blocker in named[-1]] == [pid]
        assert named[-1][0].age is not None
        assert f"pid {pid}, open for" in caught.value.fact
        assert f"pg_terminate_backend({pid})" in caught.value.hint
    assert catalog.slot(slot) is None


def test_a_standby_whose_primary_is_idle_says_what_to_run_there(
    admin: Admin, catalog: Catalog, source: psycopg.Connection[Any], database: str, slot: str, monkeypatch: Any
) -> None:
    """There the slot waits for WAL, and no transaction that could be named holds it up."""
    monkeypatch.setattr(admin_module, "_PATIENCE", 0.2)
    monkeypatch.setattr(admin_module, "_BLOCKERS", "SELECT 1, 1.0 WHERE %s IS NULL")
    monkeypatch.setattr(admin_module, "in_recovery", lambda dsn: True)
    source.execute("CREATE TABLE t (id int)")
    with psycopg.connect(database) as writer:
        writer.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(EnvironmentNotReady) as caught:
            admin.create_slot(slot, timeout=0.5)
    assert "the primary of this standby is idle" in caught.value.fact
    assert caught.value.hint == "run on the primary: SELECT pg_log_standby_snapshot()"
    assert catalog.slot(slot) is None


def test_a_slot_is_made_once_the_open_transaction_ends(
    admin: Admin, source: psycopg.Connection[Any], database: str, slot: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(admin_module, "_PATIENCE", 0.2)
    source.execute("CREATE TABLE t (id int)")
    with psycopg.connect(database) as writer:
        writer.execute("INSERT INTO t VALUES (1)")
        with admin.create_slot_with_snapshot(slot, timeout=30.0, on_wait=lambda blockers: writer.commit()) as snapshot:
            assert snapshot.slot.name == slot


def test_an_error_while_waiting_leaves_no_slot_behind(
    admin: Admin, catalog: Catalog, source: psycopg.Connection[Any], database: str, slot: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(admin_module, "_PATIENCE", 0.2)
    source.execute("CREATE TABLE t (id int)")

    def stop(blockers: list[Blocker]) -> None:
        raise KeyboardInterrupt

    with psycopg.connect(database) as writer:
        writer.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(KeyboardInterrupt):
            admin.create_slot_with_snapshot(slot, on_wait=stop)
    assert catalog.slot(slot) is None


def test_a_prepared_transaction_is_named_as_one(admin: Admin) -> None:
    assert str(Blocker(0)) == "a prepared transaction"
    assert str(Blocker(7, 12.3)) == "pid 7, open for 12 s"
