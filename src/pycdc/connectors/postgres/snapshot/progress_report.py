"""What is told of tables while they are read: to those who watch the progress, and as Debezium's notifications."""

from __future__ import annotations

from collections.abc import Callable

from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.snapshot.backlog import Backlog, TableTask
from pycdc.connectors.postgres.snapshot.notifications import Extent, Notifications, Scan
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress, TableSnapshot

log = get_logger()


class SnapshotReport:
    """For the readings of `backlog`; a chunk of one has at most `rows` rows."""

    def __init__(
        self, catalog: Catalog, progress: Progress, backlog: Backlog, notifications: Notifications, rows: int
    ) -> None:
        self._catalog = catalog
        self._progress = progress
        self._backlog = backlog
        self._notifications = notifications
        self._rows = rows
        self._shown: dict[TableTask, TableSnapshot] = {}
        self._extents: dict[TableTask, Extent] = {}

    def show(self, readings: list[TableTask]) -> None:
        """They are to be read."""
        if not readings:
            return
        estimates = {(ref.schema, ref.name): ref.rows_estimate or 0 for ref in self._catalog.tables(["*.*"])}
        for reading in readings:
            estimated = estimates.get((reading.schema, reading.name), 0)
            shown = TableSnapshot(str(reading), done=reading.rows, estimated=0 if reading.where else estimated)
            self._shown[reading] = shown
            # A table that is read again takes the place of what it was.
            others = [table for table in self._progress.snapshot if table.table != shown.table]
            self._progress.snapshot = [*others, shown]

    def begun(self, reading: TableTask, extent: Callable[[], Extent]) -> None:
        """A chunk of it is read; `extent` tells how much there is, at some cost."""
        if self._notifications.wanted and reading not in self._extents:
            self._extents[reading] = extent() if reading.ad_hoc else Extent()
            if not reading.ad_hoc:
                self._notifications.scanning(reading, self._fellows(reading))

    def count(self, reading: TableTask, rows: int) -> None:
        if reading in self._shown:
            self._shown[reading].read(rows)

    def chunk(self, reading: TableTask) -> None:
        """A chunk of it was read, and is counted."""
        if reading.ad_hoc and self._notifications.wanted:
            extent = self._extents.get(reading, Extent())
            self._notifications.chunk(reading, self._fellows(reading), extent, self._rows)

    def finished(self, reading: TableTask, status: Scan | None) -> None:
        """Nothing more of it is read; it is in the backlog still. `status` None: all rows were read."""
        shown, extent = self._shown.pop(reading, None), self._extents.pop(reading, Extent())
        rows = reading.rows if shown is None else shown.done
        fellows = self._fellows(reading)
        self._notifications.table_read(reading, fellows, extent, rows, status or ("SUCCEEDED" if rows else "EMPTY"))
        if len(fellows) == 1:
            self._notifications.completed(reading)
        if shown is not None:
            shown.finished = True
            log.info("read a table", table=str(reading), rows=shown.done)

    def cancelled(self, reading: TableTask) -> None:
        self._shown.pop(reading, None)
        self._extents.pop(reading, None)
        log.info("cancelled the snapshot of a table", table=str(reading), rows=reading.rows)

    def _fellows(self, reading: TableTask) -> list[TableTask]:
        """What the same signal asked for, or the first snapshot, and is not read yet."""
        return [other for other in self._backlog if other.request == reading.request]
