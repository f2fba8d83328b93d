"""Keys that no row has, under which a row stands while another one takes its key."""

from __future__ import annotations

from collections.abc import Callable
from secrets import randbelow, token_hex
from typing import Final
from uuid import uuid4

from pycdc.rows.target_column import TargetColumn
from pycdc.sinks.postgres.target_tables import TargetTable

_BITS: Final = {"int2": 16, "int4": 32, "int8": 64}
_FEWEST: Final = 8
"""Letters of a text that nobody else has."""
_TRIES: Final = 20
"""Of one column: a smallint has few values, and rows may have most of them."""


def free_key(
    table: TargetTable, names: tuple[str, ...], key: tuple[str, ...], is_there: Callable[[tuple[str, ...]], bool]
) -> tuple[str, ...] | None:
    """Return a key that no row has, as `is_there` tells; None where none is found."""
    for place, name in enumerate(names):
        for _ in range(_TRIES):
            text = _new_text(table.columns[name])
            if text is None:
                break
            other = (*key[:place], text, *key[place + 1 :])
            if not is_there(other):
                return other
    return None


def _new_text(column: TargetColumn) -> str | None:
    """Return the text of a value that hardly anybody has; None where none can be made."""
    if column.base in _BITS:
        most = 1 << (_BITS[column.base] - 1)
        return str(-most + randbelow(most // 2))
    if column.base == "numeric":
        digits = 18 if column.typmod < 0 else ((column.typmod - 4) >> 16) - ((column.typmod - 4) & 0x7FF)
        return str(-randbelow(10**digits) - 1) if 0 < digits < 1000 else None
    if column.base == "uuid":
        return str(uuid4())
    if column.base in ("text", "varchar", "citext", "bpchar"):
        length = 32 if column.typmod < 0 else min(32, column.typmod - 4)
        return token_hex(16)[:length] if length >= _FEWEST else None
    return None
