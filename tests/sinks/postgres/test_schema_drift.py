"""Tables that change under the pipeline: new statements where the routes fit again, else the table's topics halt."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from pycdc.errors import EnvironmentNotReady
from pycdc.sinks.postgres import schema_drift as targets
from tests.sinks.postgres.rig import Process, Rig

pytestmark = pytest.mark.pg("newest")

TABLES = "CREATE TABLE items (id int PRIMARY KEY, name text, n int); CREATE TABLE other (id int PRIMARY KEY);"
OTHER = {"topic": "other", "table": "other"}
NAMED = {"topic": "items", "table": "items", "set": {"name": "name", "n": "n"}}
ADD_MUST = "ADD COLUMN must int NOT NULL DEFAULT 0; ALTER TABLE items ALTER COLUMN must DROP DEFAULT"
BY_NAME = {"topic": "items", "table": "items"}


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    rig = Rig(database)
    rig.sql(TABLES)
    yield rig
    rig.close()


def feed(process: Process, number: int) -> dict[str, float]:
    """An event for each table; which topics were held, and for how long."""
    taken = process.feed(("items", number, {"id": number, "name": "cup", "n": 1}), ("other", number, {"id": number}))
    return {} if taken is None else {partition.topic: seconds for partition, seconds in taken.held.items()}


@pytest.mark.parametrize(
    ("break_it", "mend_it", "words"),
    [
        ("DROP COLUMN name", "ADD COLUMN name text", "no column name"),
        ("RENAME COLUMN name TO title", "RENAME COLUMN title TO name", "no column name"),
        ("RENAME TO elsewhere", "RENAME TO items", "table items does not exist"),
        ("DROP CONSTRAINT items_pkey", "ADD PRIMARY KEY (id)", "no primary key"),
        (ADD_MUST, "ALTER COLUMN must SET DEFAULT 0", "column must of table public.items"),
    ],
)
@pytest.mark.parametrize("route", [NAMED, BY_NAME], ids=["set", "by name"])
def test_a_table_that_does_not_fit_halts_alone_and_goes_on_once_it_does(
    rig: Rig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    route: dict[str, Any],
    break_it: str,
    mend_it: str,
    words: str,
) -> None:
    process = rig.process(route, OTHER, on_error="park")
    assert feed(process, 1) == {}
    rig.sql(f"ALTER TABLE items {break_it}")
    with caplog.at_level(logging.ERROR):
        assert feed(process, 2) == feed(process, 3) == {"items": targets.LOOK_AGAIN}
    assert words in process.progress.halted["items"]
    assert caplog.text.count("its topics halt") == 1
    assert "ALTER TABLE" in caplog.text or "create it" in caplog.text or "add `key" in caplog.text
    assert rig.sql("SELECT topic, next_offset FROM pycdc.apply_offsets ORDER BY 1") == [("items", 1), ("other", 3)]
    assert rig.sql("SELECT * FROM pycdc.parked") == []
    rig.sql(f"ALTER TABLE {'elsewhere' if 'RENAME TO e' in break_it else 'items'} {mend_it}")
    assert feed(process, 4) == {"items": targets.LOOK_AGAIN}, "it is not time to look again"
    monkeypatch.setattr(targets, "LOOK_AGAIN", 0.0)
    assert feed(process, 5) == {}
    assert process.progress.halted == {}
    assert rig.sql("SELECT id, n FROM items ORDER BY id") == [(1, 1), (5, 1)]


def test_a_change_that_the_routes_bear_is_not_noticed(rig: Rig) -> None:
    process = rig.process(NAMED, OTHER)
    assert feed(process, 1) == {}
    rig.sql("ALTER TABLE items ALTER COLUMN n TYPE text; ALTER TABLE items ADD COLUMN more int NOT NULL DEFAULT 0")
    assert feed(process, 2) == {}
    rig.sql("ALTER TABLE items DROP COLUMN more, ALTER COLUMN n TYPE int USING n::int")
    assert feed(process, 3) == {}
    assert rig.sql("SELECT count(*), min(n) FROM items") == [(3, 1)]


def test_an_error_that_the_catalog_does_not_explain_halts_the_table_too(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.sql(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM nothing.nowhere(); RETURN NEW; END';"
        "CREATE TRIGGER t BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION f()"
    )
    process = rig.process(NAMED, OTHER, on_error="park")
    assert feed(process, 1) == {"items": targets.LOOK_AGAIN}
    assert "table public.items: InvalidSchemaName" in process.progress.halted["items"]
    rig.sql("DROP TRIGGER t ON items")
    monkeypatch.setattr(targets, "LOOK_AGAIN", 0.0)
    assert feed(process, 2) == {}


def test_a_column_that_had_to_be_given_from_the_start_is_the_events_fault(rig: Rig) -> None:
    rig.sql("ALTER TABLE items ADD COLUMN must int NOT NULL")
    process = rig.process({**NAMED, "operation": "insert"}, OTHER, on_error="park")
    assert feed(process, 1) == {}
    assert rig.sql("SELECT error FROM pycdc.parked") == [("NotNullViolation",)]


@pytest.mark.parametrize("change", ["DROP COLUMN name", ADD_MUST])
def test_a_new_sink_of_the_same_process_halts_what_changed_and_one_of_another_process_does_not_start(
    rig: Rig, change: str
) -> None:
    known = targets.KnownTables()
    process = rig.process(NAMED, OTHER, known=known)
    assert feed(process, 1) == {}
    rig.sql(f"ALTER TABLE items {change}")
    assert feed(process, 2) == {"items": targets.LOOK_AGAIN}
    process.sink.close()
    heir = rig.process(NAMED, OTHER, known=known)
    assert feed(heir, 3) == {"items": targets.LOOK_AGAIN}
    assert list(heir.progress.halted) == ["items"]
    if change != ADD_MUST:
        with pytest.raises(EnvironmentNotReady, match="no column name"):
            rig.process(NAMED, OTHER)
