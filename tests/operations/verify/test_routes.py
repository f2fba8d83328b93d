"""Routes and types of every kind: equal databases are found equal, and a fault in each column is found and named."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pycdc.operations.verify import routed_comparison
from pycdc.operations.verify.result import ComparisonMethod, Verification
from tests.chaos.verified_pair import Pair, told

pytestmark = pytest.mark.pg("newest")

Make = Callable[..., Pair]


@pytest.fixture
def make(postgres: Any, kafka: Any, registry: Any, topic_prefix: str) -> Iterator[Make]:
    """Start a pair: statements for the source and the target, and routes with `{name}` for the prefix of topics."""
    source, target = postgres.create_database(), postgres.create_database()
    with ExitStack() as stack:

        def start(source_sql: str, target_sql: str, *routes: dict[str, Any], **options: Any) -> Pair:
            named = [{**route, "topic": route["topic"].format(name=topic_prefix)} for route in routes]
            sink = {**options.pop("sink", {}), "routes": named}
            return stack.enter_context(
                Pair(
                    source,
                    target,
                    kafka.bootstrap,
                    registry.url,
                    topic_prefix,
                    tables=(source_sql, target_sql),
                    sink=sink,
                    **options,
                )
            )

        yield start
    postgres.drop_database(source)
    postgres.drop_database(target)


def verified(pair: Pair, **options: Any) -> Verification:
    with pair.verifier(**options) as verifier:
        return verifier.run()


def faults(pair: Pair, statement: str, **options: Any) -> list[Any]:
    """What a verification finds after the statement."""
    pair.sql(pair.target, statement)
    return told(verified(pair, **options))


TYPES = """CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TABLE every (id uuid PRIMARY KEY, a smallint, b bigint, c numeric(20,4), d numeric, e real, f float8, g boolean,
h text, i varchar(20), j char(6), k bytea, l date, m time, n timestamp, o timestamptz, p {interval}, q jsonb, r json,
s int[], t text[], u inet, v {mood}, w money, x bit(3), y int4range, z numeric(8,2)[]);
"""
ROWS = """INSERT INTO every SELECT gen_random_uuid(), n, n * 1e12, n + 0.5, n / 3.0, n / 7.0, sqrt(n), n % 2 = 0,
'tëxt ' || n, 'v' || n, 'c' || n, decode(md5(n::text), 'hex'),
'2026-01-01'::date + n, '10:00'::time + n * interval '1.000001 s',
'2026-01-01'::timestamp + n * interval '1.000001 s', '1999-12-31'::timestamptz + n * interval '1 day',
{interval}, jsonb_build_object('n', n, 'x', 1.50), '{{"b": 1,  "a": 2}}', ARRAY[n, NULL], ARRAY['a,b', NULL, ''],
'10.0.0.1', 'glad', n, B'101', int4range(n, n + 5), ARRAY[1.10, n] FROM generate_series(1, 40) n;
INSERT INTO every (id, d, e, f, h, i, n, o) VALUES
(gen_random_uuid(), 'NaN', 'Infinity', '-Infinity', '', '', 'infinity', '-infinity'),
(gen_random_uuid(), 12345678901234567890.123456789, '-0', '-0', NULL, NULL, NULL, NULL);
"""
EXACT = {"capture": {"values": {"decimal": "string"}}}
"""Else a numeric that is NaN stops the capture."""
WRONG = {
    "a": "a + 1",
    "b": "b + 1",
    "c": "c + 0.0001",
    "d": "d + 0.00000001",
    "e": "e * 1.0001::real",
    "f": "f * (1 + 3e-16)",
    "g": "NOT g",
    "h": "h || ' '",
    "i": "upper(i)",
    "j": "'x'",
    "k": r"k || '\x00'",
    "l": "l + 1",
    "m": "m + interval '1 microsecond'",
    "n": "n + interval '1 microsecond'",
    "o": "o + interval '1 microsecond'",
    "q": """q || '{"x": 1.6}'""",
    "r": """'{"b": 1, "a": 2}'""",
    "s": "s || 1",
    "t": "ARRAY['a', 'b', NULL, '']",
    "u": "'10.0.0.2'",
    "v": "'sad'",
    "w": "w + '0.01'::money",
    "x": "B'111'",
    "y": "int4range(1, 3)",
    "z": "ARRAY[1.11]",
}


@pytest.mark.parametrize("mood", ["mood", "text"])
def test_a_fault_in_a_column_of_any_type_is_found(make: Make, mood: str) -> None:
    target = TYPES.format(interval="text", mood=mood)
    source = TYPES.format(interval="text", mood="mood") + ROWS.format(interval="'one'")
    pair = make(source, target, {"topic": "{name}.public.every", "table": "every"}, **EXACT)
    found = verified(pair)
    assert told(found) == []
    assert (found.tables[0].method, found.tables[0].source_rows) == (ComparisonMethod.HASHED, 42)
    for number, (column, wrong) in enumerate(WRONG.items(), 1):
        pair.sql(pair.target, f"UPDATE every SET {column} = {wrong} WHERE h = 'tëxt {number}'")
    ids = {str(row[1]): row[0] for row in pair.sql(pair.source, "SELECT h, id FROM every")}
    wrong_ones = {ids[one.key["id"]]: one.columns for one in verified(pair).differences}
    assert wrong_ones == {f"tëxt {number}": (column,) for number, column in enumerate(WRONG, 1)}


def test_an_interval_that_records_hold_in_microseconds_goes_through_the_route(make: Make) -> None:
    source = TYPES.format(interval="interval", mood="mood") + ROWS.format(interval="n * interval '1 month 2 days 1 s'")
    pair = make(
        source,
        TYPES.format(interval="interval", mood="mood"),
        {"topic": "{name}.public.every", "table": "every"},
        kafka={"values": {"interval": "numeric"}},
        **EXACT,
    )
    found = verified(pair)
    assert (told(found), found.tables[0].method) == ([], ComparisonMethod.ROUTED)
    assert "interval" in (found.tables[0].why_routed or "")
    wrong = faults(pair, "UPDATE every SET p = p + interval '1 us', h = 'x' WHERE h = 'tëxt 7'")
    assert [(kind, columns) for _, kind, _, columns in wrong] == [("changed", ("h", "p"))]


PEOPLE = """CREATE TABLE people (id int PRIMARY KEY, name text, mail text, card text, kind text,
    at timestamptz DEFAULT now());"""
FILL = """INSERT INTO people SELECT n, 'Zoë ' || n, 'm' || n || '@x', '1234 ' || n,
    CASE n % 3 WHEN 0 THEN 'a' ELSE 'b' END FROM generate_series(1, 50) n;"""


def test_masked_hashed_truncated_and_renamed_columns_are_compared_as_they_are_written(make: Make) -> None:
    rules = [
        {
            "tables": "public.people",
            "mask": {"card": 4},
            "hash": [{"columns": ["mail"], "salt": "s"}],
            "truncate": {"name": 3},
            "rename": {"kind": "sort"},
            "exclude_columns": ["at"],
        }
    ]
    target = "CREATE TABLE people (id int PRIMARY KEY, name text, mail text, card text, sort text, more int DEFAULT 7);"
    pair = make(PEOPLE + FILL, target, {"topic": "{name}.public.people", "table": "people"}, capture={"rules": rules})
    assert pair.sql(pair.target, "SELECT DISTINCT name, card FROM people") == [("Zoë", "****")]
    found = verified(pair)
    assert (told(found), found.tables[0].method) == ([], ComparisonMethod.ROUTED)
    assert found.tables[0].not_compared == {"more": "the route does not write it"}
    wrong = faults(
        pair,
        "UPDATE people SET card = '***' WHERE id = 7; UPDATE people SET mail = 'm8@x' WHERE id = 8;"
        "UPDATE people SET more = 1 WHERE id = 9; DELETE FROM people WHERE id = 10; INSERT INTO people VALUES (99)",
    )
    assert [(kind, key, columns) for _, kind, key, columns in wrong] == [
        ("changed", ("7",), ("card",)),
        ("changed", ("8",), ("mail",)),
        ("extra", ("99",), ()),
        ("missing", ("10",), ()),
    ]


def test_events_that_go_into_several_tables_are_compared_in_each(make: Make) -> None:
    target = (
        "CREATE TABLE a (id int PRIMARY KEY, name text); CREATE TABLE b (id int PRIMARY KEY, mail text, side text);"
    )
    pair = make(
        PEOPLE + FILL,
        target,
        {"topic": "{name}.public.people", "table": "a", "when": {"kind": "a"}, "set": {"name": "name"}},
        {
            "topic": "{name}.public.people",
            "table": "b",
            "when": {"kind": "b"},
            "set": {"mail": "mail"},
            "constants": {"side": "left"},
        },
    )
    found = verified(pair)
    assert [(table.table, table.source_rows, table.method) for table in found.tables] == [
        ("public.a", 16, ComparisonMethod.HASHED),
        ("public.b", 34, ComparisonMethod.HASHED),
    ]
    assert told(found) == []
    assert faults(pair, "INSERT INTO a VALUES (1, 'Zoë 1'); UPDATE b SET side = 'right' WHERE id = 2") == [
        ("public.a", "extra", ("1",), ()),
        ("public.b", "changed", ("2",), ("side",)),
    ]


def test_several_tables_that_go_into_one_are_compared_together(make: Make) -> None:
    source = """CREATE TABLE part (id int, name text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (20);
    CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (20) TO (100);
    INSERT INTO part SELECT n, 'n' || n FROM generate_series(1, 50) n;"""
    target = """CREATE TABLE part (id int, name text, PRIMARY KEY (id)) PARTITION BY HASH (id);
    CREATE TABLE part_a PARTITION OF part FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE part_b PARTITION OF part FOR VALUES WITH (MODULUS 2, REMAINDER 1);"""
    pair = make(source, target, {"topic": "{name}.public.part_*", "table": "part"})
    found = verified(pair)
    assert (told(found), len(found.tables), found.tables[0].source_rows) == ([], 1, 50)
    assert found.tables[0].sources == ("public.part_1", "public.part_2")
    assert faults(pair, "DELETE FROM part WHERE id = 30; INSERT INTO part VALUES (70, 'n70')") == [
        ("public.part", "extra", ("70",), ()),
        ("public.part", "missing", ("30",), ()),
    ]


def test_columns_that_several_tables_own_are_compared_with_each(make: Make) -> None:
    source = """CREATE TABLE names (id int PRIMARY KEY, name text); CREATE TABLE mails (id int PRIMARY KEY, mail text);
    INSERT INTO names SELECT n, 'n' || n FROM generate_series(1, 30) n;
    INSERT INTO mails SELECT n, 'm' || n FROM generate_series(11, 40) n;"""
    pair = make(
        source,
        "CREATE TABLE both_of (id int PRIMARY KEY, name text, mail text);",
        {"topic": "{name}.public.names", "table": "both_of"},
        {"topic": "{name}.public.mails", "table": "both_of"},
    )
    assert told(verified(pair)) == []
    assert faults(
        pair, "UPDATE both_of SET name = 'x', mail = 'y' WHERE id = 15; DELETE FROM both_of WHERE id = 5"
    ) == [
        ("public.both_of", "changed", ("15",), ("mail",)),
        ("public.both_of", "changed", ("15",), ("name",)),
        ("public.both_of", "missing", ("5",), ()),
    ]


def test_rows_that_are_marked_as_deleted_count_as_absent(make: Make) -> None:
    target = "CREATE TABLE people (id int PRIMARY KEY, name text, gone timestamptz);"
    pair = make(
        PEOPLE + FILL,
        target,
        {
            "topic": "{name}.public.people",
            "table": "people",
            "set": {"name": "name"},
            "on_delete": "soft_delete",
            "soft_delete": {"gone": "$timestamp"},
        },
    )
    pair.sql(pair.source, "DELETE FROM people WHERE id IN (3, 4)")
    found = verified(pair)
    assert told(found) == []
    assert pair.sql(pair.target, "SELECT count(*) FROM people WHERE gone IS NOT NULL") == [(2,)]
    assert faults(pair, "UPDATE people SET gone = NULL WHERE id = 3; UPDATE people SET gone = now() WHERE id = 5") == [
        ("public.people", "extra", ("3",), ()),
        ("public.people", "missing", ("5",), ()),
    ]
    pair.sql(pair.source, "INSERT INTO people VALUES (4, 'again')")
    assert len(told(verified(pair))) == 2


FUNCTIONS = """
def row(change):
    after = change.after
    return None if after["kind"] == "b" else {"id": after["id"], "shout": after["name"].upper()}
"""


def test_rows_that_a_function_makes_are_compared_with_what_it_makes(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "verified_functions.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("verified_functions", None)
    pair = make(
        PEOPLE + FILL,
        "CREATE TABLE loud (id int PRIMARY KEY, shout text, own int);",
        {"topic": "{name}.public.people", "table": "loud", "function": "verified_functions:row"},
    )
    found = verified(pair)
    assert (told(found), found.tables[0].method, found.tables[0].source_rows) == ([], ComparisonMethod.ROUTED, 16)
    assert faults(pair, "UPDATE loud SET shout = 'x', own = 1 WHERE id = 3; INSERT INTO loud VALUES (1, 'ZOË 1')") == [
        ("public.loud", "changed", ("3",), ("shout",)),
        ("public.loud", "extra", ("1",), ()),
    ]


KINDS = """
def row(change):
    return {"kind": change.after["kind"]}
"""


def test_a_row_that_is_too_many_shows_where_a_function_makes_one_row_of_several(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kinds_of_people.py").write_text(KINDS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(routed_comparison, "_MOST_CANDIDATES", 2)
    sys.modules.pop("kinds_of_people", None)
    pair = make(
        PEOPLE + FILL,
        "CREATE TABLE kinds (kind text PRIMARY KEY);",
        {"topic": "{name}.public.people", "table": "kinds", "function": "kinds_of_people:row"},
    )
    assert told(verified(pair)) == []
    assert faults(pair, "INSERT INTO kinds SELECT 'k' || n FROM generate_series(1, 5) n") == [
        ("public.kinds", "extra", (f"k{n}",), ()) for n in range(1, 6)
    ]


@pytest.mark.parametrize(
    "options", [{"format": "json", "kafka": {"values": {}}}, {"format": "json_schema"}, {"capture": {"flatten": {}}}]
)
def test_records_of_every_form_are_predicted(make: Make, options: dict[str, Any]) -> None:
    source = (
        "CREATE TABLE t (id int PRIMARY KEY, name text, n numeric(8,2)); INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2);"
    )
    pair = make(
        source,
        "CREATE TABLE t (id bigint PRIMARY KEY, name text, n numeric(8,2));",
        {"topic": "{name}.public.t", "table": "t"},
        **options,
    )
    pair.sql(
        pair.source,
        "UPDATE t SET n = n + 0.25 WHERE id = 1; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (3, '', NULL)",
    )
    assert told(verified(pair)) == []
    assert faults(pair, "UPDATE t SET n = 1.24 WHERE id = 1; UPDATE t SET name = NULL WHERE id = 3") == [
        ("public.t", "changed", ("1",), ("n",)),
        ("public.t", "changed", ("3",), ("name",)),
    ]


def test_what_a_parked_record_or_a_conflict_explains_says_so(make: Make) -> None:
    source = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c');"
    pair = make(
        source,
        "CREATE TABLE t (id int PRIMARY KEY, v text CHECK (v <> 'refused'));",
        {"topic": "{name}.public.t", "table": "t", "conflict": {"default": "keep_local", "detect": "old_values"}},
        sink={"on_error": "park"},
    )
    pair.sql(pair.source, "ALTER TABLE t REPLICA IDENTITY FULL")
    pair.sql(pair.target, "UPDATE t SET v = 'mine' WHERE id = 2")
    pair.sql(pair.source, "UPDATE t SET v = 'theirs' WHERE id = 2; UPDATE t SET v = 'refused' WHERE id = 3")
    found = {one.key["id"]: one for one in verified(pair).differences}
    assert set(found) == {"2", "3"}
    assert (found["2"].explanation or "").startswith("conflict ")
    assert (found["3"].explanation or "").startswith("parked record ")
