"""Serialize batches as Debezium's records: which topic, which schemas, which bytes.

`Serializer` walks the runs of a batch and hands each to the object that writes it: `RunWriter` for rows of tables,
`OutboxWriter` for those of an outbox, `SpecialTopics` for what belongs to no table. `TableEncoders` decides once for
each table version; how a record is written is the format's business (`AvroFormat`, `JsonFormat`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pycdc.config.pipeline import CapturePipeline
from pycdc.model.change import Batch, Op, Run, Table, Transaction
from pycdc.rows.encoder import OnNull
from pycdc.serialization.event_counter import EventCounter
from pycdc.serialization.event_writer import EventWriter
from pycdc.serialization.flatten import Flattening
from pycdc.serialization.older_rows import OlderTables
from pycdc.serialization.outbox import EventRouter
from pycdc.serialization.outbox_messages import MessageEvents
from pycdc.serialization.outbox_writer import OutboxWriter
from pycdc.serialization.record_format import RecordFormat
from pycdc.serialization.records import TopicRecordList
from pycdc.serialization.run_writer import RunWriter
from pycdc.serialization.schema_dead_letters import SchemaDeadLetters
from pycdc.serialization.source_info import ProcessingTime, SourceOrigin, context_headers
from pycdc.serialization.special_topics import MESSAGES, SpecialTopics
from pycdc.serialization.table_encoders import TableEncoders
from pycdc.serialization.topic_buffers import TopicBuffer, TopicBuffers


class Serializer:
    """Turns batches into groups of records by topic. Order within a topic is commit order.

    With `parking`, rows whose schema the registry refuses are set apart. `count_dead` is told of other dead letters.
    """

    def __init__(
        self,
        config: CapturePipeline,
        database: str,
        form: RecordFormat,
        on_null: OnNull,
        parking: SchemaDeadLetters | None = None,
        count_dead: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._form = form
        self._origin = origin = SourceOrigin(config.name, database)
        self._skip = frozenset(Op(letter) for letter in config.envelope.skip)
        context = context_headers(origin) if config.envelope.context_headers else []
        adjust = config.envelope.adjust_names
        flat = None if config.flatten is None else Flattening(config.flatten, adjust=adjust)
        self._counter = counter = EventCounter(enabled=config.envelope.transaction_metadata)
        self._older = OlderTables()
        self._encoders = TableEncoders(config, form, on_null, flat, context, parking)
        events = EventWriter(form, origin, context, counter, flat, parking)
        # Blocks and headers of single records make every record another one, so there is nothing to gather.
        self._gathers = not (counter.enabled or events.adds_headers)
        self._writer = RunWriter(form, origin, self._encoders, self._older, events, compiled=self._gathers)
        self._outbox: OutboxWriter | None = None
        self._router: EventRouter | None = None
        self._messages: MessageEvents | None = None
        if config.outbox is not None:
            self._router = EventRouter(config.outbox, config, form, self._encoders.row_encoder)
            self._outbox = OutboxWriter(self._router, context, counter, self._older, self._writer)
            if config.outbox.messages is not None:
                self._messages = MessageEvents(config.outbox, self._router, config.dead_letters, count_dead)
        self._special = SpecialTopics(config, origin, form, self._writer.alone)
        self._heartbeat_interval = config.envelope.heartbeat_interval
        self._next_heartbeat = 0.0
        self._moment = ProcessingTime(0)

    def serialize(self, batch: Batch) -> list[TopicRecordList]:
        """Return the batch's records.

        Groups with headers stand apart from those without, so that the latter can be sent in one call; groups of one
        topic are in order. What an error leaves behind is not counted.
        """
        with self._counter.restored_on_error():
            return self._serialize(batch)

    def serialize_apart(self, batch: Batch) -> list[TopicRecordList]:
        """Return the records of rows outside of their transaction: none is counted, none tells its place there."""
        with self._counter.paused():
            return self._serialize(batch)

    def _serialize(self, batch: Batch) -> list[TopicRecordList]:
        self._moment = moment = ProcessingTime.now()
        buffers = TopicBuffers()
        self._writer.begin_batch(buffers, moment)
        self._gather(batch.runs)
        for buffer in buffers:
            self._writer.write(buffer)
        for rows in batch.encoded:
            buffers.groups += rows.groups
        for notification in batch.notifications:
            self._special.notification(notification)
        if batch.position is not None:
            self._send_heartbeat(moment)
        if batch.dropped:
            self._forget(batch.dropped)
        return [group for group in buffers.groups if group[1]]

    def prepare(self, table: Table) -> None:
        """Do at once what the first row that a snapshot reads of `table` would make necessary: ask for ids, say."""
        if self._router is None or not self._router.takes(table):
            self._encoders.prepare(table)

    def topics(self) -> Sequence[str]:
        """Return the topics of the tables seen so far."""
        return self._encoders.topics()

    def _gather(self, runs: list[Run]) -> None:
        """Add runs to what their topics gather; what does not go on with that is put where it belongs."""
        gathering: dict[Table | None, TopicBuffer] = {}
        transaction: Transaction | None = None
        source_block, alike = None, False
        for run in runs:
            if run.transaction is not transaction:
                transaction = run.transaction
                source_block = self._form.source_block(transaction, self._origin)
                alike = transaction.change_origin is None and transaction.origin is None and transaction.trace is None
            buffer = gathering.get(run.table)
            if (
                buffer is not None
                and buffer.op is run.op
                and buffer.table is run.table
                and alike
                and run.routing is None
            ):
                buffer.runs.append((run, source_block))
            elif run.op in self._skip:
                continue
            elif run.table is None:
                self._write_without_table(run)
            elif self._outbox is not None and self._outbox.takes(run, run.table):
                self._outbox.write(run, run.table)
            else:
                buffer = self._writer.begin(run, run.table, source_block)
                if alike and run.routing is None and self._gathers:
                    gathering[run.table] = buffer
                else:
                    self._writer.write(buffer)

    def _write_without_table(self, run: Run) -> None:
        if run.op is Op.MESSAGE and run.message is not None:
            # One that belongs to no transaction has no block, as in Debezium.
            counted = self._counter.enabled and run.message.transactional
            block = self._counter.next(run, MESSAGES) if counted else None
            if self._messages is not None and self._messages.takes(run.message) and self._outbox is not None:
                self._outbox.append(run, *self._messages.record(run, run.message))
                return
            self._special.message(run, run.message, self._moment, block)
        elif run.op is Op.BEGIN:
            self._counter.begin()
            self._special.boundary("BEGIN", run, None)
        elif run.op is Op.END:
            self._special.boundary("END", run, self._counter.counts)

    def _send_heartbeat(self, moment: ProcessingTime) -> None:
        """Write a heartbeat, where one is due."""
        now = time.monotonic()
        if self._heartbeat_interval and now >= self._next_heartbeat:
            self._next_heartbeat = now + self._heartbeat_interval
            self._special.heartbeat(moment)

    def _forget(self, oids: frozenset[int]) -> None:
        """Forget these tables, of which nothing more comes."""
        self._encoders.forget(oids)
        self._older.forget(oids)
        if self._outbox is not None:
            self._outbox.forget(oids)
