"""Debezium's envelope as Avro in Confluent's wire format: a zero byte, four bytes of schema id, the binary.

The bytes around a row are built once per run; compiled code of `rows` puts the row between them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pycdc.model import Op, Run, Table, Transaction
from pycdc.rows.avro import long, sized, unsigned, writer
from pycdc.rows.compiler import SURPRISE
from pycdc.rows.encoder import Parts, Record
from pycdc.rows.schema import Schema, avro_text
from pycdc.rows.tuples import ROW
from pycdc.serialization.events import Event
from pycdc.serialization.form import Target
from pycdc.serialization.provenance import Block, Moment, Origin, sequence_head

_NULL, _SOME = b"\x00", b"\x02"
_NEW, _OLD = b"NO"
_NO_MARKER = _NULL + sized(b"false")
_KIND = 30
_FAST = frozenset((Op.CREATE, Op.UPDATE, Op.READ))


@dataclass(frozen=True, slots=True)
class Prepared:
    """Wire prefixes, and writers for records that are not rows."""

    key_head: bytes
    value_head: bytes
    write_key: Callable[[Any], bytes] | None
    write_value: Callable[[Any], bytes]


Part = Literal["key", "value"]
RegisterId = Callable[[str, Part, Schema], int]
"""Called with topic, ``key`` or ``value``, and the schema; returns the registry's id."""


def wire_prefix(schema_id: int) -> bytes:
    return b"\x00" + schema_id.to_bytes(4, "big")


