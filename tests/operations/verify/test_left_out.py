"""Nothing that differs is called equal because it was left out: what is not compared is refused, or named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pycdc.clients.postgres_errors import source_error
from pycdc.operations.verify.readers import SnapshotSession, TableRewritten, rewritten
from tests.chaos.verified_pair import Pair

pytestmark = pytest.mark.pg("newest")


@pytest.fixture
def pair(postgres: Any, kafka: Any, registry: Any, topic_prefix: str) -> Iterator[Pair]:
    source, target = postgres.create_database(), postgres.create_database()
    tables = (
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY, v text);"
        "CREATE TABLE nowhere (id int PRIMARY KEY);"
        "INSERT INTO t SELECT n, 'v' FROM generate_series(1, 9) n; INSERT INTO u VALUES (1, 'one')",
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY, v text)",
    )
    sink = {"routes": [{"topic": f"{topic_prefix}.public.{name}", "table": name} for name in ("t", "u")]}
    try:
        with Pair(source, target, kafka.bootstrap, registry.url, topic_prefix, tables=tables, sink=sink) as pair:
            yield pair
    finally:
        postgres.drop_database(source)
        postgres.drop_database(target)


def test_a_session_reads_the_next_snapshot_after_a_table_was_rewritten(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as holder, psycopg.connect(database, autocommit=True) as one:
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = holder.execute("SELECT pg_export_snapshot()").fetchone()
        assert row is not None
        session = SnapshotSession(one, source_error)
        session.use(row[0])
        with pytest.raises(TableRewritten), session.transaction():
            raise rewritten("a table")
        with session.transaction() as connection:
            assert connection.execute("SELECT 1").fetchall() == [(1,)]


@pytest.mark.parametrize("options", [{"tables": ("public.nothing",)}, {"columns": ("nothing",)}])
def test_what_was_asked_for_and_is_not_there_is_refused(pair: Pair, options: dict[str, Any]) -> None:
    with pair.verifier(**options) as verifier, pytest.raises(Exception, match="nothing"):
        verifier.run()
