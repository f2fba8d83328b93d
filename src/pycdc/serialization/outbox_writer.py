"""Write the rows of outbox tables: each a record with headers, to a topic of its own."""

from __future__ import annotations

from collections.abc import Set

from pycdc.model.change import Run, Table
from pycdc.model.trace_context import HEADER as TRACE
from pycdc.rows.encoder import EncodedParts, UnexpectedNull
from pycdc.serialization.event_counter import EventCounter
from pycdc.serialization.event_writer import headers_of
from pycdc.serialization.headers import Header
from pycdc.serialization.older_rows import OlderTables, rest_of
from pycdc.serialization.outbox import EventRouter
from pycdc.serialization.run_writer import RunWriter
from pycdc.serialization.table_encoders import is_dead


class OutboxWriter:
    """Writes what `router` makes of runs of outbox tables. `context` are the headers of every record."""

    def __init__(
        self, router: EventRouter, context: list[Header], counter: EventCounter, older: OlderTables, runs: RunWriter
    ) -> None:
        self._router = router
        self._context = context
        self._counter = counter
        self._older = older
        self._runs = runs

    def takes(self, run: Run, table: Table) -> bool:
        """Return whether rows of the run are events of an outbox."""
        return not is_dead(run.routing) and self._router.takes(table)

    def write(self, run: Run, table: Table) -> None:
        """Write a run. Raises ConversionError for a row that is no event."""
        written = self._older.as_written(table)
        try:
            self._write(run, written)
        except UnexpectedNull as found:
            self._older.loosen(table, written, found)
            self.write(rest_of(run, found.index), table)

    def append(self, run: Run, topic: str, record: EncodedParts) -> None:
        """Write the record of one event of the run."""
        added = headers_of(run)
        own = record["headers"]
        if run.transaction.trace is not None:  # it leads to what the event itself may say
            own = [header for header in own if header[0] != TRACE]
        record["headers"] = self._context + own + added
        self._runs.buffer(topic).into(headed=True).append(record)

    def forget(self, oids: Set[int]) -> None:
        """Forget these tables, of which nothing more comes."""
        self._router.forget(frozenset(oids))

    def _write(self, run: Run, table: Table) -> None:
        done = len(run.frames)
        try:
            for topic, record in self._router.records(run, table):
                self.append(run, topic, record)
        except UnexpectedNull as found:
            done = found.index - run.index
            raise
        finally:
            # Events of a transaction are counted as the source has them.
            for _ in range(done if self._counter.enabled else 0):
                self._counter.next(run, str(table))
