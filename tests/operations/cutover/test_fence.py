"""The fence lets no later write pass, whatever its snapshot; it lets the apply side in, and falls in time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pycdc.errors import EnvironmentNotReady
from pycdc.operations.cutover import fence
from pycdc.operations.cutover.fence import SQLSTATE, Fence
from tests.reading import wait_for

TABLES = [("public", "stock")]
WHOLE = [Fence(("public", "stock"), "the table belongs to the new system")]
UPDATE = "UPDATE stock SET on_hand = on_hand + 1"


@pytest.fixture
def owner(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE stock (sku text PRIMARY KEY, on_hand int, price int)")
        connection.execute("INSERT INTO stock VALUES ('a', 1, 1), ('b', 1, 1)")
        fence.install(connection)
        yield connection


def put_up(owner: psycopg.Connection[Any], fences: list[Fence] = WHOLE, until: str = "") -> None:
    with fence.locked(owner, TABLES, 10):
        fence.put_up(owner, fences, until)


def refused(connection: psycopg.Connection[Any], statement: str) -> bool:
    try:
        connection.execute(statement.encode())
    except psycopg.Error as error:
        assert error.sqlstate == SQLSTATE, error  # noqa: PT017
        return True
    return False


def test_a_transaction_with_an_older_snapshot_is_refused_too(owner: psycopg.Connection[Any], database: str) -> None:
    with psycopg.connect(database) as older:
        older.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        older.execute("SELECT * FROM stock")
        put_up(owner)
        assert refused(older, UPDATE)


def test_the_fence_waits_for_who_has_written_and_ends_nobody(owner: psycopg.Connection[Any], database: str) -> None:
    with psycopg.connect(database) as writer:
        writer.execute(UPDATE.encode())
        thread = threading.Thread(target=put_up, args=(owner,))
        thread.start()
        wait_for(lambda: waiting(database))
        writer.execute(UPDATE.encode())
        writer.commit()
        thread.join()
        assert refused(writer, UPDATE)
    assert owner.execute("SELECT sum(on_hand) FROM stock").fetchone() == (6,)


def waiting(database: str) -> bool:
    with psycopg.connect(database, autocommit=True) as connection:
        row = connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
    return row is not None and row[0] > 0


def test_a_transaction_that_does_not_end_is_an_error_with_a_remedy(
    owner: psycopg.Connection[Any], database: str
) -> None:
    with psycopg.connect(database) as idle:
        idle.execute(UPDATE.encode())
        with (
            pytest.raises(EnvironmentNotReady, match=r"open transactions hold public\.stock"),
            fence.locked(owner, TABLES, 0.3),
        ):
            pass


@pytest.mark.parametrize("statement", [UPDATE, "DELETE FROM stock", "INSERT INTO stock VALUES ('c')", "TRUNCATE stock"])
def test_every_kind_of_write_is_refused_and_reads_are_not(owner: psycopg.Connection[Any], statement: str) -> None:
    put_up(owner)
    assert refused(owner, statement)
    assert owner.execute("SELECT count(*) FROM stock").fetchone() == (2,)
    with fence.locked(owner, TABLES, 10):
        fence.take_down(owner, TABLES)
    assert not refused(owner, statement)
    put_up(owner)
    assert refused(owner, "INSERT INTO stock VALUES ('d')")


def test_the_apply_side_passes(owner: psycopg.Connection[Any], database: str) -> None:
    put_up(owner)
    owner.execute("SELECT pg_replication_origin_create('pycdc_fence_test')")
    try:
        with psycopg.connect(database, autocommit=True) as apply:
            apply.execute("SELECT pg_replication_origin_session_setup('pycdc_fence_test')")
            assert not refused(apply, UPDATE)
            assert not refused(apply, "DELETE FROM stock")
    finally:
        wait_for(lambda: not origin_is_used(owner))
        owner.execute("SELECT pg_replication_origin_drop('pycdc_fence_test')")


def origin_is_used(owner: psycopg.Connection[Any]) -> bool:
    row = owner.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()").fetchone()
    return row is not None and row[0] > 1


def test_columns_that_moved_are_refused_and_no_others(owner: psycopg.Connection[Any]) -> None:
    put_up(owner, [Fence(("public", "stock"), "on_hand belongs to the new system", columns=("on_hand",))])
    assert refused(owner, UPDATE)
    assert not refused(owner, "UPDATE stock SET price = 2, on_hand = on_hand")
    assert not refused(owner, "INSERT INTO stock VALUES ('c', 1, 1)")


def test_a_fence_until_a_time_falls_by_itself(owner: psycopg.Connection[Any]) -> None:
    row = owner.execute("SELECT (clock_timestamp() + interval '0.5 s')::text").fetchone()
    assert row is not None
    put_up(owner, until=row[0])
    assert refused(owner, UPDATE)
    wait_for(lambda: not refused(owner, UPDATE))
