from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycdc.errors import ProtocolError
from pycdc.model.change import UNCHANGED
from pycdc.rows.tuples import ColumnBytes, merge_unchanged, split_line, split_tuple
from tests.connectors.postgres.frames import tuple_data

TEXTS: st.SearchStrategy[ColumnBytes] = st.one_of(st.none(), st.just(UNCHANGED), st.binary(max_size=300))
_ESCAPES = {8: b"\\b", 9: b"\\t", 10: b"\\n", 11: b"\\v", 12: b"\\f", 13: b"\\r", 92: b"\\\\"}


def copy_text(column: bytes | None) -> bytes:
    """As COPY TO writes a column (PostgreSQL manual, COPY, Text Format)."""
    return rb"\N" if column is None else b"".join(_ESCAPES.get(byte, bytes((byte,))) for byte in column)


@given(st.lists(TEXTS, max_size=20), st.binary(max_size=10), st.binary(max_size=10))
def test_a_tuple_splits_into_the_columns_it_was_made_of(
    columns: list[ColumnBytes], before: bytes, after: bytes
) -> None:
    data = tuple_data(columns)
    assert split_tuple(before + data + after, len(before)) == (columns, len(before) + len(data))


@given(st.lists(TEXTS, min_size=1, max_size=5), st.data())
def test_a_tuple_cut_short_is_refused(columns: list[ColumnBytes], data: st.DataObject) -> None:
    whole = tuple_data(columns)
    with pytest.raises(ProtocolError):
        split_tuple(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_an_unknown_tag_is_refused() -> None:
    with pytest.raises(ProtocolError, match="tag 0x62"):
        split_tuple(b"\x00\x01b")


@given(st.lists(st.one_of(st.none(), st.binary(max_size=50)), min_size=1, max_size=10))
def test_a_line_of_copy_text_splits_into_the_columns_it_was_made_of(columns: list[bytes | None]) -> None:
    assert split_line(b"\t".join(map(copy_text, columns))) == columns


def test_values_that_were_not_sent_come_from_the_full_old_row() -> None:
    assert merge_unchanged([b"1", UNCHANGED, None], [b"0", b"big", b"x"]) == [b"1", b"big", None]
    assert merge_unchanged([UNCHANGED], None) == [UNCHANGED]
