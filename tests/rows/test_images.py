"""What users of the library see of a change: Python values, by column."""

from __future__ import annotations

import traceback
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from pycdc.errors import ConversionError, ProtocolError
from pycdc.model.change import UNCHANGED, Change, Column, Op, PgType, Run, Table, Transaction
from pycdc.rows.images import Images
from pycdc.rows.tuples import ColumnBytes
from tests.connectors.postgres import frames

CANARY = "canary-4711"
COLUMNS = (
    Column("id", PgType(0, "int8"), identity=True, nullable=False),
    Column("price", PgType(0, "numeric", (10 << 16 | 2) + 4), nullable=False),
    Column("made", PgType(0, "timestamptz")),
    Column("day", PgType(0, "date")),
    Column("doc", PgType(0, "jsonb")),
    Column("code", PgType(0, "uuid")),
    Column("raw", PgType(0, "bytea")),
    Column("tags", PgType(0, "_text", element=PgType(0, "text"))),
    Column("ok", PgType(0, "bool")),
    Column("place", PgType(0, "addr", kind="c")),
)
TABLE = Table(1, "public", "orders", COLUMNS, ("id",), images=Images(COLUMNS))
UUID_TEXT = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
TEXTS: list[ColumnBytes] = [
    b"7",
    b"12.50",
    b"2026-01-01 00:00:01.5+00",
    b"2026-01-02",
    b'{"a": [1]}',
    UUID_TEXT.encode(),
    b"\\x00ff",
    b'{a,NULL,"b c"}',
    b"t",
    b"(x,1)",
]
VALUES = {
    "id": 7,
    "price": Decimal("12.50"),
    "made": datetime(2026, 1, 1, 0, 0, 1, 500_000, UTC),
    "day": date(2026, 1, 2),
    "doc": {"a": [1]},
    "code": UUID(UUID_TEXT),
    "raw": b"\x00\xff",
    "tags": ["a", None, "b c"],
    "ok": True,
    "place": "(x,1)",
}
NOTHING: list[ColumnBytes] = [None] * len(COLUMNS)


def change(op: Op, frame: bytes, table: Table = TABLE) -> Change:
    [made] = Run(op, table, Transaction(7, 1000, 0), 0, [frame])
    return made


def streamed(op: Op, message: bytes, table: Table = TABLE) -> Change:
    return change(op, frames.xlog(message), table)


def test_an_insert_has_typed_values_and_no_before() -> None:
    made = streamed(Op.CREATE, frames.insert(1, TEXTS))
    assert made.before is None
    assert made.after == VALUES
    assert list(made.after) == list(VALUES)
    assert {name: type(value) for name, value in made.after.items()} == {
        name: type(value) for name, value in VALUES.items()
    }


def test_a_null_is_none() -> None:
    assert streamed(Op.CREATE, frames.insert(1, [b"7", *NOTHING[1:]])).after == {**dict.fromkeys(VALUES), "id": 7}


def test_a_read_row_comes_from_a_line_of_copy() -> None:
    line = b'7\t12.50\t\\N\t\\N\t{"a": "\\\\\\\\"}\t\\N\t\\\\x00ff\t\\N\tf\t\\N'
    made = change(Op.READ, line)
    assert made.before is None
    assert made.after == {
        **dict.fromkeys(VALUES),
        "id": 7,
        "price": Decimal("12.50"),
        "doc": {"a": "\\"},
        "ok": False,
    } | {"raw": b"\x00\xff"}


def test_an_update_without_an_old_row_has_no_before_and_names_what_was_not_sent() -> None:
    made = streamed(Op.UPDATE, frames.update(1, [*TEXTS[:4], UNCHANGED, *TEXTS[5:]]))
    assert made.before is None
    assert made.after == {**VALUES, "doc": UNCHANGED}


def test_an_old_row_of_the_identity_holds_only_the_identity_s_columns() -> None:
    old: list[ColumnBytes] = [b"6", *NOTHING[1:]]
    made = streamed(Op.UPDATE, frames.update(1, TEXTS, old))
    assert made.before == {"id": 6}
    assert made.after == VALUES
    deleted = streamed(Op.DELETE, frames.delete(1, old))
    assert deleted.before == {"id": 6}
    assert deleted.after is None


def test_a_full_old_row_is_whole_and_lends_what_was_not_sent() -> None:
    made = streamed(Op.UPDATE, frames.update(1, [b"7", b"1.00", *NOTHING[2:4], UNCHANGED, *NOTHING[5:]], TEXTS, b"O"))
    assert made.before == VALUES
    assert made.after == {**dict.fromkeys(VALUES), "id": 7, "price": Decimal("1.00"), "doc": {"a": [1]}}
    assert streamed(Op.DELETE, frames.delete(1, TEXTS, b"O")).before == VALUES


def test_a_long_key_that_was_not_sent_comes_from_the_old_key_and_nothing_else_does() -> None:
    columns = (
        Column("name", PgType(0, "text"), identity=True, nullable=False),
        Column("big", PgType(0, "text")),
    )
    table = Table(1, "public", "t", columns, ("name",), images=Images(columns))
    made = streamed(Op.UPDATE, frames.update(1, [UNCHANGED, UNCHANGED], [b"long", None]), table)
    assert made.before == {"name": "long"}
    assert made.after == {"name": "long", "big": UNCHANGED}


@pytest.mark.parametrize("op", [Op.TRUNCATE, Op.MESSAGE])
def test_what_is_no_row_has_no_images(op: Op) -> None:
    assert streamed(op, b"anything").images() == (None, None)


def test_a_table_without_columns_has_empty_rows() -> None:
    table = Table(1, "public", "t", (), images=Images(()))
    assert change(Op.READ, b"", table).after == {}
    assert streamed(Op.CREATE, frames.insert(1, []), table).after == {}


MESSAGES = {
    Op.CREATE: frames.insert(1, TEXTS),
    Op.UPDATE: frames.update(1, TEXTS, [b"6", *NOTHING[1:]]),
    Op.DELETE: frames.delete(1, [b"6", *NOTHING[1:]]),
}


@pytest.mark.parametrize("op", MESSAGES)
def test_a_row_cut_at_any_place_is_a_protocol_error(op: Op) -> None:
    whole = frames.xlog(MESSAGES[op])
    for cut in range(25, len(whole)):
        with pytest.raises(ProtocolError):
            change(op, whole[:cut]).images()


@pytest.mark.parametrize("made", [change(Op.READ, CANARY.encode()), streamed(Op.CREATE, frames.insert(1, [b"canary"]))])
def test_another_number_of_columns_is_a_protocol_error_that_names_the_table(made: Change) -> None:
    with pytest.raises(ProtocolError, match=r"public\.orders") as error:
        made.images()
    assert "canary" not in str(error.value)


@pytest.mark.parametrize(("place", "name"), [(0, "id"), (1, "price"), (5, "code"), (6, "raw"), (7, "tags")])
def test_a_text_that_is_none_of_its_type_s_names_table_and_column_and_shows_no_value(place: int, name: str) -> None:
    texts = [*TEXTS]
    texts[place] = CANARY.encode()
    with pytest.raises(ConversionError, match=rf"column '{name}' of table public\.orders") as error:
        streamed(Op.CREATE, frames.insert(1, texts)).images()
    assert CANARY not in "".join(traceback.format_exception(error.value))


def test_a_change_shows_no_values() -> None:
    assert "12.50" not in repr(streamed(Op.CREATE, frames.insert(1, TEXTS)))
