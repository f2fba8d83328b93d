"""`pycdc sequences --apply`: its exit code says whether every sequence is where it has to be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.cli.conftest import Invoke

pytestmark = pytest.mark.pg("newest")
ROLE = "sequence_reader"


@pytest.fixture
def sql(database: str) -> Iterator[Callable[[str], list[Any]]]:
    with psycopg.connect(database, autocommit=True) as connection:

        def run(statement: str) -> list[Any]:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

        run("CREATE TABLE items (id serial PRIMARY KEY); INSERT INTO items VALUES (10)")
        run(f"DROP ROLE IF EXISTS {ROLE}; CREATE ROLE {ROLE} LOGIN; GRANT SELECT, INSERT ON items TO {ROLE}")
        yield run
        run(f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")


def test_it_is_1_where_a_sequence_cannot_be_read_or_set_and_0_where_all_are(
    database: str, sql: Callable[[str], list[Any]], invoke: Invoke, tmp_path: Path
) -> None:
    path = tmp_path / "back.json"
    sink = {"dsn": psycopg.conninfo.make_conninfo(database, user=ROLE), "routes": [{"topic": "t", "table": "items"}]}
    source = {"brokers": "127.0.0.1:1", "topics": ["t"]}
    path.write_text(json.dumps({"name": "back", "source": {"kafka": source}, "sink": {"postgres": sink}}))

    def apply(*options: str) -> int:
        return invoke("sequences", str(path), *options).exit_code

    assert (apply(), apply("--apply"), apply("--apply", "--json")) == (0, 1, 1), "it cannot be read"
    sql(f"GRANT SELECT ON SEQUENCE items_id_seq TO {ROLE}")
    assert apply("--apply") != 0, "it cannot be set"
    assert sql("SELECT last_value FROM items_id_seq") == [(1,)]
    sql(f"GRANT UPDATE ON SEQUENCE items_id_seq TO {ROLE}")
    assert (apply("--apply"), apply("--apply")) == (0, 0)
    assert sql("SELECT nextval('items_id_seq')") == [(11,)]
