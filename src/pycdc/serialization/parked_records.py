"""Parked rows as records of the topic of parked rows, and back.

A row is as many records as its size asks for. Each has all that is known of the row without its values in its headers,
and a piece of a document of JSON as value: the frame as it came from Postgres (base64), and the table version and the
transaction that it belongs to. The record's key is the row's id and the number of the piece. Null values say that a row
is parked no more; compaction then forgets it.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from pycdc.errors import CheckpointCorrupt
from pycdc.model.change import Column, Lsn, Op, PgType, Position, Table, Transaction
from pycdc.model.origin import ChangeOrigin
from pycdc.model.parked_row import ParkedEntry, ParkedReason, ParkedRow
from pycdc.rows.images import Images
from pycdc.serialization.headers import Header
from pycdc.serialization.records import Record

ROOM: Final = 4096
"""Bytes for the headers of a record, and for what a batch takes beside records."""
_REASON: Final = 1000
_TRANSACTION: Final = ("xid", "commit_lsn", "commit_time", "previous_end", "end_lsn", "origin", "origin_lsn")


def records_of(row: ParkedRow, most: int) -> tuple[ParkedEntry, list[Record]]:
    """Return the records of a row, each of at most `most` bytes, and its entry, which tells how many they are."""
    document = json.dumps(_document(row), separators=(",", ":")).encode()
    size = max(512, most - ROOM)
    pieces = [document[start : start + size] for start in range(0, len(document), size)]
    entry = replace(row.entry, parts=len(pieces))
    headers = _headers(entry)
    return entry, [
        {"key": _key(entry.id, number), "value": piece, "headers": headers} for number, piece in enumerate(pieces)
    ]


def tombstones_of(entry: ParkedEntry) -> list[Record]:
    """Return the records that say that a row is parked no more."""
    return [{"key": _key(entry.id, number), "value": None} for number in range(entry.parts)]


def _key(identity: str, number: int) -> bytes:
    return f"{identity}/{number}".encode()


def _headers(entry: ParkedEntry) -> list[Header]:
    return [
        ("__pycdc.error", entry.reason.error.encode()),
        ("__pycdc.reason", entry.reason.fact.encode("utf-8", "replace")[:_REASON]),
        ("__pycdc.table", entry.table.encode()),
        ("__pycdc.op", entry.op.value.encode()),
        ("__pycdc.lsn", str(entry.position.lsn).encode()),
        ("__pycdc.position", str(entry.position).encode()),
        ("__pycdc.xid", b"" if entry.xid is None else str(entry.xid).encode()),
        ("__pycdc.keys", " ".join(entry.keys).encode()),
        ("__pycdc.parked_at", str(entry.parked_at).encode()),
        ("__pycdc.sequence", str(entry.sequence).encode()),
        ("__pycdc.parts", str(entry.parts).encode()),
    ]


def _document(row: ParkedRow) -> dict[str, Any]:
    table, transaction = row.table, row.transaction
    return {
        "op": row.entry.op.value,
        "frame": b64encode(row.frame).decode(),
        "marker": row.marker,
        "transaction": {name: getattr(transaction, name) for name in _TRANSACTION},
        "change_origin": transaction.change_origin,
        "table": {
            "oid": table.oid,
            "schema": table.schema,
            "name": table.name,
            "key": table.key,
            "identity": table.identity,
            "columns": [asdict(column) for column in table.columns],
        },
    }


def place_of(key: bytes) -> tuple[str, int]:
    """Return the row's id and the number of the piece that a record's key names. Raises CheckpointCorrupt."""
    identity, slash, number = key.decode("ascii", "replace").rpartition("/")
    if not slash or not number.isdigit():
        raise _strange("a record has a key that is none of a parked row")
    return identity, int(number)


def entry_of(identity: str, headers: Sequence[Header]) -> ParkedEntry:
    """Return what a record's headers tell. Raises CheckpointCorrupt."""
    told = {name: (value or b"").decode("utf-8", "replace") for name, value in headers}
    try:
        lsn, _, index = told["__pycdc.position"].partition("+")
        return ParkedEntry(
            identity,
            told["__pycdc.table"],
            tuple(told["__pycdc.keys"].split()),
            Op(told["__pycdc.op"]),
            Position(Lsn.parse(lsn), int(index or 0)),
            int(told["__pycdc.xid"]) if told["__pycdc.xid"] else None,
            ParkedReason(told["__pycdc.error"], told["__pycdc.reason"]),
            int(told["__pycdc.parked_at"]),
            int(told["__pycdc.sequence"]),
            int(told["__pycdc.parts"]),
        )
    except (KeyError, ValueError):
        raise _strange(f"parked row {identity} has headers that cannot be read") from None


def row_of(entry: ParkedEntry, document: bytes) -> ParkedRow:
    """Return the row that its pieces, put together, are. Raises CheckpointCorrupt."""
    try:
        told = json.loads(document)
        transaction = _transaction(told["transaction"], told["change_origin"])
        return ParkedRow(entry, _table(told["table"]), transaction, b64decode(told["frame"]), told["marker"])
    except (KeyError, TypeError, ValueError):
        raise _strange(f"parked row {entry.id} cannot be read") from None


def _transaction(told: Mapping[str, Any], change_origin: Sequence[Any] | None) -> Transaction:
    made = Transaction(told["xid"], told["commit_lsn"], told["commit_time"], told["previous_end"])
    made.end_lsn, made.origin, made.origin_lsn = told["end_lsn"], told["origin"], told["origin_lsn"]
    made.change_origin = None if change_origin is None else ChangeOrigin(*change_origin)
    return made


def _table(told: Mapping[str, Any]) -> Table:
    columns = tuple(Column(**{**column, "type": _type(column["type"])}) for column in told["columns"])
    return Table(
        told["oid"], told["schema"], told["name"], columns, tuple(told["key"]), told["identity"], Images(columns)
    )


def _type(told: Mapping[str, Any]) -> PgType:
    element = told["element"]
    return PgType(**{**told, "labels": tuple(told["labels"]), "element": None if element is None else _type(element)})


def _strange(fact: str) -> CheckpointCorrupt:
    return CheckpointCorrupt(
        f"the topic of parked rows: {fact}", hint="use the version of pycdc that wrote it, and write nothing else to it"
    )
