"""A part of the rows, columns that are added to, and tables that only two passes can compare."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pycdc.config import validate, validate_capture
from pycdc.operations.verify.options import VerifyOptions
from pycdc.operations.verify.reports.html_report import html
from pycdc.operations.verify.reports.json_report import document
from pycdc.operations.verify.reports.junit_report import junit
from pycdc.operations.verify.result import Verification
from pycdc.operations.verify.verification import verify
from tests.chaos.verified_pair import Pair, told

pytestmark = pytest.mark.pg("newest")

TABLES = (
    "CREATE TABLE t (id int PRIMARY KEY, name text, n int NOT NULL); ALTER TABLE t REPLICA IDENTITY FULL;"
    "INSERT INTO t SELECT n, 'n' || n, n FROM generate_series(1, 50) n",
    "CREATE TABLE t (id bigint PRIMARY KEY, label text, n int NOT NULL DEFAULT 0, side text)",
)


@pytest.fixture
def pair(postgres: Any, kafka: Any, registry: Any, topic_prefix: str) -> Iterator[Pair]:
    source, target = postgres.create_database(), postgres.create_database()
    route = {
        "topic": f"{topic_prefix}.public.t",
        "table": "t",
        "set": {"label": "name", "n": "n"},
        "constants": {"side": "left"},
        "conflict": {"columns": {"n": "delta"}, "detect": "none"},
    }
    servers = kafka.bootstrap, registry.url, topic_prefix
    try:
        with Pair(source, target, *servers, tables=TABLES, sink={"routes": [route]}) as pair:
            yield pair
    finally:
        postgres.drop_database(source)
        postgres.drop_database(target)


def test_only_rows_for_which_the_condition_is_true_are_compared(pair: Pair) -> None:
    """It names the target's columns, also where the source calls them otherwise or does not have them."""
    pair.sql(pair.target, "UPDATE t SET label = 'wrong' WHERE id IN (7, 40); DELETE FROM t WHERE id IN (8, 41)")
    wanted = [("public.t", "changed", ("7",), ("label",)), ("public.t", "missing", ("8",), ())]
    with pair.verifier(where="t.id < 20 AND side = 'left' -- and no more") as verifier:
        found = verifier.run()
    assert told(found) == wanted
    assert found.tables[0].source_rows == 19


@pytest.mark.parametrize("where", ["nothing = 1", "id <", "true); DELETE FROM t; SELECT (1"])
def test_a_condition_that_cannot_be_asked_is_refused_and_does_nothing(pair: Pair, where: str) -> None:
    with pair.verifier(where=where) as verifier:
        found = verifier.run()
    assert (found.equal, told(found)) == (False, [])
    assert "--where cannot be asked" in (found.tables[0].problem or "")
    assert pair.sql(pair.target, "SELECT count(*) FROM t") == [(50,)]


def test_a_column_that_changes_are_added_to_is_compared_where_nothing_is_in_flight(pair: Pair) -> None:
    pair.sql(pair.source, "UPDATE t SET n = n + 5 WHERE id = 3")
    with pair.verifier() as verifier:
        assert told(verifier.run()) == []
        pair.sql(pair.target, "UPDATE t SET n = n + 1 WHERE id = 9")
        assert told(verifier.run()) == [("public.t", "changed", ("9",), ("n",))]


@pytest.fixture
def alone(postgres: Any, kafka: Any, registry: Any, topic_prefix: str) -> Iterator[tuple[str, str, Any]]:
    """Two databases that somebody else's sink keeps alike: no slot, no offsets, and a table without a key."""
    source, target = postgres.create_database(), postgres.create_database()
    tables = "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE log (a int, b text, c json)"
    fill = (
        "INSERT INTO t VALUES (1, 'one'), (2, 'two');"
        "INSERT INTO log SELECT n % 9, 'b' || n % 9, '{}' FROM generate_series(1, 90) n"
    )
    Pair.sql(source, f"{tables}; CREATE PUBLICATION {topic_prefix} FOR ALL TABLES; {fill}")
    Pair.sql(target, f"{tables}; {fill}")
    pair = Pair(
        source,
        target,
        kafka.bootstrap,
        registry.url,
        topic_prefix,
        sink={"routes": [{"topic": f"{topic_prefix}.public.{name}", "table": name} for name in ("t", "log")]},
        reading={"publication": topic_prefix, "manage_publication": False},
    )
    yield source, target, pair
    postgres.drop_database(source)
    postgres.drop_database(target)


def twice(pair: Pair, tell: Any = lambda text: None, **options: Any) -> Verification:
    given = VerifyOptions(capture=validate_capture(pair.capture), two_passes=0.1, **options)
    return verify(validate(pair.apply), given, tell)


def test_two_passes_are_labelled_in_every_form_of_the_report(alone: Any) -> None:
    source, _, pair = alone
    found = twice(pair)
    assert (found.equal, found.exact) == (True, False)
    assert document(found)["exact"] is False
    assert "not exact" in html(found)
    assert b'name="exact" value="false"' in junit(found)
    assert b"not exact: two passes" in junit(found)
    assert pair.sql(source, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()") == [(0,)]


def test_what_changes_between_the_passes_is_left_out_and_the_rest_is_named(alone: Any) -> None:
    _, target, pair = alone
    pair.sql(target, "UPDATE t SET v = 'wrong'")

    def tell(text: str) -> None:
        if "looks again" in text:
            pair.sql(target, "UPDATE t SET v = 'one' WHERE id = 1")

    found = twice(pair, tell, tables=("public.t",))
    assert told(found) == [("public.t", "changed", ("2",), ("v",))]
    assert found.differences[0].target is None


def test_a_table_without_a_key_is_compared_as_a_multiset(alone: Any) -> None:
    _, target, pair = alone
    pair.sql(target, "INSERT INTO log VALUES (3, 'b3', '{}'); INSERT INTO log VALUES (NULL, NULL, NULL)")
    pair.sql(target, "DELETE FROM log WHERE ctid = (SELECT min(ctid) FROM log WHERE a = 5)")
    found = twice(pair)
    assert [(kind, columns) for _, kind, _, columns in told(found)] == [("extra", ()), ("extra", ()), ("missing", ())]
    assert (found.tables[1].source_rows, found.tables[1].target_rows) == (90, 91)
    assert {tuple(one.key) for one in found.differences} == {("row digest",)}
