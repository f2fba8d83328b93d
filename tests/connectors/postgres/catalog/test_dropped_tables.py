"""What is kept for a table's rows is freed when the table is gone, and not before its rows came."""

from __future__ import annotations

import gc
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from pycdc.config import validate_capture
from pycdc.interfaces import Checkpoint
from pycdc.model.change import Batch, Table
from pycdc.rows.encoder import RowEncoder
from pycdc.sinks.column_rules import ColumnRulesSink
from pycdc.transforms.capture import CaptureTransforms, TransformingSink
from tests.connectors.postgres.looping import Looping
from tests.connectors.postgres.reading import execute

pytestmark = [pytest.mark.server, pytest.mark.pg("newest")]
TABLES = 200


class Counting:
    """A sink that keeps nothing of the rows."""

    def __init__(self) -> None:
        self.rows = 0

    def write(self, batch: Batch) -> None:
        self.rows += batch.size

    def commit(self, checkpoint: Checkpoint) -> None:
        pass

    def idle(self) -> None:
        pass

    def close(self) -> None:
        pass


def kept() -> int:
    gc.collect()
    return sum(isinstance(found, Table | RowEncoder) for found in gc.get_objects())


def capture(database: str, batch: int = 1000, **more: object) -> Looping:
    execute(database, "CREATE TABLE stays (id int PRIMARY KEY, v int); CREATE PUBLICATION pycdc_loop FOR ALL TABLES")
    source = {"dsn": database, "tables": ["public.*"], "snapshot": "never", "publication_check": 0.1}
    source["max_batch_changes"] = batch
    return Looping(validate_capture({"name": "loop", "source": {"postgres": source}, "sink": {"null": {}}, **more}))


def come_and_go(database: str, numbers: range) -> None:
    for number in numbers:
        name = f"t{number}"
        execute(database, f"CREATE TABLE {name} (id int PRIMARY KEY, v int); INSERT INTO {name} VALUES (1), (2)")
        execute(database, f"UPDATE {name} SET v = 1; DROP TABLE {name}")


def until_forgotten(running: Looping, database: str, most: int) -> None:
    def flat() -> bool:
        # What is gone is noticed by and by, and freed as the position moves.
        execute(database, "INSERT INTO stays SELECT coalesce(max(id), 0) + 1 FROM stays")
        return kept() <= most

    running.until(flat)


def test_tables_that_come_and_go_leave_nothing_in_memory(database: str) -> None:
    with capture(database) as running:
        running.until_streaming()
        execute(database, "INSERT INTO stays VALUES (1)")
        running.until(lambda: running.records)
        before = kept()
        for start in range(0, TABLES, TABLES // 4):
            numbers = range(start, start + TABLES // 4)
            come_and_go(database, numbers)
            last = f"t{numbers[-1]}"
            running.until(lambda last=last: running.state(last, "v") == {1: 1, 2: 1})  # type: ignore[misc]
            until_forgotten(running, database, before + 10)
        assert all(running.state(f"t{number}", "v") == {1: 1, 2: 1} for number in range(TABLES))


def test_tables_behind_functions_and_rules_leave_nothing_in_memory(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "passing_by.py").write_text("def same(row):\n    return row\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    transforms = [{"function": "passing_by:same", "tables": ["public.*"]}]
    rules = [{"tables": "public.*", "exclude_columns": ["v"]}]
    running, counting = capture(database, transforms=transforms, rules=rules), Counting()
    sink: Any = TransformingSink(
        ColumnRulesSink(counting, running.config), CaptureTransforms(running.config, running.progress)
    )
    running.sink = sink
    with running:
        running.until_streaming()
        execute(database, "INSERT INTO stays VALUES (1)")
        running.until(lambda: counting.rows)
        before = kept()
        come_and_go(database, range(30))
        running.until(lambda: counting.rows == 1 + 30 * 4)
        until_forgotten(running, database, before + 10)


def test_rows_of_a_table_that_is_gone_come_however_late_they_are_read(database: str) -> None:
    running = capture(database, batch=10)
    with running:
        running.until_streaming()
        execute(database, "CREATE TABLE gone (id int PRIMARY KEY, v int); INSERT INTO gone VALUES (0, 0)")
        running.until(lambda: running.state("gone", "v"))
    rows = range(1, 301)
    execute(database, "BEGIN; COMMIT;".join(f"INSERT INTO gone VALUES ({number}, {number});" for number in rows))
    execute(database, "DROP TABLE gone; INSERT INTO stays VALUES (1)")
    with Looping(running.config, running.offsets) as second:
        # So that it looks for what is gone many times before it has read all.
        second.sink.pause = lambda batch: sleep(0.02)
        second.until(lambda: second.state("stays", "v"))
        assert second.state("gone", "v") == {number: number for number in rows}
