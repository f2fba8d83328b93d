"""Where going on would lose or invent rows, the pipeline refuses and says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

import pycdc
from tests.faults.harness import Rig


@pytest.fixture
def stopped(rig: Rig) -> Path:
    """The configuration of a pipeline that ran and was stopped."""
    config = rig.config()
    process = rig.start(config)
    rig.finish()
    process.stop()
    return config


def refusal(rig: Rig, config: Path) -> str:
    process = rig.start(config)
    assert process.wait() == 1, process.log
    return process.log


def slot(rig: Rig) -> str:
    return str(rig.execute("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")[0][0])


def test_a_slot_that_somebody_moved_forward_is_a_gap(rig: Rig, stopped: Path) -> None:
    rig.execute("INSERT INTO items VALUES (7000, 1)")
    rig.execute(f"SELECT pg_replication_slot_advance('{slot(rig)}', pg_current_wal_lsn())")
    said = refusal(rig, stopped)
    assert "is ahead of the stored position" in said
    assert "teardown" in said


def test_a_slot_that_was_dropped_is_a_gap(rig: Rig, stopped: Path) -> None:
    rig.execute(f"SELECT pg_drop_replication_slot('{slot(rig)}')")
    said = refusal(rig, stopped)
    assert "is gone" in said
    assert "teardown" in said


def test_a_slot_that_was_made_anew_is_a_gap(rig: Rig, stopped: Path) -> None:
    name = slot(rig)
    rig.execute(f"SELECT pg_drop_replication_slot('{name}')")
    rig.execute("INSERT INTO items VALUES (7000, 1)")
    rig.execute(f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")
    assert "is ahead of the stored position" in refusal(rig, stopped)


@pytest.mark.pg("==15")
def test_another_server_under_the_same_name_is_refused(rig: Rig, stopped: Path) -> None:
    from tests.services import matrix

    other = next(source for source in matrix.sources() if 15 not in source.numbers).launch()
    try:
        dsn = other.create_database()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE items (id int PRIMARY KEY, v int NOT NULL)")
        said = refusal(rig, rig.config(dsn=dsn))
        assert "belongs to database system" in said
        assert "try:" in said
    finally:
        other.close()


@pytest.mark.pg("==15")
def test_a_second_instance_waits_and_then_names_the_first(rig: Rig) -> None:
    config = rig.config(source={"slot_timeout": 1})
    first = rig.start(config)
    rig.finish()
    second = rig.start(rig.config(source={"slot_timeout": 1}, retries={"give_up_after": 0.1}))
    assert second.wait() == 1
    assert "is read by another session, pid" in second.log
    assert first.alive()
    first.stop()


@pytest.mark.pg("==15")
@pytest.mark.parametrize("snapshot", ["when_needed"])
def test_when_needed_starts_over_with_a_snapshot_instead(rig: Rig, stopped: Path, snapshot: Any) -> None:
    rig.execute(f"SELECT pg_drop_replication_slot('{slot(rig)}')")
    rig.execute("INSERT INTO items VALUES (7000, 1)")
    process = rig.start(rig.config(source={"snapshot": snapshot}))
    expected = rig.finish()
    process.stop()
    state = {r.key["id"] for r in rig.records() if r.value is not None and r.value["op"] == "r"}
    assert 7000 in state
    assert expected.keys() <= state


def test_a_table_that_leaves_the_publication_ends_the_stream(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE items (id int PRIMARY KEY)")
        changes = pycdc.capture(database, ["items"], idle=True, publication_check=0.2)
        assert next(changes) is None
        connection.execute("ALTER PUBLICATION pycdc_capture DROP TABLE items")
        with pytest.raises(pycdc.PositionGap, match=r"no longer publishes public\.items"):
            for _ in changes:
                pass


@pytest.mark.pg("==15")
def test_publishing_a_table_whose_updates_will_fail_is_announced(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE keyed (id int PRIMARY KEY)")
        connection.execute("CREATE TABLE bare (id int)")
    assert next(pycdc.capture(database, ["keyed", "bare"], idle=True)) is None
    (warning,) = [record for record in caplog.records if "UPDATE and DELETE fail" in record.getMessage()]
    assert warning.__dict__["tables"] == ["public.bare"]
