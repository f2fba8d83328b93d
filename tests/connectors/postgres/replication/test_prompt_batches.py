"""Which batches somebody may be waiting for, and which are part of a crowd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pycdc.connectors.postgres.connector import PostgresConnector
from pycdc.model.change import Batch
from pycdc.observability.progress import Progress
from tests.connectors.postgres.reading import config_for, execute
from tests.reading import wait_for

pytestmark = pytest.mark.pg("newest")


@pytest.fixture
def batches(database: str) -> Iterator[Iterator[Batch | None]]:
    """Of a stream that has begun, from the table `many`."""
    execute(database, "CREATE TABLE many (id int PRIMARY KEY, note text)")
    progress = Progress()
    connector = PostgresConnector(config_for(database, snapshot="never", max_batch_bytes=1 << 20), progress)
    made = connector.batches(None)
    # None says that nothing comes, while the slot is made too.
    wait_for(lambda: next(made) is None and progress.state == "streaming")
    yield made
    connector.close()


def read(batches: Iterator[Batch | None], rows: int) -> list[Batch]:
    """The batches that hold so many rows."""
    found: list[Batch] = []

    def complete() -> bool:
        batch = next(batches)
        if batch is not None and batch.runs:
            found.append(batch)
        return sum(map(len, found)) >= rows

    wait_for(complete)
    return found


def test_a_row_that_comes_alone_is_prompt(batches: Iterator[Batch | None], database: str) -> None:
    execute(database, "INSERT INTO many VALUES (1, 'alone')")
    assert [batch.flush_now for batch in read(batches, 1)] == [True]


def test_rows_that_come_in_a_crowd_are_not(batches: Iterator[Batch | None], database: str) -> None:
    execute(database, "INSERT INTO many SELECT i, 'one of many' FROM generate_series(1, 20000) i")
    found = read(batches, 20_000)
    assert [batch for batch in found if len(batch) >= 256]
    assert not any(batch.flush_now for batch in found if len(batch) >= 256)
