"""Tables that get another name or schema, are made again or truncated: rows carry the name they were written under."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.schema_changes.stream import Stream
from tests.services.postgres import PostgresServer

pytestmark = pytest.mark.pg("outermost")


@pytest.mark.parametrize("together", [False, True], ids=["outside", "inside"])
def test_a_row_written_while_the_table_had_another_name_goes_by_that_name(stream: Stream, together: bool) -> None:
    old, new = (f"{name}_{'in' if together else 'out'}" for name in ("plain", "renamed"))
    stream.execute(f"CREATE TABLE {old} (id int PRIMARY KEY)")
    stream.write(
        [
            f"INSERT INTO {old} VALUES (1)",
            f"ALTER TABLE {old} RENAME TO {new}",
            f"INSERT INTO {new} VALUES (2)",
            f"UPDATE {new} SET id = 3 WHERE id = 1",
            f"ALTER TABLE {new} RENAME TO {old}",
            f"DELETE FROM {old} WHERE id = 3",
        ],
        together=together,
    )
    seen = stream.read()
    assert all(one.topic == f"shop.{one.table}" for one in seen)
    assert {(one.table, one.op, one.key["id"]) for one in seen} == {
        (f"public.{old}", "c", 1),
        (f"public.{new}", "c", 2),
        (f"public.{new}", "d", 1),
        (f"public.{new}", "c", 3),
        (f"public.{old}", "d", 3),
    }


@pytest.mark.parametrize("together", [False, True], ids=["outside", "inside"])
def test_a_table_in_another_schema_is_delivered_by_its_full_name(stream: Stream, together: bool) -> None:
    schema = f"elsewhere_{'in' if together else 'out'}"
    stream.execute(f"CREATE SCHEMA {schema}", f"CREATE TABLE moved_{schema} (id int PRIMARY KEY)")
    stream.write(
        [
            f"INSERT INTO moved_{schema} VALUES (1)",
            f"ALTER TABLE moved_{schema} SET SCHEMA {schema}",
            f"INSERT INTO {schema}.moved_{schema} VALUES (2)",
        ],
        together=together,
    )
    assert [(one.topic, one.key["id"]) for one in stream.read()] == [
        (f"shop.public.moved_{schema}", 1),
        (f"shop.{schema}.moved_{schema}", 2),
    ]


def test_a_schema_that_gets_another_name_is_known_by_it_from_postgres_16_on(
    stream: Stream, postgres: PostgresServer
) -> None:
    """Before, Postgres goes on with the old name until something, of another session too, has it describe the table."""
    stream.execute("CREATE SCHEMA early", "CREATE TABLE early.rows (id int PRIMARY KEY)")
    stream.write(["INSERT INTO early.rows VALUES (1)"])
    stream.write(["ALTER SCHEMA early RENAME TO late", "INSERT INTO late.rows VALUES (2)"])
    stream.write(["ALTER TABLE late.rows ADD n int", "INSERT INTO late.rows VALUES (3)"])
    first, second, third = (one.table for one in stream.read())
    assert (first, third) == ("early.rows", "late.rows")
    assert second in (["late.rows"] if postgres.major >= 16 else ["early.rows", "late.rows"])


def test_names_that_change_places_in_one_transaction_are_those_of_the_moment(stream: Stream) -> None:
    """How a table is replaced by one that was prepared beside it."""
    stream.execute("CREATE TABLE live (id int PRIMARY KEY, a int)", "CREATE TABLE next (id int PRIMARY KEY, b text)")
    stream.write(
        [
            "INSERT INTO live VALUES (1, 1)",
            "INSERT INTO next VALUES (2, 'x')",
            "ALTER TABLE live RENAME TO old",
            "ALTER TABLE next RENAME TO live",
            "INSERT INTO live VALUES (3, 'y')",
            "INSERT INTO old VALUES (4, 4)",
        ],
        together=True,
    )
    rows = {(one.topic, tuple((one.after or {}).values())) for one in stream.read()}
    assert rows == {
        ("shop.public.live", (1, 1)),
        ("shop.public.next", (2, "x")),
        ("shop.public.live", (3, "y")),
        ("shop.public.old", (4, 4)),
    }


@pytest.mark.parametrize("together", [False, True], ids=["outside", "inside"])
def test_a_table_that_is_made_again_under_its_name_is_another_with_the_same_topic(
    stream: Stream, together: bool
) -> None:
    name = f"again_{'in' if together else 'out'}"
    stream.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, a int)")
    stream.write([f"INSERT INTO {name} VALUES (0, 0)"])
    stream.read()
    stream.write(
        [
            f"INSERT INTO {name} VALUES (1, 1)",
            f"DROP TABLE {name}",
            f"CREATE TABLE {name} (id text PRIMARY KEY, b bool)",
            f"INSERT INTO {name} VALUES ('one', true)",
        ],
        together=together,
    )
    assert [one.after for one in stream.read()] == [{"id": 1, "a": 1}, {"id": "one", "b": True}]


@pytest.fixture(scope="module")
def truncating(postgres: PostgresServer) -> Iterator[Stream]:
    dsn = postgres.create_database()
    with closing(Stream(dsn, envelope={"skip": []})) as stream:
        yield stream
    postgres.drop_database(dsn)


def test_a_cascading_truncate_is_one_event_for_each_table(truncating: Stream) -> None:
    truncating.execute(
        "CREATE TABLE parent (id int PRIMARY KEY)", "CREATE TABLE child (id int PRIMARY KEY REFERENCES parent)"
    )
    truncating.write(["INSERT INTO parent VALUES (1)", "INSERT INTO child VALUES (1)"])
    truncating.write(
        ["TRUNCATE parent RESTART IDENTITY CASCADE", "ALTER TABLE child ADD n int", "INSERT INTO parent VALUES (2)"],
        together=True,
    )
    told = [(one.topic, one.op, one.key) for one in truncating.read()]
    assert sorted(told, key=str) == sorted(
        [
            ("shop.public.child", "c", {"id": 1}),
            ("shop.public.child", "t", None),
            ("shop.public.parent", "c", {"id": 1}),
            ("shop.public.parent", "t", None),
            ("shop.public.parent", "c", {"id": 2}),
        ],
        key=str,
    )
