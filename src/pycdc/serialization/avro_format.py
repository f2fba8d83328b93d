"""Debezium's envelope as Avro in Confluent's wire format: a zero byte, four bytes of schema id, the binary.

The bytes around rows are built once for many; compiled code of `rows` puts the rows between them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pycdc.model.change import Op, Run, Table, Transaction
from pycdc.rows.avro import long, sized, writer
from pycdc.rows.change_events import RecordPlan
from pycdc.rows.encoder import Append, EncodedParts, Lacking, Parts, Slow, SourceBlock
from pycdc.rows.schema import Schema, avro_text
from pycdc.serialization.record_format import TableEncoder
from pycdc.serialization.source_block import NULL, SOME, SourceBlockEncoder, opening, plain_source_block
from pycdc.serialization.source_info import ProcessingTime, SourceOrigin, TransactionMetadata, sequence_head


@dataclass(frozen=True, slots=True)
class PreparedAvro:
    """Wire prefixes, and writers for records that are not rows.

    `new_head` and `old_head` go on to the branch of ``after`` alone, and of ``before``.
    """

    key_head: bytes
    value_head: bytes
    new_head: bytes
    old_head: bytes
    write_key: Callable[[Any], bytes] | None
    write_value: Callable[[Any], bytes]


AvroPart = Literal["key", "value"]
RegisterId = Callable[[str, AvroPart, Schema], int]
"""Called with topic, ``key`` or ``value``, and the schema; returns the registry's id."""


def wire_prefix(schema_id: int) -> bytes:
    return b"\x00" + schema_id.to_bytes(4, "big")


