"""From a table with every TOASTed type through a topic into another: nothing is made up of what was not sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.faults.harness import Process
from tests.reading import wait_for

pytestmark = pytest.mark.pg("newest")

MANY = "(SELECT array_agg({}) FROM generate_series(1, {}) i)"
COLUMNS = {
    "t": ("text", "repeat('é', 3000)"),
    "v": ("varchar", "repeat('v', 3000)"),
    "c": ("char(3000)", "'c'"),
    "j": ("json", "json_build_object('a', repeat('j', 3000))"),
    "jb": ("jsonb", "jsonb_build_object('a', repeat('j', 3000))"),
    "ts": ("tsvector", "to_tsvector('simple', (SELECT string_agg('w' || i, ' ') FROM generate_series(1, 900) i))"),
    "b": ("bytea", "decode(repeat('00ff', 1500), 'hex')"),
    "n": ("numeric", "repeat('7', 9000)::numeric"),
    "nn": ("numeric NOT NULL", "repeat('8', 9000)::numeric"),
    "f8": ("float8[] NOT NULL", MANY.format("i / 7.0", 384)),
    "i4": ("int[]", MANY.format("i", 900)),
    "i8": ("bigint[]", MANY.format("i", 900)),
    "d": ("date[]", MANY.format("'2020-01-01'::date + i", 900)),
    "tz": ("timestamptz[]", MANY.format("'2020-01-01Z'::timestamptz + i * '1 s'::interval", 400)),
    "nm": ("numeric(9,2)[]", MANY.format("i / 7.0", 400)),
    "bo": ("boolean[]", MANY.format("i % 3 = 0", 3000)),
    "u": ("uuid[]", MANY.format("md5(i::text)::uuid", 200)),
    "ta": ("text[]", MANY.format("'word ' || i", 400)),
    "ba": ("bytea[]", MANY.format("decode('00ff', 'hex')", 400)),
    "co": ("pair", "ROW(1, repeat('p', 3000))::pair"),
    "ra": ("nummultirange", "(SELECT range_agg(numrange(2 * i, 2 * i + 1)) FROM generate_series(1, 400) i)"),
    "dt": ("words", MANY.format("'word ' || i", 400)),
    "dn": ("amount", "repeat('6', 9000)::numeric"),
}
TYPES = """CREATE TYPE pair AS (a int, b text); CREATE DOMAIN words AS text[]; CREATE DOMAIN amount AS numeric;
CREATE TABLE wide (id int PRIMARY KEY, small int, {columns})"""
STRINGS = {"decimal": "string", "time": "isostring", "binary": "hex"}
WAYS: dict[str, dict[str, Any]] = {
    "avro": {"format": "avro"},
    "avro, many rows": {"format": "avro"},
    "avro, as debezium": {"format": "avro", "compatibility": "debezium"},
    "avro, flat": {"format": "avro", "flatten": {"deletes": "rewrite_with_tombstone"}},
    "json": {"format": "json", "values": STRINGS},
    "json with schemas": {"format": "json_schema"},
}
FEW = ["t", "jb", "f8", "i4", "bo", "u", "ta", "d", "co", "dt"]
"""Columns whose JSON says all by itself, in a capture whose forms nobody tells the other side."""


@pytest.fixture
def second(postgres: Any) -> Iterator[str]:
    dsn = postgres.create_database()
    yield dsn
    postgres.drop_database(dsn)


def run(dsn: str, *statements: str) -> list[Any]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def wide(dsn: str, columns: list[str]) -> list[Any]:
    listed = ", ".join(f"md5({name}::text)" for name in columns)
    return run(dsn, f"SELECT id, small, {listed} FROM wide ORDER BY id")


@pytest.mark.parametrize("way", WAYS)
def test_values_that_were_not_sent_stay_what_they_are(
    database: str, second: str, kafka: Any, registry: Any, topic_prefix: str, tmp_path: Path, way: str
) -> None:
    options = dict(WAYS[way])
    brokers = {"brokers": kafka.bootstrap, "registry": registry.url}
    many = way == "avro, many rows"
    columns = FEW if many or "values" in options else list(COLUMNS)
    rows = 250 if many else 8
    made = TYPES.format(columns=", ".join(f"{name} {COLUMNS[name][0]}" for name in columns))
    for dsn in (database, second):
        run(dsn, made)
    run(database, "ALTER TABLE wide " + ", ".join(f"ALTER {name} SET STORAGE EXTERNAL" for name in columns))
    listed = ", ".join(COLUMNS[name][1] for name in columns)
    run(database, f"INSERT INTO wide SELECT i, 0, {listed} FROM generate_series(1, {rows}) i")
    capture = {
        "name": f"{topic_prefix}c",
        "source": {"postgres": {"dsn": database, "tables": ["public.wide"]}},
        "sink": {"kafka": {**brokers, "format": options.pop("format")}},
        "values": {"unknown_types": "text", **options.pop("values", {})},
        **options,
    }
    topic = f"{topic_prefix}c.public.wide"
    source = {**brokers, "topics": [topic]}
    if "values" in WAYS[way]:
        source["values"] = STRINGS
    back = {
        "name": f"{topic_prefix}b",
        "source": {"kafka": source},
        "sink": {"postgres": {"dsn": second, "routes": [{"topic": topic, "table": "wide"}]}},
    }
    processes = []
    try:
        for document in (capture, back):
            path = tmp_path / f"{document['name']}.json"
            path.write_text(json.dumps({**document, "http": {"enabled": False}, "checkpoint": {"interval": 0.1}}))
            processes.append(Process(path))
            if document is capture:
                wait_for(lambda: run(database, "SELECT count(*) FROM pg_replication_slots WHERE active") == [(1,)])
        wait_for(lambda: run(second, "SELECT count(*) FROM wide") == [(rows,)])
        run(
            database,
            "UPDATE wide SET small = id",
            "UPDATE wide SET small = NULL WHERE id = 7",
            "UPDATE wide SET id = 1000 WHERE id = 1",
            "UPDATE wide SET id = 1001, small = 5 WHERE id = 1000",
            "DELETE FROM wide WHERE id = 2",
            f"UPDATE wide SET {columns[0]} = 'short' WHERE id = 3",
        )
        wait_for(lambda: wide(second, ["id"]) == wide(database, ["id"]))
        wait_for(lambda: run(second, f"SELECT {columns[0]} FROM wide WHERE id = 3") == [("short",)])
        for process in processes:
            process.stop()
    except AssertionError as error:
        raise AssertionError("\n".join(process.log[-3000:] for process in processes)) from error
    finally:
        for process in processes:
            process.kill()
    assert wide(second, columns) == wide(database, columns)
