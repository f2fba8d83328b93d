"""Columns are cut between characters and bytes, in each tuple of a frame, and nothing else of it changes."""

from __future__ import annotations

import pytest

from pycdc.errors import ConfigError
from pycdc.model.change import UNCHANGED, Column, Op, PgType, Run, Table, Transaction
from pycdc.rows.rewriter import copy_line, tuple_data
from pycdc.rows.truncation import longest, require_truncatable, truncated
from pycdc.rows.tuples import ROW, ColumnBytes, split_line, split_tuple

COLUMNS = (
    Column("id", PgType(23, "int4"), identity=True, nullable=False),
    Column("note", PgType(25, "text")),
    Column("image", PgType(17, "bytea")),
    Column("kept", PgType(25, "text")),
)
TABLE = Table(1, "public", "items", COLUMNS, ("id",))
NAMES = ("note", "image")
HEAD = b"w" + bytes(24)
LONG: list[ColumnBytes] = [b"1", "ééé".encode(), b"\\x0a1b2c", b"as it is"]


def run(op: Op, frame: bytes) -> Run:
    return Run(op, TABLE, Transaction(1, 2, 0), 0, [frame])


def test_texts_are_cut_between_characters_and_bytea_between_bytes() -> None:
    insert = run(Op.CREATE, HEAD + b"I\x00\x00\x00\x01N" + tuple_data(LONG))
    assert longest(insert, NAMES) == 8
    made, sizes = truncated(insert, NAMES, 5)
    assert split_tuple(made.frames[0], ROW)[0] == [b"1", "éé".encode(), b"\\x0a", b"as it is"]
    assert sizes == {"note": 6, "image": 8}
    made, _ = truncated(insert, NAMES, 0)
    assert split_tuple(made.frames[0], ROW)[0] == [b"1", b"", b"\\x", b"as it is"]


def test_both_rows_of_an_update_are_cut_and_what_was_not_sent_stays_so() -> None:
    new: list[ColumnBytes] = [b"1", UNCHANGED, None, b"as it is"]
    frame = HEAD + b"U\x00\x00\x00\x01O" + tuple_data(LONG) + b"N" + tuple_data(new)
    made, _ = truncated(run(Op.UPDATE, frame), NAMES, 4)
    old, end = split_tuple(made.frames[0], ROW)
    assert old == [b"1", "éé".encode(), b"\\x0a", b"as it is"]
    assert made.frames[0][end : end + 1] == b"N"
    assert split_tuple(made.frames[0], end + 1) == (new, len(made.frames[0]))


def test_a_row_of_a_snapshot_is_cut_too_and_what_fits_stays_the_same() -> None:
    line = copy_line([b"1", b"a\tb", None, b"k"])
    made, sizes = truncated(run(Op.READ, line), NAMES, 2)
    assert split_line(made.frames[0]) == [b"1", b"a\t", None, b"k"]
    assert sizes == {"note": 3}
    assert truncated(run(Op.READ, line), NAMES, 3)[0].frames == [line]


@pytest.mark.parametrize(("name", "words"), [("id", "message key"), ("when", "timestamptz")])
def test_keys_and_values_that_have_no_halves_cannot_be_cut(name: str, words: str) -> None:
    table = Table(1, "public", "items", (*COLUMNS, Column("when", PgType(1184, "timestamptz"))), ("id",))
    with pytest.raises(ConfigError, match=words):
        require_truncatable(table, ["id"], [name])
