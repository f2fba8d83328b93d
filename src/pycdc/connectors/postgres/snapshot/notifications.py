"""Debezium's notifications: what becomes of snapshots, as records of a topic of their own.

Source: Debezium 3.7, "Receiving Debezium notifications", and recordings of its lines 3.6 and 3.7. They are delivered
with the rows that they tell of, at least once as these. Where no topic is configured, none is made.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final, Literal
from uuid import uuid4

from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.snapshot.backlog import ADDED, RESYNC, TableTask
from pycdc.model.change import Batch
from pycdc.model.notification import Notification

Scan = Literal["SUCCEEDED", "EMPTY", "SQL_EXCEPTION", "UNKNOWN_SCHEMA"]
_INITIAL: Final = "Initial Snapshot"
_INCREMENTAL: Final = "Incremental Snapshot"


@dataclass(frozen=True, slots=True)
class Extent:
    """How many rows a task has, as far as that is known, and the key of the last."""

    rows: int | None = None
    last: str | None = None


class Notifications:
    """The notifications of a pipeline, until a batch carries them."""

    def __init__(self, config: CapturePipeline) -> None:
        self.wanted = config.envelope.notification_topic is not None
        self._name = config.name
        self._newest = config.compatibility.notifications == "debezium_3_7"
        self._pending: list[Notification] = []

    def along(self, batches: Generator[Batch | None, None, None]) -> Iterator[Batch | None]:
        """Yield the batches; they carry what is pending."""
        with closing(batches):
            for batch in batches:
                yield self._loaded(batch) if self._pending else batch
        if self._pending:
            yield self._loaded(None)

    def _loaded(self, batch: Batch | None) -> Batch:
        loaded = Batch(flush_now=True) if batch is None else batch
        loaded.notifications, self._pending = self._pending, []
        return loaded

    def skipped(self) -> None:
        """There is no first snapshot, or it is over."""
        self._notify(_INITIAL, "SKIPPED")

    def began(self, tables: Sequence[object]) -> None:
        """Report that the first snapshot begins."""
        self._notify(_INITIAL, "STARTED")
        if self._newest:
            self._notify(_INITIAL, "DATA_COLLECTIONS_RESOLVED", tables=tables)

    def scanning(self, table: object, tables: Sequence[object]) -> None:
        """Report that the rows of one of its `tables` are read from here on."""
        self._notify(_INITIAL, "IN_PROGRESS", tables=tables, current_collection_in_progress=table)

    def scanned(self, table: object, tables: Sequence[object], rows: int, status: Scan) -> None:
        details: dict[str, object] = {"scanned_collection": table, "total_rows_scanned": rows, "status": status}
        self._notify(_INITIAL, "TABLE_SCAN_COMPLETED", None, tables, **details)

    def ended(self) -> None:
        """Report that the first snapshot is complete."""
        self._notify(_INITIAL, "COMPLETED")

    def started(self, tasks: Sequence[TableTask]) -> None:
        """Report that what a signal asked for is to be read."""
        for task in tasks[:1]:
            self._notify(_INCREMENTAL, "STARTED", task, tasks)
            if self._newest:
                self._notify(_INCREMENTAL, "DATA_COLLECTIONS_RESOLVED", task, tasks)

    def changed(self, status: Literal["PAUSED", "RESUMED", "ABORTED"], tasks: Sequence[TableTask]) -> None:
        """Report a change of what is still to be read, once for each signal."""
        for request in dict.fromkeys(task.request for task in tasks):
            same_request = [task for task in tasks if task.request == request]
            self._notify(_INCREMENTAL if same_request[0].ad_hoc else _INITIAL, status, same_request[0], same_request)

    def chunk(self, task: TableTask, same_request: Sequence[TableTask], extent: Extent, rows: int) -> None:
        """Report that a chunk was read; one has at most `rows` rows."""
        details: dict[str, object] = {"current_collection_in_progress": task}
        details["last_processed_key"] = ",".join(text.decode("utf-8", "replace") for text in task.after or ())
        if extent.last is not None:
            details["maximum_key"] = extent.last
        if self._newest:
            details["chunk_index"] = -(-task.rows // rows)
        if self._newest and extent.rows is not None:
            details |= {"total_rows": extent.rows, "total_chunks": -(-extent.rows // rows)}
        self._notify(_INCREMENTAL, "IN_PROGRESS", task, same_request, **details)

    def table_read(
        self, task: TableTask, same_request: Sequence[TableTask], extent: Extent, rows: int, status: Scan
    ) -> None:
        if not task.ad_hoc:
            self.scanned(task, same_request, rows, status)
            return
        details: dict[str, object] = {"scanned_collection": task, "total_rows_scanned": rows, "status": status}
        if self._newest and extent.rows is not None:
            details["total_rows"] = extent.rows
        self._notify(_INCREMENTAL, "TABLE_SCAN_COMPLETED", task, same_request, **details)

    def completed(self, task: TableTask) -> None:
        """Report that this was the last table of its signal, or of the first snapshot."""
        if task.ad_hoc:
            self._notify(_INCREMENTAL, "COMPLETED", task)
        else:
            self.ended()

    def _notify(
        self,
        about: str,
        kind: str,
        task: TableTask | None = None,
        tables: Sequence[object] = (),
        **details: object,
    ) -> None:
        if not self.wanted:
            return
        data = {"connector_name": self._name, **{name: str(value) for name, value in details.items()}}
        if tables:
            data["data_collections"] = ",".join(map(str, tables))
        self._pending.append(Notification(_identity(task), about, kind, data, time.time_ns() // 1_000_000))


def _identity(task: TableTask | None) -> str:
    """Return the id of the signal, as its sender knows it; another each time where there is none."""
    if task is None or not task.ad_hoc or task.request in (ADDED, RESYNC):
        return str(uuid4())
    return task.signal
