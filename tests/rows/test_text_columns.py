"""A column as a whole says what its values say one by one."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycdc.engine_interfaces import NotColumnar
from pycdc.model.event import FieldPath
from pycdc.rows.column_presence import ColumnPresence
from pycdc.rows.target_column import TargetColumn
from pycdc.rows.text_columns import array_for, constant
from pycdc.rows.text_values import array_of, text_of

HELD_BACK = "__held_back"
MARKS = ColumnPresence(HELD_BACK)


def column(base: str, category: str) -> TargetColumn:
    return TargetColumn("c", ("pg_catalog", base), category, base, "", False, "", False)


EXACT = Context(prec=100)
TEXT, NUMERIC, INT = column("text", "S"), column("numeric", "N"), column("int8", "N")


def read(literal: str) -> list[str | None]:
    """A one-dimensional array as the server reads it: blanks around what is not quoted do not count."""
    out: list[str | None] = []
    inside, place = literal[1:-1], 0
    while place < len(inside):
        if inside[place] == '"':
            text, place = "", place + 1
            while inside[place] != '"':
                place += inside[place] == "\\"
                text, place = text + inside[place], place + 1
            out.append(text)
            place += 2
        else:
            end = inside.find(",", place)
            end = len(inside) if end < 0 else end
            word = inside[place:end].strip()
            out.append(None if word == "NULL" else word)
            place = end + 1
    return out


def one_by_one(values: Sequence[Any], target: TargetColumn) -> list[str | None]:
    return read(array_of([text_of(value, target) for value in values]))


SAFE = st.characters(exclude_characters="\0", exclude_categories=["Cs"])


@given(st.lists(st.none() | st.text(SAFE) | st.sampled_from(["NULL", "null", "{}", '"', "\\", ","]), min_size=1))
def test_texts(values: list[str | None]) -> None:
    told = [None if value is None else value.encode() for value in values]
    assert read(array_for(FieldPath("f", "text"), TEXT, MARKS)(told)) == one_by_one(values, TEXT)


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_numbers(values: list[int | None]) -> None:
    assert read(array_for(FieldPath("f", "number"), INT, MARKS)(values)) == one_by_one(values, INT)


@given(st.lists(st.none() | st.integers(-(10**30), 10**30), min_size=1), st.integers(0, 12))
def test_decimals_are_the_same_numbers_with_as_many_digits(values: list[int | None], scale: int) -> None:
    found = read(array_for(FieldPath("f", "decimal", scale), NUMERIC, MARKS)(values))
    expected = [None if value is None else EXACT.scaleb(Decimal(value), -scale) for value in values]
    assert [None if text is None else Decimal(text).as_tuple() for text in found] == [
        None if value is None else value.as_tuple() for value in expected
    ]


@given(st.lists(st.none() | st.booleans() | st.floats() | st.binary() | st.text(SAFE) | st.decimals(), min_size=1))
def test_anything_else(values: list[Any]) -> None:
    assert read(array_for(FieldPath("f"), TEXT, MARKS)(values)) == one_by_one(values, TEXT)


@pytest.mark.parametrize("kind", ["text", "any"])
@pytest.mark.parametrize("value", ["a\0b", "\0", HELD_BACK])
def test_what_postgres_cannot_hold_or_was_not_sent_is_looked_at_by_itself(kind: Any, value: str) -> None:
    array = array_for(FieldPath("f", kind), TEXT, MARKS)
    for values in ([value], [None, value], ["x", value]):
        with pytest.raises(NotColumnar):
            array([one.encode() if kind == "text" and one is not None else one for one in values])


@pytest.mark.parametrize("mark", [HELD_BACK.encode(), [HELD_BACK]])
def test_bytes_and_arrays_that_were_not_sent_are_looked_at_by_themselves(mark: Any) -> None:
    with pytest.raises(NotColumnar):
        array_for(FieldPath("f"), column("bytea", "U"), MARKS)([None, mark])


def test_texts_that_are_no_utf8_are_looked_at_by_themselves() -> None:
    for values in ([b"\xff"], [b'"\xff'], [None, b"\xff"]):
        with pytest.raises(NotColumnar):
            array_for(FieldPath("f", "text"), TEXT, MARKS)(values)


def test_a_decimal_has_no_lane_into_what_is_no_numeric() -> None:
    with pytest.raises(NotColumnar):
        array_for(FieldPath("f", "decimal", 2), TEXT, MARKS)


def test_a_constant_is_repeated() -> None:
    assert (constant('a"', 2), constant(None, 1)) == ('{"a\\"","a\\""}', "{NULL}")
