"""Notifications of snapshots: what is told of which signal, and that it comes with what it tells of."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from pycdc.config import validate_capture
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.connector import PostgresConnector
from pycdc.connectors.postgres.snapshot.backlog import ADDED, Backlog, TableTask
from pycdc.connectors.postgres.snapshot.notifications import Extent, Notifications
from pycdc.connectors.postgres.snapshot.progress_report import SnapshotReport
from pycdc.model.change import Batch, Lsn, Op, Position
from pycdc.model.notification import Notification
from pycdc.observability.progress import Progress
from tests.connectors.postgres.reading import execute

SIGNAL = "mine at 0/16B3748"


def config_for(dsn: str = "postgresql://x", topic: str | None = "notes", **options: Any) -> CapturePipeline:
    source = {"dsn": dsn, "snapshot": "never", "snapshot_chunk": 2, **options.pop("source", {})}
    document = {"name": "shop", "source": {"postgres": source}, "sink": {"null": {}}, **options}
    return validate_capture({**document, "envelope": {"notification_topic": topic}})


def carried(notifications: Notifications) -> list[Notification]:
    def nothing() -> Generator[Batch | None, None, None]:
        yield None

    return [told for batch in notifications.along(nothing()) if batch is not None for told in batch.notifications]


def orders(**facts: Any) -> TableTask:
    return TableTask("public", "orders", request=SIGNAL, **facts)


def test_nothing_is_made_without_a_topic() -> None:
    notifications = Notifications(config_for(topic=None))
    notifications.skipped()
    notifications.started([orders()])
    assert carried(notifications) == []


def test_what_is_pending_goes_with_the_next_batch_or_by_itself() -> None:
    notifications = Notifications(config_for())
    given = [None, Batch(position=Position(Lsn(1))), Batch(position=Position(Lsn(2)))]

    def batches() -> Generator[Batch | None, None, None]:
        yield given[0]
        notifications.skipped()
        yield given[1]
        yield given[2]
        notifications.ended()

    delivered = list(notifications.along(batches()))
    assert delivered[:3] == given
    kinds = [[told.type for told in batch.notifications] if batch is not None else [] for batch in delivered]
    assert kinds == [[], ["SKIPPED"], [], ["COMPLETED"]]


def test_a_notification_has_the_id_that_the_sender_of_its_signal_gave() -> None:
    notifications = Notifications(config_for())
    added = TableTask("public", "late", request=ADDED)
    notifications.changed("PAUSED", [orders(), added, TableTask("public", "items", request=SIGNAL)])
    ours, other = carried(notifications)
    assert (ours.id, ours.type, ours.aggregate) == ("mine", "PAUSED", "Incremental Snapshot")
    assert ours.data == {"connector_name": "shop", "data_collections": "public.orders,public.items"}
    assert other.data["data_collections"] == "public.late"
    assert len(other.id) == 36


def test_a_chunk_tells_how_far_it_is() -> None:
    notifications = Notifications(config_for())
    task = orders(after=(b"3", b"b"), rows=3)
    notifications.chunk(task, [task], Extent(5, "5,a"), 2)
    (told,) = carried(notifications)
    assert told.data == {
        "connector_name": "shop",
        "data_collections": "public.orders",
        "current_collection_in_progress": "public.orders",
        "last_processed_key": "3,b",
        "maximum_key": "5,a",
        "chunk_index": "2",
        "total_rows": "5",
        "total_chunks": "3",
    }


@pytest.mark.parametrize(
    ("rows", "status", "said"), [(0, None, "EMPTY"), (3, None, "SUCCEEDED"), (3, "SQL_EXCEPTION", "SQL_EXCEPTION")]
)
def test_a_signal_is_completed_with_its_last_table(rows: int, status: Any, said: str) -> None:
    notifications = Notifications(config_for())
    first, last = orders(rows=rows), TableTask("public", "items", request=SIGNAL)
    backlog = Backlog([first, last])
    report = SnapshotReport(None, Progress(), backlog, notifications, 2)  # type: ignore[arg-type]
    report.finished(first, status)
    backlog.finish(first)
    report.finished(last, None)
    told = carried(notifications)
    assert [one.type for one in told] == ["TABLE_SCAN_COMPLETED", "TABLE_SCAN_COMPLETED", "COMPLETED"]
    assert (told[0].data["status"], told[0].data["total_rows_scanned"]) == (said, str(rows))


@pytest.mark.pg("newest")
def test_signals_that_pause_resume_and_stop_a_snapshot_are_told(database: str) -> None:
    execute(database, "CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, 9)")
    execute(database, "CREATE TABLE signals (id varchar(64) PRIMARY KEY, type varchar(32), data varchar(2048))")
    config = config_for(database, source={"tables": ["orders"]}, signals={"table": "public.signals"})
    said = [
        ("pause-snapshot", "{}"),
        ("execute-snapshot", '{"data-collections": ["public.orders"]}'),
        ("pause-snapshot", "{}"),
        ("resume-snapshot", "{}"),
        ("stop-snapshot", '{"data-collections": ["public.orders"]}'),
    ]
    progress = Progress()
    connector, told, sent = PostgresConnector(config, progress), [], False
    try:
        for batch in connector.batches(None):
            told += [] if batch is None else batch.notifications
            if progress.state == "streaming" and not sent:
                # In one transaction, so that nothing is read between them.
                values = ", ".join(f"('s{number}', '{kind}', '{data}')" for number, (kind, data) in enumerate(said))
                execute(database, f"INSERT INTO signals VALUES {values}")
                sent = True
            if told and told[-1].type == "ABORTED":
                break
    finally:
        connector.close()
    assert [(one.id, one.type) for one in told[1:]] == [
        ("s1", kind) for kind in ("STARTED", "DATA_COLLECTIONS_RESOLVED", "PAUSED", "RESUMED", "ABORTED")
    ]
    assert told[0].type == "SKIPPED"


@pytest.mark.pg("newest")
@pytest.mark.parametrize("method", ["pinned", "chunks"])
def test_a_first_snapshot_is_told_however_it_is_read(database: str, method: str) -> None:
    execute(database, "CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, 5)")
    execute(database, "CREATE TABLE empty (id int PRIMARY KEY)")
    config = config_for(database, source={"snapshot": "initial", "snapshot_method": method})
    connector, told, rows = PostgresConnector(config), [], 0
    try:
        for batch in connector.batches(None):
            if batch is not None:
                rows += sum(change.op is Op.READ for change in batch)
                told += batch.notifications
            if told and told[-1].type == "COMPLETED":
                break
    finally:
        connector.close()
    kinds = ["STARTED", "DATA_COLLECTIONS_RESOLVED", *2 * ["IN_PROGRESS", "TABLE_SCAN_COMPLETED"], "COMPLETED"]
    assert [one.type for one in told] == kinds
    assert {one.aggregate for one in told} == {"Initial Snapshot"}
    scans = {one.data["scanned_collection"]: one.data for one in told if one.type == "TABLE_SCAN_COMPLETED"}
    assert {name: (data["status"], data["total_rows_scanned"]) for name, data in scans.items()} == {
        "public.empty": ("EMPTY", "0"),
        "public.orders": ("SUCCEEDED", "5"),
    }
    assert rows == 5
