"""Write gathered runs into the buffers of their topics, by compiled loops where possible, else event by event."""

from __future__ import annotations

from typing import Any

from pycdc.model.change import Op, Run, Table
from pycdc.rows.encoder import Append, EncodedParts, UnexpectedNull
from pycdc.serialization.event_writer import EventWriter, headers_of
from pycdc.serialization.older_rows import OlderTables, rest_of
from pycdc.serialization.record_format import RecordFormat, TableEncoder
from pycdc.serialization.source_info import ProcessingTime, SourceOrigin
from pycdc.serialization.table_encoders import TableEncoders
from pycdc.serialization.topic_buffers import TopicBuffer, TopicBuffers


class RunWriter:
    """Writes the runs of one batch after the other. `compiled`: no record needs what only the row path writes."""

    def __init__(
        self,
        form: RecordFormat,
        origin: SourceOrigin,
        encoders: TableEncoders,
        older: OlderTables,
        events: EventWriter,
        *,
        compiled: bool,
    ) -> None:
        self._form = form
        self._origin = origin
        self._encoders = encoders
        self._older = older
        self._events = events
        self._compiles = compiled
        self._moment = ProcessingTime(0)
        self._buffers = TopicBuffers()
        self._written = TopicBuffer("", [])

    def begin_batch(self, buffers: TopicBuffers, moment: ProcessingTime) -> None:
        """Write into `buffers` from now on."""
        self._buffers, self._moment = buffers, moment

    def begin(self, run: Run, table: Table, source_block: Any) -> TopicBuffer:
        """Write what the topic gathered, and begin to gather with this run."""
        target = self._encoders.of(run, self._older.as_written(table))
        buffer = self.buffer(target.topic)
        buffer.target, buffer.table, buffer.op, buffer.runs = target, table, run.op, [(run, source_block)]
        buffer.headers = target.delete_headers if run.op is Op.DELETE else target.headers
        mark = target.row_headers.of_operation(run.op)
        if mark:
            buffer.headers = [*(buffer.headers or ()), *mark]
        transaction = run.transaction
        if run.routing is not None or transaction.change_origin is not None or transaction.trace is not None:
            buffer.headers = [*(buffer.headers or ()), *headers_of(run)] or None
        buffer.into(headed=buffer.headers is not None)
        return buffer

    def buffer(self, topic: str) -> TopicBuffer:
        """Return the topic's buffer, after what it gathered is written."""
        buffer = self._buffers.of(topic)
        self.write(buffer)
        return buffer

    def alone(self, topic: str, record: EncodedParts) -> None:
        """Write a record that belongs to no table."""
        self.buffer(topic).alone(record)

    def write(self, buffer: TopicBuffer) -> None:
        """Write what is gathered."""
        runs, target = buffer.runs, buffer.target
        buffer.runs, buffer.op = [], None
        if not runs or target is None:
            return
        self._written = buffer
        try:
            if self._compiles and not target.parked and self._write_compiled(runs, target, buffer):
                return
            for run, _ in runs:
                self._events.write(run, target, buffer, self._moment)
        except UnexpectedNull as found:
            self._write_rest(target, found, runs)

    def _write_compiled(self, runs: list[tuple[Run, Any]], target: TableEncoder, buffer: TopicBuffer) -> bool:
        """Return whether that could be done; rows of a snapshot are taken back if one is older than its table."""
        try:
            done = self._form.rows(
                runs, target, self._origin, self._moment, buffer.start(), self._write_slowly, self._name_unsent
            )
        except UnexpectedNull as found:
            if found.run is not None:
                buffer.finish()
                raise
            buffer.undo()
            return False
        if done:
            buffer.finish()
        return done

    def _write_slowly(self, run: Run, frame: bytes) -> Append:
        """Write a frame that compiled code does not write."""
        buffer = self._written
        assert buffer.target is not None
        buffer.finish()
        one = Run(run.op, run.table, run.transaction, run.index, [frame], run.marker, None, run.routing)
        try:
            self._events.write(one, buffer.target, buffer, self._moment)
        except UnexpectedNull as found:
            found.run = run
            # Of two frames that are the same, the first has met this first.
            found.index = run.index + next(place for place, other in enumerate(run.frames) if other is frame)
            buffer.start()
            raise
        return buffer.start()

    def _name_unsent(self, mask: int, record: EncodedParts) -> Append:
        """Write a record of compiled code whose row was not sent whole: `mask` are its columns."""
        buffer = self._written
        assert buffer.target is not None
        buffer.finish()
        record["headers"] = [*buffer.target.row_headers.unsent(mask), *(buffer.headers or ())]
        buffer.into(headed=True).append(record)
        return buffer.start()

    def _write_rest(self, target: TableEncoder, found: UnexpectedNull, runs: list[tuple[Run, Any]]) -> None:
        """Write what is left with the table as it was then, which holds until the next version of it comes."""
        broken = found.run
        assert broken is not None
        assert broken.table is not None
        self._older.loosen(broken.table, target.plan.table, found)
        at = next(place for place, (run, _) in enumerate(runs) if run is broken)
        for run, source_block in [(rest_of(broken, found.index), runs[at][1]), *runs[at + 1 :]]:
            self.write(self.begin(run, broken.table, source_block))
