"""End a task of the backlog: all its rows are read, or it cannot be fulfilled."""

from __future__ import annotations

import time
from typing import Final

from pycdc.clients.postgres_errors import TableLocked
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.snapshot.backlog import Backlog, TableTask
from pycdc.connectors.postgres.snapshot.chunk_reader import ChunkReader
from pycdc.connectors.postgres.snapshot.lock_yield import Yielding
from pycdc.connectors.postgres.snapshot.notifications import Scan
from pycdc.connectors.postgres.snapshot.progress_report import SnapshotReport
from pycdc.errors import ConfigError, PycdcError
from pycdc.observability.logger import get_logger

log = get_logger()

_TOO_SLOW: Final = "raise signals.filter_timeout, or let an index of the table answer the condition"


class TaskEnd:
    """Ends tasks, and closes the connections of the snapshot with the last one."""

    def __init__(
        self, config: CapturePipeline, backlog: Backlog, report: SnapshotReport, reader: ChunkReader, yielding: Yielding
    ) -> None:
        self._limit = config.signals.filter_timeout
        self._backlog = backlog
        self._report = report
        self._reader = reader
        self._yielding = yielding

    def finish(self, task: TableTask, status: Scan | None = None) -> None:
        """Take a task off the backlog. `status` is why it is not read to its end."""
        self._report.finished(task, status)
        self._backlog.finish(task)
        if not len(self._backlog):
            self.close()

    def give_up(self, task: TableTask, error: PycdcError, began: float) -> None:
        """End a task that a signal asked for and that cannot be fulfilled; raise `error` where it is another one's.

        A condition that divides by zero, for instance, must not stop the stream. `began` is when its chunk began, by
        the monotonic clock.
        """
        if isinstance(error, TableLocked) and task.from_signal and time.monotonic() - began >= self._limit * 0.9:
            error = ConfigError(f"reading under its condition took longer than {self._limit:g} s", hint=_TOO_SLOW)
        if error.retry or not task.ad_hoc:
            raise error
        log.error("gave up the snapshot of a table", table=str(task), error=error.code, fact=error.fact)
        self._reader.end()
        self.finish(task, "SQL_EXCEPTION")

    def close(self) -> None:
        """Close the connections; they are opened again when they are needed."""
        self._yielding.close()
        self._reader.close()
