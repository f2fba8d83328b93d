"""Whatever tables and columns are called, every kind of statement means what it says."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.connectors.kafka.record_decoder import Decoder
from pycdc.model.event import Partition
from pycdc.sinks.postgres.dry_run import preview
from tests.sinks.postgres.rig import Rig

pytestmark = pytest.mark.pg("newest")

PIECES = [
    "t",
    "u",
    "t_",
    "excluded",
    "select",
    "g",
    "n",
    "c0",
    "user",
    "A",
    "ä",
    "%",
    "%s",
    "%(x)s",
    '"',
    "'",
    " ",
    "$1",
    "::",
]
LONGEST = 63


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    rig = Rig(database)
    yield rig
    rig.close()


def name(random: Random) -> str:
    """One piece, or several of them, up to the longest that there is."""
    made = "".join(random.choice(PIECES) for _ in range(random.choice((1, 1, 2, 30))))
    while len(made.encode()) > LONGEST:
        made = made[:-1]
    return made


def names(random: Random, count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found[name(random)] = None
    return list(found)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "conflict",
    [None, "keep_local", {"default": "apply_remote", "detect": "old_values"}, "version", "delta"],
    ids=["none", "origin", "old values", "version", "delta"],
)
def test_every_statement_takes_any_name(rig: Rig, conflict: Any, seed: int) -> None:
    random = Random(seed)
    table, key, other, number, mark = names(random, 5)
    ddl = sql.SQL(
        "CREATE TABLE {} ({} int PRIMARY KEY, {} text, {} int NOT NULL DEFAULT 0, {} bool NOT NULL DEFAULT false)"
    ).format(*map(sql.Identifier, (table, key, other, number, mark)))
    rig.sql(ddl.as_string(None))
    if conflict == "version":
        conflict = {"default": "version", "version": number}
    elif conflict == "delta":
        conflict = {"default": "apply_remote", "columns": {number: "delta"}}
    common = {"table": f"public.{table}", "key": {key: "k"}, **({"conflict": conflict} if conflict else {})}
    routes: list[dict[str, Any]] = [
        {
            "topic": "up",
            "set": {other: "o", number: "v"},
            "on_delete": "soft_delete",
            "soft_delete": {mark: True},
            **common,
        },
        {"topic": "in", "operation": "insert", "set": {other: "o", number: "v"}, **common},
        {"topic": "down", "operation": "update", "set": {other: "o"}, "missing": "ignore", **common},
        {"topic": "add", "operation": "delta", "delta": {number: "v"}, "missing": "ignore", **common},
    ]
    process = rig.process(*routes)

    def told(op: str, k: int, v: int, before: int | None = None) -> dict[str, Any]:
        old = None if before is None else {"k": k, "o": "x", "v": before}
        return {"op": op, "before": old, "after": {"k": k, "o": "x", "v": v}}

    process.feed(*(("up", {"k": k}, told("c", k, k)) for k in (1, 2)))
    rig.sql(
        sql.SQL("UPDATE {} SET {} = 9 WHERE {} = 1").format(*map(sql.Identifier, (table, number, key))).as_string(None)
    )
    process.feed(("up", {"k": 1}, told("u", 1, 5, 1)), ("up", {"k": 2}, told("u", 2, 4, 2)))
    process.feed(
        ("in", {"k": 3}, {"k": 3, "o": "y", "v": 0}), ("up", {"k": 1}, {"op": "d", "before": {"k": 1}, "after": None})
    )
    if conflict is None or isinstance(conflict, str):
        process.feed(("down", {"k": 3}, {"k": 3, "o": "z"}), ("add", {"k": 3}, {"k": 3, "v": 2}))
        process.feed(("in", {"k": 3}, None), ("up", {"k": 2}, told("u", 2, 6)))
    rows = rig.sql(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table)).as_string(None))
    assert rows[0][0] >= 2
    assert rig.sql("SELECT * FROM pycdc.parked") == []


@pytest.mark.parametrize("seed", range(2))
def test_what_a_dry_run_shows_is_sql(rig: Rig, seed: int) -> None:
    random = Random(seed)
    table, key, other = names(random, 3)
    ddl = sql.SQL("CREATE TABLE {} ({} int PRIMARY KEY, {} text)").format(*map(sql.Identifier, (table, key, other)))
    rig.sql(ddl.as_string(None))
    route = {"topic": "items", "table": f"public.{table}", "key": {key: "k"}, "set": {other: "o"}}
    settings = PostgresSinkConfig.model_validate({"dsn": rig.dsn, "routes": [route]})
    with preview(settings, "back") as shown:
        event = Decoder(None).event(Partition("items", 0), 0, 0, b'{"k": 1}', b'{"k": 1, "o": "x"}')
        (statement,) = shown.plan(event).statements
    with psycopg.connect(rig.dsn) as connection:
        connection.execute(f"PREPARE p AS {statement.text}".encode())
        connection.execute(f"EXECUTE p({', '.join(statement.literals())})".encode())
