"""Report on tables while they are read: to those who watch the progress, and as Debezium's notifications."""

from __future__ import annotations

from collections.abc import Callable

from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.snapshot.backlog import Backlog, TableTask
from pycdc.connectors.postgres.snapshot.notifications import Extent, Notifications, Scan
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress, TableSnapshot

log = get_logger()


class SnapshotReport:
    """Reports about the tasks of `backlog`; a chunk of one has at most `rows` rows."""

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

    def show(self, tasks: list[TableTask]) -> None:
        """Show that these are to be read."""
        if not tasks:
            return
        estimates = {(ref.schema, ref.name): ref.rows_estimate or 0 for ref in self._catalog.tables(["*.*"])}
        for task in tasks:
            estimated = estimates.get((task.schema, task.name), 0)
            shown = TableSnapshot(str(task), done=task.rows, estimated=0 if task.where else estimated)
            self._shown[task] = shown
            # A table that is read again takes the place of what it was.
            others = [table for table in self._progress.snapshot if table.table != shown.table]
            self._progress.snapshot = [*others, shown]

    def begun(self, task: TableTask, extent: Callable[[], Extent]) -> None:
        """Report that a chunk of a task is read; `extent` finds out how much there is, at some cost."""
        if self._notifications.wanted and task not in self._extents:
            self._extents[task] = extent() if task.ad_hoc else Extent()
            if not task.ad_hoc:
                self._notifications.scanning(task, self._same_request(task))

    def count(self, task: TableTask, rows: int) -> None:
        if task in self._shown:
            self._shown[task].read(rows)

    def chunk(self, task: TableTask) -> None:
        """Report that a chunk of a task was read, and is counted."""
        if task.ad_hoc and self._notifications.wanted:
            extent = self._extents.get(task, Extent())
            self._notifications.chunk(task, self._same_request(task), extent, self._rows)

    def finished(self, task: TableTask, status: Scan | None) -> None:
        """Report that nothing more of a task is read; it is in the backlog still. `status` None: all rows were read."""
        shown, extent = self._shown.pop(task, None), self._extents.pop(task, Extent())
        rows = task.rows if shown is None else shown.done
        same_request = self._same_request(task)
        self._notifications.table_read(task, same_request, extent, rows, status or ("SUCCEEDED" if rows else "EMPTY"))
        if len(same_request) == 1:
            self._notifications.completed(task)
        if shown is not None:
            shown.finished = True
            log.info("read a table", table=str(task), rows=shown.done)

    def cancelled(self, task: TableTask) -> None:
        self._shown.pop(task, None)
        self._extents.pop(task, None)
        log.info("cancelled the snapshot of a table", table=str(task), rows=task.rows)

    def _same_request(self, task: TableTask) -> list[TableTask]:
        """Return what the same signal asked for, or the first snapshot, and is not read yet."""
        return [other for other in self._backlog if other.request == task.request]
