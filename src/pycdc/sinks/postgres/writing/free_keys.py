"""Keys that no row has, under which a row stands while another one takes its key."""

from __future__ import annotations

import secrets
from typing import Final
from uuid import uuid4

from pycdc.rows.target_column import TargetColumn
from pycdc.sinks.postgres.target_tables import TargetTable

_BITS: Final = {"int2": 16, "int4": 32, "int8": 64}
_FEWEST: Final = 8
"""Letters of a text that nobody else has."""


def free_key(table: TargetTable, names: tuple[str, ...], key: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return a key that no row has; None where none can be made."""
    for place, name in enumerate(names):
        text = _new_text(table.columns[name])
        if text is not None:
            return *key[:place], text, *key[place + 1 :]
    return None


def _new_text(column: TargetColumn) -> str | None:
    """Return the text of a value that nobody has; None where none can be made."""
    if column.base in _BITS:
        most = 1 << (_BITS[column.base] - 1)
        return str(-most + secrets.randbelow(most // 2))
    if column.base == "numeric":
        digits = 18 if column.typmod < 0 else ((column.typmod - 4) >> 16) - ((column.typmod - 4) & 0x7FF)
        return str(-secrets.randbelow(10**digits) - 1) if 0 < digits < 1000 else None
    if column.base == "uuid":
        return str(uuid4())
    if column.base in ("text", "varchar", "citext", "bpchar"):
        length = 32 if column.typmod < 0 else min(32, column.typmod - 4)
        return secrets.token_hex(16)[:length] if length >= _FEWEST else None
    return None
