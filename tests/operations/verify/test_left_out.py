"""Nothing that differs is called equal because it was left out: what is not compared is refused, or named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any, cast

import psycopg
import pytest

from pycdc.clients.kafka_inspection import OffsetSpan
from pycdc.clients.postgres_errors import source_error
from pycdc.config import validate, validate_capture
from pycdc.config.pipeline import require_apply
from pycdc.errors import ConfigError
from pycdc.model.event import Partition
from pycdc.operations.verify.canonical import pin
from pycdc.operations.verify.cut import EndSessions, open_cut
from pycdc.operations.verify.options import VerifyOptions, ends_of
from pycdc.operations.verify.readers import SnapshotSession, TableRewritten, rewritten
from pycdc.operations.verify.reports.html_report import html
from pycdc.operations.verify.reports.json_report import document
from pycdc.operations.verify.reports.junit_report import junit
from pycdc.operations.verify.stream_window import StreamWindow
from pycdc.operations.verify.table_comparison import TableComparison
from tests.chaos.verified_pair import Pair, told

pytestmark = pytest.mark.pg("newest")


@pytest.fixture
def pair(postgres: Any, kafka: Any, registry: Any, topic_prefix: str) -> Iterator[Pair]:
    source, target = postgres.create_database(), postgres.create_database()
    tables = (
        "CREATE TABLE t (id int PRIMARY KEY, v text, x text); CREATE TABLE u (id int PRIMARY KEY, v text);"
        "CREATE TABLE nowhere (id int PRIMARY KEY);"
        "INSERT INTO t SELECT n, 'v' FROM generate_series(1, 9) n; INSERT INTO u VALUES (1, 'one')",
        "CREATE TABLE t (id int PRIMARY KEY, v text, x uuid); CREATE TABLE u (id int PRIMARY KEY, v text)",
    )
    sink = {
        "on_error": "park",
        "routes": [{"topic": f"{topic_prefix}.public.{name}", "table": name} for name in ("t", "u")],
    }
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


def test_a_table_that_cannot_be_compared_is_named_without_values_and_the_others_are_compared(pair: Pair) -> None:
    pair.sql(pair.source, "INSERT INTO t VALUES (10, 'v', 'a secret')")
    pair.sql(pair.target, "UPDATE u SET v = 'wrong'")
    with pair.verifier() as verifier:
        for _ in range(2):  # the first may still have it in flight
            found = verifier.run()
    assert told(found) == [("public.u", "changed", ("1",), ("v",))]
    problems = {table.table: table.problem for table in found.tables}
    assert problems["public.u"] is None
    assert "a value of a row cannot be compared" in (problems["public.t"] or "")
    assert "secret" not in f"{document(found)}{html(found)}{junit(found)!r}"
    with pair.verifier(tables=("public.t",)) as verifier:
        found = verifier.run()
    assert (found.equal, found.differs, found.left_out["public.u"]) == (False, False, "it was not asked for")


def test_a_table_of_the_source_that_no_route_takes_is_named(pair: Pair) -> None:
    with pair.verifier() as verifier:
        found = verifier.run()
    assert found.equal
    assert found.left_out == {"public.nowhere": f"no route takes its topic {pair.capture['name']}.public.nowhere"}


def test_a_table_that_is_altered_all_the_time_keeps_no_other_from_being_compared(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TableComparison.run

    def run(self: TableComparison, *given: Any) -> Any:
        if self.unit.target.name == "t":
            raise rewritten("table t")
        return real(self, *given)

    monkeypatch.setattr(TableComparison, "run", run)
    pair.sql(pair.target, "UPDATE u SET v = 'wrong'")
    with pair.verifier() as verifier:
        found = verifier.run()
    assert told(found) == [("public.u", "changed", ("1",), ("v",))]
    assert "was altered" in (found.tables[0].problem or "")


def test_events_of_a_partition_that_a_topic_got_meanwhile_are_predicted(pair: Pair) -> None:
    """It is not among the ends that the pipeline has to reach, but what was read of it is in the target."""
    config, options = validate(pair.apply), VerifyOptions(capture=validate_capture(pair.capture))
    ends, partition = ends_of(require_apply(config), options), Partition(f"{pair.capture['name']}.public.t", 0)
    other = Partition(partition.topic, 1)
    pair.sql(
        pair.target,
        "INSERT INTO pycdc.apply_offsets SELECT (jsonb_populate_record(o, '{\"partition\": 1}')).*"
        f" FROM pycdc.apply_offsets o WHERE topic = '{partition.topic}'",
    )

    class Window:
        def ends(self) -> dict[Partition, OffsetSpan]:
            return {partition: OffsetSpan(0, 1)}

    with closing(EndSessions(ends)) as sessions, closing(open_cut(ends, sessions, cast(StreamWindow, Window()))) as cut:
        assert set(cut.vector) == {partition, other}


def test_a_query_of_a_verification_that_is_gone_ends(database: str) -> None:
    """Else the server would hash a large table to its end for nobody."""
    with psycopg.connect(database, autocommit=True) as connection:
        pin(connection)
        assert connection.execute("SHOW client_connection_check_interval").fetchall() == [("10s",)]


@pytest.mark.parametrize("options", [{"tables": ("public.nothing",)}, {"columns": ("nothing",)}])
def test_what_was_asked_for_and_is_not_there_is_refused(pair: Pair, options: dict[str, Any]) -> None:
    with pair.verifier(**options) as verifier, pytest.raises(ConfigError, match="nothing"):
        verifier.run()
