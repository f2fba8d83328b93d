"""Rows as the database tells them where an event meets them."""

from __future__ import annotations

from decimal import Decimal

from pycdc.sinks.postgres.conflicts.locked_rows import document


def test_every_number_of_a_row_is_read_with_all_its_digits() -> None:
    digits = "9" * 7800
    read = document(f'{{"a": {digits}, "b": -{digits}, "c": 12, "d": 1.10}}')
    assert read == {"a": Decimal(digits), "b": Decimal(f"-{digits}"), "c": 12, "d": Decimal("1.10")}
