"""Columns that a configuration declares."""

from __future__ import annotations

import pytest

from pycdc.rows.declared import declared_column


@pytest.mark.parametrize(
    ("text", "name", "typmod"),
    [
        ("integer", "int4", -1),
        ("BIGINT", "int8", -1),
        ("double  precision", "float8", -1),
        ("numeric(10, 2)", "numeric", (10 << 16 | 2) + 4),
        ("decimal(10)", "numeric", (10 << 16) + 4),
        ("varchar(20)", "varchar", 24),
        ("timestamp(3) with time zone", "timestamptz", 3),
        ("timestamp without time zone", "timestamp", -1),
        ("jsonb", "jsonb", -1),
    ],
)
def test_sqls_names_of_types_are_understood(text: str, name: str, typmod: int) -> None:
    column = declared_column("c", text)
    assert column is not None
    assert (column.type.name, column.type.typmod, column.nullable) == (name, typmod, True)


def test_a_column_can_be_not_null_or_an_array() -> None:
    required, tags = declared_column("c", "bigint not null"), declared_column("c", "text[]")
    assert required is not None
    assert tags is not None
    assert not required.nullable
    assert tags.type.element is not None
    assert tags.type.element.name == "text"


@pytest.mark.parametrize("text", ["", "strange", "integer(3)", "numeric(0)", "varchar(2,3)", "timestamp(9)", "text; x"])
def test_a_type_that_is_not_known_is_none(text: str) -> None:
    assert declared_column("c", text) is None