class AvroForm:
    def __init__(self, schema_id: RegisterId) -> None:
        self._schema_id = schema_id
        self._around: tuple[Run, Op, Moment, Parts] | None = None
        self._fixed: dict[tuple[str, str], _Fixed] = {}
        self._moment: Moment | None = None
        self._ends: dict[Op, bytes] = {}

    def prepare(self, topic: str, key: Schema | None, value: Schema) -> Prepared:
        return Prepared(
            b"" if key is None else wire_prefix(self._schema_id(topic, "key", key)),
            wire_prefix(self._schema_id(topic, "value", value)),
            None if key is None else writer(key),
            writer(value),
        )

    def rows(self, run: Run, target: Target, origin: Origin, moment: Moment, out: list[Record]) -> bool:
        op = run.op
        prepared: Prepared = target.form
        if op is Op.UPDATE and any(frame[_KIND : _KIND + 1] != b"N" for frame in run.frames):
            return self._full_updates(run, target, origin, moment, out)
        if op not in _FAST:
            return False
        head = prepared.value_head if target.flat is not None else prepared.value_head + _NULL + _SOME
        parts = self._surroundings(target, head, run, op, origin, moment, None)
        if op is Op.READ:
            lsn = run.transaction.commit_lsn
            flat = Parts(head, prepared.key_head, b"", b"", b"", parts.suffix(lsn))
            target.encoder.reads(run.frames, flat, out.append)
        else:
            target.encoder.inserts(run.frames, parts, out.append)
        return True

    def _full_updates(self, run: Run, target: Target, origin: Origin, moment: Moment, out: list[Record]) -> bool:
        """Updates under REPLICA IDENTITY FULL whose keys did not change. False at the first that is anything else."""
        prepared: Prepared = target.form
        parts = self._surroundings(target, prepared.value_head, run, run.op, origin, moment, None)
        flat = target.flat is not None
        encode, keyed, head, key_head = target.encoder.tuple, target.encoder.keyed, parts.head, parts.key_head
        records: list[Record] = []
        try:
            for frame in run.frames:
                if frame[_KIND] != _OLD:
                    return False
                old, old_key, place = encode(frame, ROW, None)
                if frame[place] != _NEW:
                    return False
                new, new_key, end = encode(frame, place + 1, old)
                if end != len(frame) or old_key != new_key:
                    return False
                suffix = parts.suffix(int.from_bytes(frame[1:9], "big"))
                value = b"".join((head, *new, suffix) if flat else (head, _SOME, *old, _SOME, *new, suffix))
                records.append({"key": key_head + new_key if keyed else None, "value": value})
        except SURPRISE:
            return False
        out += records
        return True

    def event(
        self, event: Event, run: Run, target: Target, origin: Origin, moment: Moment, block: Block | None
    ) -> Record:
        encoder = target.encoder
        parts = self._parts(target, run, event.op, origin, moment, block)
        key = parts.key_head + encoder.key(event.key) if event.key is not None and encoder.keyed else None
        if target.flat is not None:
            row = event.before if event.after is None else event.after
            value = None if row is None else parts.head + encoder.row(row) + parts.suffix(event.lsn)
            return {"key": key, "value": value}
        before = _NULL if event.before is None else _SOME + encoder.row(event.before)
        after = _NULL if event.after is None else _SOME + encoder.row(event.after)
        return {"key": key, "value": b"".join((parts.head, before, after, parts.suffix(event.lsn)))}

    def _parts(self, target: Target, run: Run, op: Op, origin: Origin, moment: Moment, block: Block | None) -> Parts:
        """The bytes around one event's rows; the same for all events of a run with one operation, unless numbered."""
        known = self._around
        if known is not None and block is None and known[0] is run and known[1] is op and known[2] is moment:
            return known[3]
        parts = self._surroundings(target, target.form.value_head, run, op, origin, moment, block)
        self._around = None if block is not None else (run, op, moment, parts)
        return parts

    def _surroundings(
        self, target: Target, head: bytes, run: Run, op: Op, origin: Origin, moment: Moment, block: Block | None
    ) -> Parts:
        """The bytes around the rows of a run: the envelope's, in the order of ``Envelope`` and ``Source``, or those of
        flattened records.

        Small transactions are made of this, so what does not change between them is kept.
        """
        if target.flat is not None:
            return target.flat.parts(head, target.form.key_head, run, op, origin, moment, block)
        table = target.plan.table
        name = (table.schema, table.name)
        fixed = self._fixed.get(name) or self._fixed.setdefault(name, _fixed(table, origin))
        transaction = run.transaction
        time, xid = transaction.commit_time, transaction.xid
        # The marker's union begins with the enum, whose default is "false".
        marker = _NO_MARKER if run.marker is None else _NULL + sized(run.marker.encode())
        source = fixed.opening + long(time // 1000) + marker + fixed.database
        xid_bytes = _NULL if xid is None else _SOME + unsigned(xid << 1)
        middle = b"".join((_SOME, long(time), _SOME, long(time * 1000), fixed.table, xid_bytes, _SOME))
        if block is not None or transaction.origin is not None:
            end = _end(transaction, block, op, moment)
        else:
            if self._moment is not moment:
                self._moment, self._ends = moment, {}
            end = self._ends.get(op) or self._ends.setdefault(op, _end(transaction, None, op, moment))
        return Parts(head, target.form.key_head, source, sequence_head(run), middle, end)

    def datums(self, prepared: Prepared, key: Any, value: Any) -> Record:
        write_key = prepared.write_key
        return {
            "key": None if write_key is None or key is None else prepared.key_head + write_key(key),
            "value": None if value is None else prepared.value_head + prepared.write_value(value),
        }


@dataclass(frozen=True, slots=True)
class _Fixed:
    """Bytes of ``Source`` that are the same for every row of a table."""

    opening: bytes
    database: bytes
    table: bytes


def _fixed(table: Table, origin: Origin) -> _Fixed:
    return _Fixed(
        sized(origin.version.encode()) + sized(origin.connector.encode()) + sized(origin.name.encode()),
        sized(origin.database.encode()),
        sized(table.schema.encode()) + sized(table.name.encode()),
    )


def _end(transaction: Transaction, block: Block | None, op: Op, moment: Moment) -> bytes:
    """What follows ``source.lsn``."""
    return b"".join(
        (
            _NULL,
            _NULL if transaction.origin is None else _SOME + sized(transaction.origin.encode()),
            _optional_long(transaction.origin_lsn),
            _NULL
            if block is None
            else _SOME + sized(block.id.encode()) + long(block.total_order) + long(block.data_collection_order),
            sized(op.value.encode()),
            _SOME + long(moment.ms),
            _SOME + long(moment.us),
            _SOME + long(moment.ns),
        )
    )


def _optional_long(value: int | None) -> bytes:
    return _NULL if value is None else _SOME + long(value)


def registered(id_for: Callable[[str, str], int], subject: Callable[[str, str, Part], str]) -> RegisterId:
    """A `RegisterId` over a registry's look-up (subject, text) and a subject strategy (topic, record name, part)."""

    def schema_id(topic: str, part: Part, schema: Schema) -> int:
        return id_for(subject(topic, schema.name or "", part), avro_text(schema))

    return schema_id
