"""Rows without an envelope, as Debezium's ExtractNewRecordState leaves them.

A record is the new row, then ``__deleted`` where deletes are rewritten, then what `flatten.add_fields` asks for. What
is added is optional in the schema and loses its default (golden/unwrap.jsonl).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from pycdc.config.envelope import Adjustment, FlattenConfig, metadata_path
from pycdc.errors import ConfigError
from pycdc.model.change import Op, Run
from pycdc.rows.avro import long, sized, writer
from pycdc.rows.change_events import RecordPlan
from pycdc.rows.encoder import Parts
from pycdc.rows.plan import TablePlan
from pycdc.rows.schema import NO_DEFAULT, Datum, Schema
from pycdc.serialization.envelope import OPTIONAL_STRING, SOURCE, STRING, TIMES, TRANSACTION, row_schema
from pycdc.serialization.headers import Header, header_text
from pycdc.serialization.names import field_name
from pycdc.serialization.source_info import (
    ProcessingTime,
    SourceOrigin,
    TransactionMetadata,
    block_datum,
    sequence_head,
    source_datum,
)

DELETED: Final = "__deleted"
_SCHEMAS: Final[dict[str, Schema]] = {
    "op": STRING,
    **dict(TIMES),
    **{f"source.{name}": schema for name, schema in SOURCE.fields},
    **{f"transaction.{name}": schema for name, schema in TRANSACTION.fields},
}
"""By METADATA."""
_SOME: Final = b"\x02"

Piece = bytes | Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Added:
    """A field or header taken from the envelope; `path` is one of METADATA."""

    name: str
    path: str
    schema: Schema


class FlatParts(Parts):
    """What surrounds the flattened rows of one run: nothing before them but the wire prefix, `pieces` behind."""

    __slots__ = ("_pieces", "_same")

    def __init__(self, head: bytes, key_head: bytes, pieces: list[Piece]) -> None:
        super().__init__(head, key_head, b"", b"", b"", b"")
        self._pieces = pieces
        constant = [piece for piece in pieces if isinstance(piece, bytes)]
        self._same = b"".join(constant) if len(constant) == len(pieces) else None

    def suffix(self, lsn: int) -> bytes:
        if self._same is not None:
            return self._same
        return b"".join([piece if isinstance(piece, bytes) else piece(lsn) for piece in self._pieces])


class Flattening:
    """What becomes of events, decided once per pipeline."""

    def __init__(self, settings: FlattenConfig, *, adjust: Adjustment) -> None:
        self._deletes = settings.deletes
        self._adjust = adjust
        self._rewrites = settings.deletes in ("rewrite", "rewrite_with_tombstone")
        self._fields = [_added(name, settings.fields_prefix, adjust=adjust) for name in settings.add_fields]
        self._headers = [_added(name, settings.headers_prefix, adjust=False) for name in settings.add_headers]
        self.has_headers = bool(self._headers)
        self.followed_by_tombstone = settings.deletes == "rewrite_with_tombstone"

    def schema(self, plan: TablePlan, prefix: str) -> Schema:
        """Return the value's schema. Raises ConfigError where an added field has the name of a column's."""
        row = row_schema(plan, prefix, adjust=self._adjust)
        added = [(DELETED, OPTIONAL_STRING)] if self._rewrites else []
        added += [(field.name, field.schema) for field in self._fields]
        names = [name for name, _ in (*row.fields, *added)]
        for name, _ in added:
            if names.count(name) > 1:
                raise ConfigError(
                    f"records of table {plan.table} would have two fields {name!r}",
                    hint="set another flatten.fields_prefix, or rename the column with rules[].rename",
                )
        return replace(row, optional=False, fields=(*row.fields, *added))

    def reduced(self, event: RecordPlan) -> RecordPlan | None:
        """Return the event with the row that its record will have; None where there is no record.

        The row is `before` or `after`; an event with neither becomes a null value.
        """
        if event.op is Op.TRUNCATE:
            return None
        if event.op is not Op.DELETE:
            return replace(event, before=None, partial=False)
        if self._deletes == "drop":
            return None
        return event if self._rewrites else replace(event, before=None, partial=False)

    def parts(
        self,
        head: bytes,
        key_head: bytes,
        run: Run,
        op: Op,
        origin: SourceOrigin,
        moment: ProcessingTime,
        block: TransactionMetadata | None,
    ) -> FlatParts:
        """Return the bytes around the rows of a run's events with one operation."""
        said = _said(run, op, origin, moment, block, 0)
        pieces: list[Piece] = [writer(OPTIONAL_STRING)(_deleted(op))] if self._rewrites else []
        for field in self._fields:
            if field.path == "source.lsn":
                pieces.append(lambda lsn: _SOME + long(lsn))
            elif field.path == "source.sequence":
                pieces.append(partial(_sequence, sequence_head(run)))
            else:
                pieces.append(writer(field.schema)(said[field.path]))
        return FlatParts(head, key_head, pieces)

    def datums(
        self,
        run: Run,
        op: Op,
        origin: SourceOrigin,
        moment: ProcessingTime,
        block: TransactionMetadata | None,
        lsn: int,
    ) -> dict[str, Datum]:
        """Return the fields behind the row's own, as Connect values."""
        out: dict[str, Datum] = {DELETED: _deleted(op)} if self._rewrites else {}
        if self._fields:
            said = _said(run, op, origin, moment, block, lsn)
            out.update((field.name, said[field.path]) for field in self._fields)
        return out

    def headers(
        self,
        event: RecordPlan,
        run: Run,
        origin: SourceOrigin,
        moment: ProcessingTime,
        block: TransactionMetadata | None,
    ) -> list[Header]:
        """Return the headers that `flatten.add_headers` asks for."""
        said = _said(run, event.op, origin, moment, block, event.lsn)
        return [(header.name, header_text(header.schema, said[header.path])) for header in self._headers]

    def tombstone_headers(self) -> list[Header]:
        """Return the headers of the null value behind a rewritten delete: its operation and nothing else."""
        return [(header.name, Op.DELETE.value.encode()) for header in self._headers if header.path == "op"]


def _added(text: str, prefix: str, *, adjust: Adjustment) -> Added:
    name, _, alias = text.partition(":")
    path = metadata_path(name)
    schema = replace(_SCHEMAS[path], optional=True, default=NO_DEFAULT)
    return Added(field_name(prefix + (alias or name.replace(".", "_")), adjust=adjust), path, schema)


def _deleted(op: Op) -> str:
    return "true" if op is Op.DELETE else "false"


def _sequence(head: bytes, lsn: int) -> bytes:
    return _SOME + sized(b'%b%d"]' % (head, lsn))


def _said(
    run: Run, op: Op, origin: SourceOrigin, moment: ProcessingTime, block: TransactionMetadata | None, lsn: int
) -> dict[str, Any]:
    """Return what the envelope of an event would hold, by METADATA."""
    source = {**source_datum(run, origin, lsn), "snapshot": run.marker}
    transaction = block_datum(block) or dict.fromkeys(name for name, _ in TRANSACTION.fields)
    return {
        "op": op.value,
        "ts_ms": moment.ms,
        "ts_us": moment.us,
        "ts_ns": moment.ns,
        **{f"source.{name}": value for name, value in source.items()},
        **{f"transaction.{name}": value for name, value in transaction.items()},
    }
