"""What is known of rows while nothing of a batch is written yet."""

from __future__ import annotations

import psycopg
import pytest

from pycdc.sinks.postgres.writing.known_rows import KnownRows
from tests.sinks.postgres.writing.test_writes import moved, write

pytestmark = pytest.mark.pg("newest")


def test_a_row_is_where_the_writes_so_far_put_it_however_often_it_was_moved(database: str) -> None:
    space = write("upsert").shape.space
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE items (id int PRIMARY KEY); INSERT INTO items VALUES (1), (7)")
        known = KnownRows(connection)
        known.written(moved(1, 10)[:1])
        for key in range(10, 1500):
            known.written(moved(key, key + 1)[:1])
        assert [known.is_there((space, (text,))) for text in ("1", "10", "1500", "7", "8")] == [
            False,
            False,
            True,
            True,
            False,
        ]
        known.written(moved(7, 1500)[:1])
        assert known.is_there((space, ("7",))), "another row has the key"
        known.written([write("delete", key=7)])
        assert not known.is_there((space, ("7",)))
