"""Write the rows of a run event by event: the row path, which can write everything.

It is the reference implementation of the compiled loops, and takes over where a row surprises them.
"""

from __future__ import annotations

from pycdc.model.change import Op, Run
from pycdc.model.trace_context import HEADER as TRACE
from pycdc.rows.change_events import RecordPlan, events
from pycdc.rows.encoder import UnexpectedNull
from pycdc.serialization.event_counter import EventCounter
from pycdc.serialization.flatten import Flattening
from pycdc.serialization.headers import Header
from pycdc.serialization.record_format import RecordFormat, TableEncoder
from pycdc.serialization.schema_dead_letters import SchemaDeadLetters
from pycdc.serialization.source_info import ProcessingTime, SourceOrigin
from pycdc.serialization.topic_buffers import TopicBuffer


class EventWriter:
    """Writes events of one pipeline. `context` are the headers of every record."""

    def __init__(
        self,
        form: RecordFormat,
        origin: SourceOrigin,
        context: list[Header],
        counter: EventCounter,
        flat: Flattening | None,
        dead_letters: SchemaDeadLetters | None,
    ) -> None:
        self._form = form
        self._origin = origin
        self._context = context
        self._counter = counter
        self._dead_letters = dead_letters
        self.adds_headers = flat is not None and flat.has_headers

    def write(self, run: Run, target: TableEncoder, buffer: TopicBuffer, moment: ProcessingTime) -> None:
        """Write the events of a run into its topic's buffer. Raises UnexpectedNull, with the run."""
        table = str(run.table)
        try:
            for full in events(run, target.encoder):
                self._write(full, run, table, target, buffer, moment)
        except UnexpectedNull as found:
            found.run = run
            raise

    def _write(
        self,
        full: RecordPlan,
        run: Run,
        table: str,
        target: TableEncoder,
        buffer: TopicBuffer,
        moment: ProcessingTime,
    ) -> None:
        block = self._counter.next(run, table) if self._counter.enabled else None
        event = full if target.flat is None else target.flat.reduced(full)
        if event is None:
            return
        record = self._form.event(event, run, target, self._origin, moment, block)
        headers = target.row_headers.of(event) + self._context + headers_of(run)
        if target.parked and self._dead_letters is not None:
            headers += self._dead_letters.headers(run, event, target)
        records = [record]
        if event.op is Op.DELETE and target.tombstones:
            records.append({"key": record["key"], "value": None})
        headed = bool(headers) or self.adds_headers
        if headed:
            for item in records:
                item["headers"] = headers
        if target.flat is not None and self.adds_headers:
            record["headers"] = headers + target.flat.headers(event, run, self._origin, moment, block)
            for item in records[1:]:
                item["headers"] = headers + target.flat.tombstone_headers()
        buffer.into(headed=headed).extend(records)


def headers_of(run: Run) -> list[Header]:
    """Return the headers of a run: origin and hops of changes that pycdc applied, the trace, what a transform added."""
    transaction = run.transaction
    own = [] if transaction.change_origin is None else transaction.change_origin.headers()
    if transaction.trace is not None:
        own.append((TRACE, transaction.trace))
    return own if run.routing is None else [*own, *run.routing.headers]
