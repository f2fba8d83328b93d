"""Keys and old rows are those of the moment at which a row was written."""

from __future__ import annotations

from itertools import count
from typing import Any

import psycopg
import pytest

from tests.schema_changes.stream import Seen, Stream

pytestmark = pytest.mark.pg("outermost")

_NUMBERS = count(1)


def made(stream: Stream, columns: str, *more: str) -> str:
    name = f"k{next(_NUMBERS)}"
    stream.execute(f"CREATE TABLE {name} ({columns})", *(one.format(t=name) for one in more))
    return name


def keys(seen: list[Seen]) -> list[Any]:
    return [one.key for one in seen]


def insert(name: str, *values: object) -> str:
    return f"INSERT INTO {name} VALUES ({', '.join(map(str, values))})"


MOVES = [
    (
        "dropped",
        "id int PRIMARY KEY, n int NOT NULL",
        ["ALTER TABLE {t} DROP CONSTRAINT {t}_pkey"],
        [{"id": 1}, None],
    ),
    ("added", "id int NOT NULL, n int NOT NULL", ["ALTER TABLE {t} ADD PRIMARY KEY (id)"], [None, {"id": 2}]),
    (
        "another column",
        "id int PRIMARY KEY, n int NOT NULL",
        ["ALTER TABLE {t} DROP CONSTRAINT {t}_pkey, ADD PRIMARY KEY (n)"],
        [{"id": 1}, {"n": 20}],
    ),
    (
        "one column more",
        "id int PRIMARY KEY, n int NOT NULL",
        ["ALTER TABLE {t} DROP CONSTRAINT {t}_pkey, ADD PRIMARY KEY (n, id)"],
        [{"id": 1}, {"n": 20, "id": 2}],
    ),
    (
        "renamed",
        "id int PRIMARY KEY, n int NOT NULL",
        ["ALTER TABLE {t} RENAME id TO number"],
        [{"id": 1}, {"number": 2}],
    ),
    (
        "retyped",
        "id int PRIMARY KEY, n int NOT NULL",
        ["ALTER TABLE {t} ALTER id TYPE text"],
        [{"id": 1}, {"id": "2"}],
    ),
]


@pytest.mark.parametrize("way", ["outside", "inside", "while stopped"])
@pytest.mark.parametrize(("columns", "ddl", "expected"), [m[1:] for m in MOVES], ids=[m[0] for m in MOVES])
def test_a_row_is_keyed_by_the_key_that_it_was_written_under(
    stream: Stream, columns: str, ddl: list[str], expected: list[Any], way: str
) -> None:
    name = made(stream, columns)
    statements = [insert(name, 1, 10), *(one.format(t=name) for one in ddl), insert(name, 2, 20)]
    if way == "while stopped":
        stream.read()
        with stream.stopped():
            stream.write(statements)
    else:
        stream.write([insert(name, 0, 0)])
        assert len(stream.read()) == 1
        stream.write(statements, together=way == "inside")
    assert keys(stream.read()) == expected


def test_a_unique_index_stands_in_where_there_is_no_primary_key(stream: Stream) -> None:
    name = made(stream, "id int, n int NOT NULL UNIQUE")
    stream.write([insert(name, 1, 10)])
    assert keys(stream.read()) == [{"n": 10}]


def test_without_a_key_the_database_refuses_updates_and_rows_have_no_key(stream: Stream) -> None:
    """What a consumer, and the application, meets where the primary key of a published table is dropped."""
    name = made(stream, "id int PRIMARY KEY", "ALTER TABLE {t} DROP CONSTRAINT {t}_pkey")
    stream.write([insert(name, 1)])
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="replica identity"):
        stream.execute(f"UPDATE {name} SET id = 2")
    assert keys(stream.read()) == [None]


def test_old_rows_follow_the_replica_identity(stream: Stream) -> None:
    name = made(stream, "id int PRIMARY KEY, n int NOT NULL UNIQUE, a text", insert("{t}", 1, 10, "'x'"))
    update = f"UPDATE {name} SET a = a || 'x'"
    stream.write(
        [
            update,
            f"ALTER TABLE {name} REPLICA IDENTITY FULL",
            update,
            f"ALTER TABLE {name} REPLICA IDENTITY USING INDEX {name}_n_key",
            update,
            f"ALTER TABLE {name} REPLICA IDENTITY DEFAULT",
            update,
            f"UPDATE {name} SET n = 11",
        ],
        together=True,
    )
    seen = [one for one in stream.read() if one.op == "u"]
    befores = [one.value["before"] for one in seen]
    assert befores == [None, {"id": 1, "n": 10, "a": "xx"}, None, None, None]
    assert keys(seen) == [{"id": 1}] * 5
    assert len(stream.texts(f"public.{name}")) == 1


def test_under_identity_nothing_the_database_refuses_updates_and_inserts_go_on(stream: Stream) -> None:
    name = made(stream, "id int PRIMARY KEY", insert("{t}", 1))
    stream.execute(f"ALTER TABLE {name} REPLICA IDENTITY NOTHING")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        stream.execute(f"DELETE FROM {name}")
    stream.execute(insert(name, 2), f"ALTER TABLE {name} REPLICA IDENTITY DEFAULT", f"DELETE FROM {name} WHERE id = 2")
    assert [(one.op, one.after and one.after["id"]) for one in stream.read()] == [("c", 1), ("c", 2), ("d", None)]


def test_an_update_of_the_key_names_the_key_of_its_time(stream: Stream) -> None:
    """Delete and create under the old key's columns, then, once the key is another, under those."""
    name = made(stream, "id int PRIMARY KEY, n int NOT NULL", insert("{t}", 1, 10))
    stream.write(
        [
            f"UPDATE {name} SET id = 2",
            f"ALTER TABLE {name} DROP CONSTRAINT {name}_pkey, ADD PRIMARY KEY (n)",
            f"UPDATE {name} SET n = 11",
            f"UPDATE {name} SET id = 3",
        ],
        together=True,
    )
    told = [(one.op, one.key) for one in stream.read()]
    assert told == [
        ("c", {"id": 1}),
        ("d", {"id": 1}),
        ("c", {"id": 2}),
        ("d", {"n": 10}),
        ("c", {"n": 11}),
        ("u", {"n": 11}),
    ]


def test_under_full_identity_the_key_of_older_rows_is_the_present_one(stream: Stream) -> None:
    """A Relation message flags all columns under FULL; which of them were the key, the catalog has forgotten."""
    name = made(stream, "id int PRIMARY KEY, n int", "ALTER TABLE {t} REPLICA IDENTITY FULL")
    with stream.stopped():
        stream.execute(insert(name, 1, "NULL"), f"UPDATE {name} SET n = 10")
        stream.execute(f"ALTER TABLE {name} DROP CONSTRAINT {name}_pkey, ADD PRIMARY KEY (n)", insert(name, 2, 20))
    seen = stream.read()
    told = [(one.op, one.key, one.after) for one in seen]
    assert told == [
        ("c", {"n": None}, {"id": 1, "n": None}),
        ("d", {"n": None}, None),
        ("c", {"n": 10}, {"id": 1, "n": 10}),
        ("c", {"n": 20}, {"id": 2, "n": 20}),
    ]
