"""Sums and ranges as the servers compute them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import psycopg
import pytest
from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.errors import EnvironmentNotReady
from pycdc.operations.verify import in_flight
from pycdc.operations.verify.canonical import columns_of, pin
from pycdc.operations.verify.digests import DIGESTS
from pycdc.operations.verify.in_flight import Flight
from pycdc.operations.verify.prediction import Prediction
from pycdc.operations.verify.range_comparison import BothSides, Counts, compare
from pycdc.operations.verify.ranges import KeyRange
from pycdc.operations.verify.relation import ComparedRelation, Layout
from pycdc.operations.verify.result import DifferenceKind

pytestmark = pytest.mark.pg("newest")


@pytest.fixture
def connections(database: str) -> Iterator[tuple[Connection, Connection]]:
    with psycopg.connect(database, autocommit=True) as one, psycopg.connect(database, autocommit=True) as other:
        pin(one)
        pin(other)
        yield one, other


def relation(connection: Connection, table: str, *key: str) -> tuple[Layout, ComparedRelation]:
    row = connection.execute("SELECT %s::regclass::oid::int8", (table,)).fetchone()
    assert row is not None
    columns = columns_of(connection, row[0])
    layout = Layout(tuple(columns[name] for name in key), tuple(columns.values()), DIGESTS["hashtext"])
    names = tuple(sql.Identifier(name) for name in columns)
    return layout, ComparedRelation(sql.Identifier(table), tuple(map(sql.Identifier, key)), names)


def test_equal_twins_do_not_cancel_each_other(connections: tuple[Connection, Connection]) -> None:
    connection = connections[0]
    connection.execute("CREATE TABLE a (k int, v text); CREATE TABLE b (k int, v text)")
    connection.execute("INSERT INTO a VALUES (1, 'x'), (1, 'x'), (2, 'z')")
    connection.execute("INSERT INTO b VALUES (1, 'y'), (1, 'y'), (2, 'z')")
    sums = [
        one.sums(connection, layout, KeyRange()) for layout, one in (relation(connection, t, "k") for t in ("a", "b"))
    ]
    assert sums[0] != sums[1]


def test_values_that_change_places_between_rows_do_not_cancel_each_other(
    connections: tuple[Connection, Connection],
) -> None:
    connection = connections[0]
    connection.execute("CREATE TABLE a (k int, v text, w text); CREATE TABLE b (k int, v text, w text)")
    connection.execute("INSERT INTO a VALUES (1, 'x', 'y'), (2, 'p', 'q')")
    connection.execute("INSERT INTO b VALUES (1, 'p', 'y'), (2, 'x', 'q')")
    sums = [
        one.sums(connection, layout, KeyRange()) for layout, one in (relation(connection, t, "k") for t in ("a", "b"))
    ]
    assert sums[0] != sums[1]


@pytest.mark.parametrize("form", ["NOT NULL v NOT VALID", "NOT NULL v NO INHERIT"])
def test_a_column_may_be_null_as_long_as_a_constraint_does_not_hold_everywhere(
    connections: tuple[Connection, Connection], form: str
) -> None:
    connection = connections[0]
    connection.execute("CREATE TABLE a (k int, v int); INSERT INTO a VALUES (1, 1)")
    connection.execute(f"ALTER TABLE a ADD CONSTRAINT filled {form}".encode())
    layout, _ = relation(connection, "a", "k")
    assert layout.columns[1].nullable


def test_a_null_where_none_can_be_is_an_error_and_hides_no_difference(
    connections: tuple[Connection, Connection],
) -> None:
    """A table that inherits from another may lack its NOT NULL, up to Postgres 17."""
    connection = connections[0]
    connection.execute("CREATE TABLE a (k int, v int); INSERT INTO a VALUES (1, 1), (2, NULL)")
    layout, one = relation(connection, "a", "k")
    layout = replace(layout, columns=tuple(replace(column, nullable=False) for column in layout.columns))
    for ask in (one.sums, one.rows):
        with pytest.raises(EnvironmentNotReady, match="1 rows have NULL") as caught:
            ask(connection, layout, KeyRange())
        assert caught.value.hint


KEYS: dict[str, tuple[str, str]] = {
    "int": ("int", "n"),
    "negative bigint": ("bigint", "(n - 10000) * 400000000000001"),
    "uuid": ("uuid", "md5(n::text)::uuid"),
    "text": ("text", "chr(65 + n % 60) || n"),
    "numeric": ("numeric", "n / 7.0"),
    "timestamptz": ("timestamptz", "'2026-01-01'::timestamptz + n * interval '1 s'"),
    "bytea": ("bytea", "decode(md5(n::text), 'hex')"),
}


@pytest.mark.parametrize("kind", KEYS)
def test_every_difference_is_found_whatever_the_key_is(connections: tuple[Connection, Connection], kind: str) -> None:
    """Also in front of the first key and behind the last, and more than one range is read at once."""
    type_, value = KEYS[kind]
    connection = connections[0]
    for table in ("a", "b"):
        connection.execute(f"CREATE TABLE {table} (k {type_} PRIMARY KEY, n int, v text)".encode())
        connection.execute(f"INSERT INTO {table} SELECT {value}, n, 'v' || n FROM generate_series(1, 20000) n".encode())
    wrong = random.Random(1).sample(range(2, 20000), 12)
    changed, missing, extra = wrong[:4], [1, *wrong[4:8]], [*wrong[8:], 20000]
    connection.execute("UPDATE b SET v = 'w' WHERE n = ANY (%s)", (changed,))
    connection.execute("DELETE FROM b WHERE n = ANY (%s)", (missing,))
    connection.execute("DELETE FROM a WHERE n = ANY (%s)", (extra,))
    numbers = {
        str(key): number
        for key, number in connection.execute("SELECT k::text, n FROM a UNION SELECT k::text, n FROM b").fetchall()
    }
    layout, target = relation(connections[1], "b", "k")
    _, source = relation(connection, "a", "k")
    bounds = source.every(connection, layout, KeyRange(), 3000)
    cuts: list[list[tuple[str, ...]]] = [[], bounds]
    for inner in cuts:
        with ThreadPoolExecutor(1) as executor:
            sides = BothSides(layout, (source,), target, *connections, executor)
            found = list(compare(sides, KeyRange(), inner, Counts()))
        named = {
            kind: sorted(numbers[text_key(key[0], numbers)] for k, key in found if k is kind) for kind in DifferenceKind
        }
        assert named[DifferenceKind.CHANGED] == sorted(changed)
        assert named[DifferenceKind.MISSING] == sorted(missing)
        assert named[DifferenceKind.EXTRA] == sorted(extra)


def text_key(key: str, known: dict[str, Any]) -> str:
    """A numeric key without the scale that its canonical text does not have."""
    if key in known:
        return key
    return next(one for one in known if one.rstrip("0").rstrip(".") == key)


def test_composite_keys_are_cut_by_all_their_columns(connections: tuple[Connection, Connection]) -> None:
    connection = connections[0]
    for table in ("a", "b"):
        connection.execute(f"CREATE TABLE {table} (g text, k int, v text, PRIMARY KEY (g, k))".encode())
        connection.execute(f"INSERT INTO {table} SELECT 'same', n, 'v' FROM generate_series(1, 9000) n".encode())
        connection.execute(f"INSERT INTO {table} SELECT 'Ünder', n, 'v' FROM generate_series(1, 9000) n".encode())
    connection.execute("DELETE FROM b WHERE k IN (1, 4500, 9000)")
    layout, target = relation(connections[1], "b", "g", "k")
    _, source = relation(connection, "a", "g", "k")
    with ThreadPoolExecutor(1) as executor:
        sides = BothSides(layout, (source,), target, *connections, executor)
        found = sorted(compare(sides, KeyRange(), [], Counts()))
    assert found == sorted(
        (DifferenceKind.MISSING, (group, str(k))) for group in ("same", "Ünder") for k in (1, 4500, 9000)
    )


def test_more_rows_than_a_batch_are_all_reported(connections: tuple[Connection, Connection]) -> None:
    connection = connections[0]
    connection.execute("CREATE TABLE a (k int PRIMARY KEY, v text); CREATE TABLE b (k int PRIMARY KEY, v text)")
    connection.execute("INSERT INTO a SELECT n, 'v' FROM generate_series(1, 30000) n")
    layout, target = relation(connections[1], "b", "k")
    _, source = relation(connection, "a", "k")
    with ThreadPoolExecutor(1) as executor:
        sides = BothSides(layout, (source,), target, *connections, executor)
        assert sum(1 for _ in compare(sides, KeyRange(), [], Counts())) == 30000


def flight(*keys: tuple[str, ...]) -> Flight:
    found = Flight()
    found.rows.update((key, Prediction(None)) for key in keys)
    return found


def compared(
    connections: tuple[Connection, Connection], key: tuple[str, ...], without: list[tuple[str, ...]], *, cut: bool
) -> list[Any]:
    layout, target = relation(connections[1], "b", *key)
    _, source = relation(connections[0], "a", *key)
    bounds = source.every(connections[0], layout, KeyRange(), 1000) if cut else []
    counts = Counts()
    with ThreadPoolExecutor(1) as executor:
        sides = BothSides(layout, (source,), target, *connections, executor, flight(*without))
        parts = KeyRange().cut(bounds) if len(key) > 1 else [KeyRange()]
        found = sorted(one for part in parts for one in compare(sides, part, bounds if len(key) == 1 else [], counts))
    rows = connections[1].execute("SELECT count(*) FROM b").fetchall()
    assert counts.target_rows == rows[0][0] - len(without)
    return found


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize(("key", "without"), [(("k",), ("5",)), (("k", "g"), ("5", "5"))])
def test_a_row_whose_key_is_null_is_left_out_of_no_range_and_by_no_key_in_flight(
    connections: tuple[Connection, Connection], key: tuple[str, ...], without: tuple[str, ...], cut: bool
) -> None:
    connection = connections[0]
    for table in ("a", "b"):
        connection.execute(f"CREATE TABLE {table} (k int, g int, v text)".encode())
        connection.execute(f"INSERT INTO {table} SELECT n, n, 'v' FROM generate_series(1, 5000) n".encode())
    connection.execute("INSERT INTO b VALUES (NULL, 1000, 'x')")
    named = (None, "1000")[: len(key)]
    assert compared(connections, key, [without], cut=cut) == [(DifferenceKind.EXTRA, named)]


@pytest.mark.parametrize("cut", [True, False])
def test_rows_that_have_the_same_key_hide_no_difference(connections: tuple[Connection, Connection], cut: bool) -> None:
    connection = connections[0]
    for table in ("a", "b"):
        connection.execute(f"CREATE TABLE {table} (k int NOT NULL, v text)".encode())
        connection.execute(f"INSERT INTO {table} SELECT n, 'v' FROM generate_series(1, 5000) n".encode())
    connection.execute("INSERT INTO a VALUES (7, 'w'), (8, 'v'), (9, 'v'), (9, 'v'), (10, 'w'), (11, 'w'), (12, 'w')")
    connection.execute("INSERT INTO b VALUES (6, 'v'), (9, 'v'), (10, 'w'), (11, 'x'), (13, 'x')")
    connection.execute("UPDATE b SET v = 'z' WHERE k = 12")
    assert compared(connections, ("k",), [], cut=cut) == [
        (DifferenceKind.CHANGED, ("11",)),
        (DifferenceKind.CHANGED, ("12",)),
        (DifferenceKind.EXTRA, ("13",)),
        (DifferenceKind.EXTRA, ("6",)),
        (DifferenceKind.MISSING, ("9",)),
    ]


@pytest.mark.parametrize("bounds", [[], [("50",)]])
def test_what_is_left_of_a_table_that_events_emptied_is_too_many(
    connections: tuple[Connection, Connection], bounds: list[tuple[str, ...]]
) -> None:
    connections[0].execute("CREATE TABLE b (k int PRIMARY KEY, v text)")
    layout, target = relation(connections[1], "b", "k")
    with ThreadPoolExecutor(1) as executor:
        sides = BothSides(layout, (), target, *connections, executor)
        assert list(compare(sides, KeyRange(), bounds, Counts())) == []
        connections[0].execute("INSERT INTO b VALUES (1, 'x'), (70, 'y')")
        found = list(compare(sides, KeyRange(), bounds, Counts()))
    assert found == [(DifferenceKind.EXTRA, ("1",)), (DifferenceKind.EXTRA, ("70",))]


def test_more_keys_in_flight_than_a_statement_names_are_left_out_of_every_range(
    connections: tuple[Connection, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_flight, "KEYS", 50)
    for table in ("a", "b"):
        connections[0].execute(f"CREATE TABLE {table} (k text PRIMARY KEY, v text)".encode())
        connections[0].execute(f"INSERT INTO {table} SELECT 'k' || n, 'v' FROM generate_series(1, 9000) n".encode())
    connections[0].execute("UPDATE b SET v = 'w' WHERE substr(k, 2)::int % 20 = 0; DELETE FROM b WHERE k = 'k4040'")
    known = flight(*((f"k{number}",) for number in range(20, 9001, 20) if number not in (600, 4040)))
    layout, target = relation(connections[1], "b", "k")
    _, source = relation(connections[0], "a", "k")
    with ThreadPoolExecutor(1) as executor:
        sides = BothSides(layout, (source,), target, *connections, executor, known)
        counts = Counts()
        found = list(compare(sides, KeyRange(), source.every(connections[0], layout, KeyRange(), 1000), counts))
    assert sorted(found) == [(DifferenceKind.CHANGED, ("k600",)), (DifferenceKind.MISSING, ("k4040",))]
    assert (counts.source_rows, counts.target_rows) == (9000 - 448, 9000 - 449)


def test_rows_of_keys_are_found_by_an_index_whatever_its_collation_is(
    connections: tuple[Connection, Connection],
) -> None:
    connection = connections[0]
    connection.execute('CREATE TABLE a (k varchar(20) COLLATE "C" PRIMARY KEY, v text)')
    connection.execute("INSERT INTO a SELECT 'k' || n, 'v' FROM generate_series(1, 20000) n; ANALYZE a")
    layout, one = relation(connection, "a", "k")
    asked: list[Any] = []

    class Explaining:
        def execute(self, query: sql.Composed) -> Any:
            asked.extend(connection.execute(sql.SQL("EXPLAIN ") + query).fetchall())
            return connection.execute(query)

    assert one.texts(cast(Connection, Explaining()), layout, [("k7",), ("K7",)]) == {("k7",): ("k7", "v")}
    assert not any("Seq Scan on a" in line for (line,) in asked)
