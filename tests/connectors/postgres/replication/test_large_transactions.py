"""Transactions, messages and rows that are larger than what anybody has in mind.

`make chaos-large` takes a million transactions within one.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from pycdc.interfaces import Checkpoint
from pycdc.model.change import Batch
from pycdc.offsets.memory import MemoryOffsetStore
from tests.connectors.postgres.looping import Looping, config_for
from tests.connectors.postgres.reading import execute

pytestmark = [pytest.mark.server, pytest.mark.postgres]

SUBTRANSACTIONS = int(os.environ.get("PYCDC_SUBTRANSACTIONS", 20_000))
PATIENCE = 60 + SUBTRANSACTIONS / 1000
WITHIN_ONE = """DO $$ BEGIN FOR i IN 1..{number} LOOP
    BEGIN INSERT INTO a VALUES (i); PERFORM 1 / (i % 10); EXCEPTION WHEN division_by_zero THEN NULL; END;
END LOOP; END $$"""
"""Every tenth is rolled back."""


class Ids:
    """A sink that keeps the keys only."""

    def __init__(self) -> None:
        self.ids: list[int] = []

    def write(self, batch: Batch) -> None:
        for change in batch:
            assert change.after is not None
            self.ids.append(int(change.after["id"]))

    def commit(self, checkpoint: Checkpoint) -> None:
        pass

    def idle(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_transaction_of_very_many_within_it_comes_whole_and_without_what_was_rolled_back(database: str) -> None:
    execute(database, "CREATE TABLE a (id int PRIMARY KEY)")
    # With less the server has a file of its own for each.
    roomy = make_conninfo(database, options="-c logical_decoding_work_mem=1GB")
    running, sink = Looping(config_for(roomy, snapshot="never")), Ids()
    replaced: Any = sink
    running.sink = replaced
    with running:
        running.until_streaming()
        execute(database, WITHIN_ONE.format(number=SUBTRANSACTIONS))
        execute(database, "INSERT INTO a VALUES (0)")
        running.until(lambda: sink.ids[-1:] == [0], PATIENCE)
        assert sink.ids == [*(i for i in range(1, SUBTRANSACTIONS + 1) if i % 10), 0]
        assert running.progress.reconnects == 0


@pytest.mark.pg("newest")
def test_a_large_transaction_that_was_rolled_back_while_nobody_read_stops_nothing(database: str) -> None:
    """Postgres 18 says of what it had put aside that it was aborted, though nothing of it was sent."""
    execute(database, "CREATE TABLE a (id int PRIMARY KEY)")
    small = make_conninfo(database, options="-c logical_decoding_work_mem=64kB")
    offsets, config = MemoryOffsetStore(), config_for(small, snapshot="never")
    with Looping(config, offsets) as first:
        first.until_streaming()
    many = "INSERT INTO a SELECT generate_series(1, 2000)"
    execute(database, f"BEGIN; SAVEPOINT s; INSERT INTO a VALUES (0); RELEASE s; {many}; ROLLBACK")
    execute(database, "INSERT INTO a VALUES (0)")
    with Looping(config, offsets) as second:
        second.until(lambda: [record.key["id"] for record in second.records] == [0])
        second.stop()
        assert second.error is None


@pytest.mark.pg("newest")
def test_a_message_of_sixty_megabytes_comes_whole_and_the_rows_behind_it(database: str) -> None:
    execute(database, "CREATE TABLE a (id int PRIMARY KEY)")
    with Looping(config_for(database, snapshot="never")) as running:
        running.until_streaming()
        execute(database, "SELECT pg_logical_emit_message(true, 'theirs', repeat('x', 60000000))")
        execute(database, "INSERT INTO a VALUES (1)")
        running.until(lambda: running.state("a", "id") == {1: 1})
        message = next(record for record in running.records if record.topic.endswith("message"))
        assert message.value is not None
        hexadecimal = message.value["message"]["content"]["bytes"]
        assert len(hexadecimal) == 2 * 60_000_000
        assert not hexadecimal.strip("78")
        assert running.progress.reconnects == 0
