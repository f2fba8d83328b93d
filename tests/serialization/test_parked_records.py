"""A parked row is the same after it was records, whatever its size and its table."""

from __future__ import annotations

import random

import pytest

from pycdc.errors import CheckpointCorrupt
from pycdc.model.change import Column, Lsn, Op, PgType, Position, Table, Transaction
from pycdc.model.origin import ChangeOrigin
from pycdc.model.parked_row import ParkedEntry, ParkedReason, ParkedRow
from pycdc.serialization.parked_records import entry_of, place_of, records_of, row_of, tombstones_of

MOOD = PgType(7, "mood", kind="e", labels=("sad", "happy"), schema="app")
TABLE = Table(
    5,
    "app",
    "people",
    (
        Column("id", PgType(20, "int8"), identity=True, nullable=False, default="nextval('s')"),
        Column("moods", PgType(8, "_mood", element=MOOD, schema="app"), dimensions=2),
    ),
    ("id",),
    "f",
)


def row(frame: bytes) -> ParkedRow:
    transaction = Transaction(77, 1000, 2000, 900)
    transaction.end_lsn, transaction.origin, transaction.change_origin = 1040, "west", ChangeOrigin("back", 2)
    reason = ParkedReason("ConversionError", "column 'é' does not fit")
    entry = ParkedEntry("abc", "app.people", ("k1", "k2"), Op.UPDATE, Position(Lsn(1000), 3), 77, reason, 123)
    return ParkedRow(entry, TABLE, transaction, frame)


@pytest.mark.parametrize("size", [0, 100, 100_000])
def test_a_row_comes_back_as_it_was(size: int) -> None:
    parked = row(random.Random(1).randbytes(size))
    entry, records = records_of(parked, 8_000)
    assert entry.parts == len(records) == len(tombstones_of(entry))
    assert all(len(record["value"]) <= 8_000 for record in records)
    assert [place_of(record["key"]) for record in records] == [("abc", number) for number in range(len(records))]
    assert entry_of("abc", records[-1]["headers"]) == entry
    found = row_of(entry, b"".join(record["value"] for record in records))
    assert found.frame == parked.frame
    assert found.table.columns == TABLE.columns
    assert (found.table.key, found.table.identity) == (("id",), "f")
    for name in Transaction.__slots__:
        assert getattr(found.transaction, name) == getattr(parked.transaction, name), name


def test_what_is_no_parked_row_is_an_error_and_not_passed_over() -> None:
    entry, [record] = records_of(row(b"x"), 100_000)
    for broken in (lambda: place_of(b"abc"), lambda: entry_of("abc", []), lambda: row_of(entry, record["value"][1:])):
        with pytest.raises(CheckpointCorrupt):
            broken()


def test_headers_hold_no_value_of_the_row() -> None:
    _, [record] = records_of(row(b"a secret"), 100_000)
    assert not [value for _, value in record["headers"] if b"secret" in value]
