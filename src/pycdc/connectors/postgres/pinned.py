"""The first snapshot: every table as it was at the slot's consistent point, by readers pinned to one exported snapshot.

Tables with a key are read in its order, so that a snapshot that is interrupted can go on behind the last key that was
stored. What it left is then read in chunks (`backfill`): the exported snapshot ended with its session.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from pycdc.config import Config
from pycdc.connectors.postgres.admin import ExportedSnapshot
from pycdc.connectors.postgres.backlog import Backlog, Reading
from pycdc.connectors.postgres.catalog import Catalog
from pycdc.connectors.postgres.facts import CopySource, TableRef
from pycdc.connectors.postgres.keyset import Key
from pycdc.connectors.postgres.markers import SnapshotMarkers
from pycdc.connectors.postgres.relations import Relations
from pycdc.connectors.postgres.snapshot import Part, Rewritten, copy_rows
from pycdc.model import NOWHERE, Batch, Position, Run, Table, Transaction
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress, TableSnapshot

log = get_logger()


class PinnedSnapshot:
    """Made for one snapshot. A batch's position is nowhere; its index counts, so that progress is stored."""

    def __init__(
        self, config: Config, catalog: Catalog, relations: Relations, progress: Progress, snapshot: ExportedSnapshot
    ) -> None:
        self._config = config
        self._catalog = catalog
        self._relations = relations
        self._progress = progress
        self._snapshot = snapshot
        self._markers = SnapshotMarkers(Transaction(None, snapshot.slot.consistent_point, time.time_ns() // 1000))
        self._backlog = Backlog()
        self._batches = 0
        self.unseen: list[Reading] = []
        """What the snapshot cannot see, because it was rewritten since: to be read in chunks."""

    def batches(self, tables: list[TableRef]) -> Iterator[Batch]:
        self._progress.state = "snapshot"
        self._progress.snapshot = [TableSnapshot(str(ref), estimated=ref.rows_estimate or 0) for ref in tables]
        readings = [Reading(ref.schema, ref.name) for ref in tables]
        self._backlog.add(readings)
        for ref, reading, progress in zip(tables, readings, self._progress.snapshot, strict=True):
            yield from self._table(ref, reading, progress)
        last = self._markers.finish()
        if last is not None:
            yield Batch([last], size=len(last))

    def _table(self, ref: TableRef, reading: Reading, progress: TableSnapshot) -> Iterator[Batch]:
        generated = self._config.compatibility.generated_columns == "snapshot"
        source = self._catalog.columns_for_copy(ref.oid, self._config.publication, generated=generated)
        table = None if source is None else self._relations.from_catalog(ref.oid, source.columns)
        if source is None or table is None:
            log.warning("a table is gone before its snapshot", table=str(ref))
            return
        log.info("snapshot of a table", table=str(table), rows_estimated=ref.rows_estimate)
        try:
            yield from self._rows(table, source, reading, progress)
        except Rewritten:
            log.info("a table was rewritten or truncated, and is read in chunks", table=str(table))
            self.unseen.append(reading)
            return
        progress.finished = True
        log.info("read a table", table=str(table), rows=progress.done)

    def _rows(self, table: Table, source: CopySource, reading: Reading, progress: TableSnapshot) -> Iterator[Batch]:
        dsn, limit = self._config.capture.dsn.get_secret_value(), self._config.capture.max_batch_bytes
        raw_text = self._config.values.encoding_errors == "replace"
        held: Key | None = None
        for lines in copy_rows(dsn, self._snapshot.name, source, Part(), max_bytes=limit, raw_text=raw_text):
            runs = self._markers.runs(table, lines)
            progress.read(len(lines))
            self._forget_before(reading)
            if source.keyset is not None:
                # The newest row is not in the runs yet.
                after = source.keyset.of_line(lines[-2]) if len(lines) > 1 else held
                self._backlog.advance(reading, after, progress.done - 1 - reading.rows)
                held = source.keyset.of_line(lines[-1])
            yield self._batch(runs)
            self._snapshot.ping()

    def _batch(self, runs: list[Run]) -> Batch:
        self._batches += 1
        return Batch(
            runs,
            Position(NOWHERE, self._batches),
            size=sum(map(len, runs)),
            snapshot_done=False,
            snapshot=self._backlog.state,
        )

    def _forget_before(self, reading: Reading) -> None:
        """The tables before this one are read, to their last row."""
        for earlier in self._backlog:
            if earlier is reading:
                return
            if earlier not in self.unseen:
                self._backlog.finish(earlier)