class AvroFormat:
    def __init__(self, schema_id: RegisterId) -> None:
        self._schema_id = schema_id
        self._around: tuple[Run, Op, ProcessingTime, Parts] | None = None
        self._names: dict[tuple[str, str], bytes] = {}
        self._source_blocks: SourceBlockEncoder | None = None
        self._moment: ProcessingTime | None = None
        self._ends: dict[Op, bytes] = {}

    def prepare(self, topic: str, key: Schema | None, value: Schema) -> PreparedAvro:
        key_head = b"" if key is None else wire_prefix(self._schema_id(topic, "key", key))
        head = wire_prefix(self._schema_id(topic, "value", value))
        return PreparedAvro(
            key_head,
            head,
            head + NULL + SOME,
            head + SOME,
            None if key is None else writer(key),
            writer(value),
        )

    def source_block(self, transaction: Transaction, origin: SourceOrigin) -> SourceBlock:
        if self._source_blocks is None:
            self._source_blocks = SourceBlockEncoder(origin)
        return self._source_blocks.of(transaction)

    def rows(
        self,
        runs: list[tuple[Run, Any]],
        target: TableEncoder,
        origin: SourceOrigin,
        moment: ProcessingTime,
        append: Append,
        slow: Slow,
        lacking: Lacking,
    ) -> bool:
        first = runs[0][0]
        op, flat, encoder = first.op, target.flat, target.encoder
        if op is Op.READ:
            for run, _ in runs:
                self._reads(run, target, origin, moment, append)
            return True
        if op is Op.TRUNCATE or (flat is not None and op is Op.DELETE):
            return False
        prepared: PreparedAvro = target.form
        key_head = prepared.key_head
        if flat is not None:
            head, around = prepared.value_head, (b"", b"")
            runs = [(run, flat.parts(head, key_head, run, op, origin, moment, None)) for run, _ in runs]
        else:
            around = (self._of_table(encoder.plan.table), self._tail(first.transaction, None, op, moment))
        if op is Op.DELETE:
            encoder.deletes(runs, prepared.old_head, NULL, key_head, *around, append, slow, target.tombstones)
        elif op is Op.UPDATE and encoder.plan.table.identity == "f":
            head = prepared.value_head if flat is not None else prepared.old_head
            encoder.full_updates(runs, head, SOME, key_head, *around, append, slow)
        else:
            head = prepared.value_head if flat is not None else prepared.new_head
            encoder.inserts(runs, head, b"", key_head, *around, append, slow, lacking)
        return True

    def _reads(
        self, run: Run, target: TableEncoder, origin: SourceOrigin, moment: ProcessingTime, append: Append
    ) -> None:
        """All rows of a snapshot have one LSN, so what stands behind them is the same."""
        prepared: PreparedAvro = target.form
        head = prepared.value_head if target.flat is not None else prepared.new_head
        parts = self._surroundings(target, head, run, run.op, origin, moment, None)
        tail = parts.suffix(run.transaction.commit_lsn)
        target.encoder.reads(run.frames, Parts(head, prepared.key_head, b"", b"", b"", tail), append)

    def event(
        self,
        event: RecordPlan,
        run: Run,
        target: TableEncoder,
        origin: SourceOrigin,
        moment: ProcessingTime,
        block: TransactionMetadata | None,
    ) -> EncodedParts:
        encoder = target.encoder
        parts = self._parts(target, run, event.op, origin, moment, block)
        key = parts.key_head + encoder.key(event.key) if event.key is not None and encoder.keyed else None
        if target.flat is not None:
            row = event.before if event.after is None else event.after
            value = None if row is None else parts.head + encoder.row(row) + parts.suffix(event.lsn)
            return {"key": key, "value": value}
        before = NULL if event.before is None else SOME + encoder.row(event.before)
        after = NULL if event.after is None else SOME + encoder.row(event.after)
        return {"key": key, "value": b"".join((parts.head, before, after, parts.suffix(event.lsn)))}

    def _parts(
        self,
        target: TableEncoder,
        run: Run,
        op: Op,
        origin: SourceOrigin,
        moment: ProcessingTime,
        block: TransactionMetadata | None,
    ) -> Parts:
        """Return the bytes around one event's rows.

        They are the same for all events of a run with one operation, unless events are numbered.
        """
        known = self._around
        if known is not None and block is None and known[0] is run and known[1] is op and known[2] is moment:
            return known[3]
        parts = self._surroundings(target, target.form.value_head, run, op, origin, moment, block)
        self._around = None if block is not None else (run, op, moment, parts)
        return parts

    def _surroundings(
        self,
        target: TableEncoder,
        head: bytes,
        run: Run,
        op: Op,
        origin: SourceOrigin,
        moment: ProcessingTime,
        block: TransactionMetadata | None,
    ) -> Parts:
        """Return the bytes around the rows of a run.

        They are the envelope's, in the order of ``Envelope`` and ``Source``, or those of flattened records.
        """
        if target.flat is not None:
            return target.flat.parts(head, target.form.key_head, run, op, origin, moment, block)
        transaction = run.transaction
        source, _, times, xid = plain_source_block(transaction, origin)
        if run.marker is not None:
            source = opening(origin) + long(transaction.commit_time // 1000) + NULL + sized(run.marker.encode())
            source += sized(origin.database.encode())
        middle = times + self._of_table(target.plan.table) + xid
        tail = self._tail(transaction, block, op, moment)
        return Parts(head, target.form.key_head, source, sequence_head(run), middle, tail)

    def _of_table(self, table: Table) -> bytes:
        """Return the names within ``source``."""
        name = (table.schema, table.name)
        known = self._names.get(name)
        if known is None:
            known = self._names[name] = sized(table.schema.encode()) + sized(table.name.encode())
        return known

    def _tail(
        self, transaction: Transaction, block: TransactionMetadata | None, op: Op, moment: ProcessingTime
    ) -> bytes:
        if block is not None or transaction.origin is not None:
            return _end(transaction, block, op, moment)
        if self._moment is not moment:
            self._moment, self._ends = moment, {}
        return self._ends.get(op) or self._ends.setdefault(op, _end(transaction, None, op, moment))

    def datums(self, prepared: PreparedAvro, key: Any, value: Any) -> EncodedParts:
        write_key = prepared.write_key
        return {
            "key": None if write_key is None or key is None else prepared.key_head + write_key(key),
            "value": None if value is None else prepared.value_head + prepared.write_value(value),
        }


def _end(transaction: Transaction, block: TransactionMetadata | None, op: Op, moment: ProcessingTime) -> bytes:
    """Return what follows ``source.lsn``."""
    return b"".join(
        (
            NULL,
            NULL if transaction.origin is None else SOME + sized(transaction.origin.encode()),
            _optional_long(transaction.origin_lsn),
            NULL
            if block is None
            else SOME + sized(block.id.encode()) + long(block.total_order) + long(block.data_collection_order),
            sized(op.value.encode()),
            SOME + long(moment.ms),
            SOME + long(moment.us),
            SOME + long(moment.ns),
        )
    )


def _optional_long(value: int | None) -> bytes:
    return NULL if value is None else SOME + long(value)


def registered(id_for: Callable[[str, str], int], subject: Callable[[str, str, AvroPart], str]) -> RegisterId:
    """Make a `RegisterId` of a registry's look-up (subject, text) and a subject strategy (topic, record name, part)."""

    def schema_id(topic: str, part: AvroPart, schema: Schema) -> int:
        return id_for(subject(topic, schema.name or "", part), avro_text(schema))

    return schema_id
