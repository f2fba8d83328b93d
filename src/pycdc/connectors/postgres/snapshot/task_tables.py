"""Find the table of a task as it is now: it may have another name, or transactions that are to end first."""

from __future__ import annotations

from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import TableRef
from pycdc.connectors.postgres.catalog.open_transactions import older_writers
from pycdc.connectors.postgres.snapshot.backlog import Backlog, TableTask
from pycdc.connectors.postgres.snapshot.progress_report import SnapshotReport
from pycdc.observability.logger import get_logger

log = get_logger()


class TaskTables:
    """Looks the tables of a backlog's tasks up in the catalog."""

    def __init__(self, config: CapturePipeline, catalog: Catalog, backlog: Backlog, report: SnapshotReport) -> None:
        self._config = config
        self._catalog = catalog
        self._backlog = backlog
        self._report = report
        self._awaited: set[TableTask] = set()

    def find(self, task: TableTask) -> TableRef | None:
        """Return the table, whatever its name is by now; one that is not captured under it counts as gone."""
        found = self._catalog.tables([str(task)])
        ref = next((ref for ref in found if (ref.schema, ref.name) == (task.schema, task.name)), None)
        if task.oid is not None and (ref is None or ref.oid != task.oid):
            ref = self._renamed(task, task.oid, ref)
        if ref is not None:
            self._backlog.identify(task, ref.oid, ref.schema, ref.name)
        return ref

    def has_older_writers(self, task: TableTask, ref: TableRef) -> bool:
        """Return whether a transaction wrote to the table before it was published, and goes on.

        The stream does not have all of it, so the chunk that has must not be read before it ended. Such a task is
        postponed.
        """
        if task.since is None:
            return False
        writers = older_writers(self._catalog, ref.oid, task.since)
        if not writers:
            self._backlog.settle(task)
            return False
        if task not in self._awaited:
            self._awaited.add(task)
            log.warning("reading a table waits for older transactions that write to it", table=str(task), pids=writers)
        self._backlog.postpone(task)
        return True

    def _renamed(self, task: TableTask, oid: int, namesake: TableRef | None) -> TableRef | None:
        source = self._config.source.postgres
        ref = self._catalog.named(oid, source.tables, source.exclude_tables)
        if ref is None:
            return namesake
        log.warning("a table has another name, and is read on under it", before=str(task), now=str(ref))
        if namesake is not None:
            # Somebody made another table under the name that was to be read.
            same = TableTask(task.schema, task.name, where=task.where, request=task.request)
            same.oid = namesake.oid
            self._backlog.add([same])
            self._report.show([same])
        return ref
