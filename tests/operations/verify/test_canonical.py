"""Texts and digests of values: equal where the values are, and only there; the same on every server."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pycdc.operations.verify.canonical import ColumnType, columns_of, pin, row_text, text_of
from pycdc.operations.verify.digests import DIGESTS, Values, agreed, probed

EQUAL: list[tuple[str, list[str]]] = [
    ("numeric", ["3000", "3000.0", "3000.00"]),
    ("numeric", ["NaN"]),
    ("float8", ["0", "-0"]),
    ("float4", ["0", "-0"]),
    ("character(5)", ["ab", "ab   "]),
    ("timestamptz", ["2026-01-01 12:00:00+00", "2026-01-01 14:00:00+02"]),
    ("jsonb", ['{"a": 1, "b": 2}', '{"b":2,"a":1}']),
    ("numeric[]", ["{1.0,2}", "{1,2.00}"]),
    ("numeric(8,2)", ["3000", "3000.0", "2999.999"]),
    ("numeric(8,2)[]", ["{1.0,2}", "{0.999,2}"]),
    ("int4range", ["[1,5)", "[1,4]"]),
    ("bytea", [r"\x4142", "AB"]),
    ("bool", ["t", "yes"]),
]
DIFFERENT: list[tuple[str, list[str | None]]] = [
    ("text", ["", None, " ", "~", "-1", "a", "A"]),
    ("varchar(10)", ["", None, "a", "a "]),
    ("numeric", ["1", "1.01", "-1", None, "NaN", "12345678901234567890123456789.1"]),
    ("float8", ["0.1", "0.10000000000000002", "Infinity", "-Infinity", "NaN", None]),
    ("int8", ["9007199254740993", "9007199254740992", None]),
    ("timestamptz", ["infinity", "-infinity", "2026-01-01", "2026-01-01 00:00:00.000001", None]),
    ("bytea", ["", r"\x00", r"\x0000", None]),
    ("text[]", ["{}", "{NULL}", "{''}", '{""}', '{"a,b"}', "{a,b}", None]),
    ("money", ["1.00", "1.01", None]),
    ("uuid", ["00000000-0000-0000-0000-000000000001", None]),
    ("interval", ["1 month", "30 days", None]),
    ("int2", ["0", "1", "-1", None]),
    ("int4", ["0", "1", "-1", "2147483647", None]),
    ("int8", ["0", "1", "-1", "4294967296", "4294967297", "-4294967297", None]),
    ("timestamp", ["2000-01-01", "2000-01-01 00:00:00.000001", "2000-01-01 01:11:34.967296", "infinity", None]),
]


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as opened:
        pin(opened)
        yield opened


def digests(connection: psycopg.Connection[Any], values: Values, table: sql.Composable, name: str) -> list[Any]:
    """Both halves of the digest of each row of the table with these values."""
    row = DIGESTS[name].of_row(values)
    names = [sql.SQL(f"i{number}") for number in range(len(row.inputs))]
    query = sql.SQL("SELECT {} FROM (SELECT {} FROM {} OFFSET 0) AS x ({})").format(
        row.halves(names), sql.SQL(", ").join(row.inputs), table, sql.SQL(", ").join(names)
    )
    return connection.execute(query).fetchall()


def digests_of(connection: psycopg.Connection[Any], kind: str, values: list[Any]) -> Iterator[list[Any]]:
    """The digests of rows with each value, by each kind of digest; and of a column that is never NULL, without that."""
    connection.execute(f"CREATE TEMP TABLE v (n int, v {kind})".encode())
    column = columns_of(connection, oid_of(connection, "v"))["v"]
    for number, value in enumerate(values):
        connection.execute(f"INSERT INTO v VALUES (%s, %s::{kind})".encode(), (number, value))
    filled = sql.SQL("(SELECT * FROM v WHERE v IS NOT NULL) AS f")
    for name in ("hashtext", "md5"):
        yield digests(connection, [(sql.Identifier("v"), column)], sql.SQL("v"), name)
        yield digests(connection, [(sql.Identifier("v"), replace(column, nullable=False))], filled, name)
    connection.execute("DROP TABLE v")


def texts(connection: psycopg.Connection[Any], kind: str, values: list[Any]) -> list[tuple[str | None, str]]:
    """The canonical text of each value, and that of the row it stands in."""
    connection.execute(f"CREATE TEMP TABLE v (n int, v {kind})".encode())
    try:
        column = columns_of(connection, oid_of(connection, "v"))["v"]
        for number, value in enumerate(values):
            connection.execute(f"INSERT INTO v VALUES (%s, %s::{kind})".encode(), (number, value))
        name = sql.Identifier("v")
        query = sql.SQL("SELECT {}, {} FROM v ORDER BY n").format(text_of(name, column), row_text([(name, column)]))
        return connection.execute(query).fetchall()
    finally:
        connection.execute("DROP TABLE v")


def oid_of(connection: psycopg.Connection[Any], table: str) -> int:
    row = connection.execute("SELECT %s::regclass::oid::int8", (table,)).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.pg("newest")
@pytest.mark.parametrize(("kind", "values"), EQUAL)
def test_equal_values_have_one_text(connection: psycopg.Connection[Any], kind: str, values: list[str]) -> None:
    assert len(set(texts(connection, kind, values))) == 1
    assert all(len(set(found)) == 1 for found in digests_of(connection, kind, values))


@pytest.mark.pg("newest")
@pytest.mark.parametrize(("kind", "values"), DIFFERENT)
def test_different_values_have_different_texts(
    connection: psycopg.Connection[Any], kind: str, values: list[str | None]
) -> None:
    rows = [row for _, row in texts(connection, kind, values)]
    assert len(set(rows)) == len(values)
    for found in digests_of(connection, kind, values):
        assert len(found) >= len(values) - 1
        for half in zip(*found, strict=True):
            assert len(set(half)) == len(found)


@pytest.mark.pg("newest")
def test_rows_that_differ_have_different_texts_wherever_their_columns_end(connection: psycopg.Connection[Any]) -> None:
    parts: list[str | None] = ["", None, "|", "a", "a|b", "1|a", "-1", "~", "|~"]
    column = ColumnType("c", "text", "text", True, "", -1, True, False, False)
    rows = list(itertools.product(parts, repeat=2))
    query = sql.SQL("SELECT {} FROM unnest({}::text[], {}::text[]) AS u (a, b)").format(
        row_text([(sql.Identifier("a"), column), (sql.Identifier("b"), column)]),
        sql.Literal([row[0] for row in rows]),
        sql.Literal([row[1] for row in rows]),
    )
    assert len({text for (text,) in connection.execute(query)}) == len(rows)
    table = sql.SQL("unnest({}::text[], {}::text[]) AS u (a, b)").format(
        sql.Literal([row[0] for row in rows]), sql.Literal([row[1] for row in rows])
    )
    values = [(sql.Identifier("a"), column), (sql.Identifier("b"), column)]
    for half in zip(*digests(connection, values, table, "hashtext"), strict=True):
        assert len(set(half)) == len(rows)


@pytest.mark.pg("newest")
def test_a_row_of_more_columns_than_a_function_has_arguments_has_a_text(connection: psycopg.Connection[Any]) -> None:
    column = ColumnType("c", "text", "text", True, "", -1, True, False, False)
    values = [(sql.SQL("{}::text").format(str(n)), column) for n in range(300)]
    row = connection.execute(sql.SQL("SELECT {}").format(row_text(values))).fetchone()
    assert row is not None
    assert row[0].count("|") == 2 * 300 - 1
    found = set()
    for other in ("0", "x"):
        last = sql.SQL("{}::text").format(other), column
        found.update(digests(connection, [*values[:-1], last], sql.SQL("(SELECT) AS x"), "hashtext"))
    assert len(found) == 2


def test_every_server_computes_the_same_digests(connection: psycopg.Connection[Any]) -> None:
    """What Postgres 15 computed once: two databases of different versions are compared by them."""
    for name, expected in COMPUTED.items():
        assert probed(connection, DIGESTS[name]) == expected
    assert agreed(connection, connection, None).name == "hashtext"
    assert agreed(connection, connection, "sha256").name == "sha256"


COMPUTED = {
    "hashtext": [
        (8870870841654913015, 9048795503263791808),
        (248879229301596236, 6906187296048308803),
        (-8492822173720418996, -4007853971156139676),
        (1926875325199777407, 1225474506815941251),
        (1886715214824717726, -6711950014100638295),
        (597843481844804501, -5901635979027191026),
    ],
    "md5": [
        (7403649729105832844, 2578656344672859421),
        (7835693921970739243, -1385133113665987168),
        (-3868644906231296160, -5374066935931414591),
        (8502993829333072423, -1550347020778375920),
        (4638033062017248474, 8707971262812263556),
        (-972977899309081499, -5898511687814197066),
    ],
}
