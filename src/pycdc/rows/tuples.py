"""Split rows into column texts: TupleData of pgoutput, and lines of COPY text. Compiled code has this as its reference.

Source: PostgreSQL manual, "Logical Replication Message Formats" (TupleData) and "COPY", Text Format.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from struct import Struct
from struct import error as StructError
from typing import Final

from pycdc.errors import ProtocolError
from pycdc.model.change import UNCHANGED, Unchanged

ColumnBytes = bytes | None | Unchanged
"""A column as it arrived: its text, NULL, or not sent."""

ROW: Final = 31
"""Offset of TupleData in an XLogData frame of an insert, or of an update without an old tuple."""
TEXT: Final = 0x74  # 't'
NULL: Final = 0x6E  # 'n'
UNSENT: Final = 0x75  # 'u'

_u16 = Struct(">H").unpack_from
_u32 = Struct(">I").unpack_from


def split_tuple(data: bytes, start: int = 0) -> tuple[list[ColumnBytes], int]:
    """Return the columns of the TupleData at `start`, and the offset behind it.

    Raises ProtocolError on anything malformed.
    """
    try:
        (count,) = _u16(data, start)
        place = start + 2
        columns: list[ColumnBytes] = []
        for _ in range(count):
            tag = data[place]
            if tag == TEXT:
                (length,) = _u32(data, place + 1)
                end = place + 5 + length
                if end > len(data):
                    raise ProtocolError(f"column of {length} bytes exceeds its message")
                columns.append(data[place + 5 : end])
                place = end
            elif tag == NULL:
                columns.append(None)
                place += 1
            elif tag == UNSENT:
                columns.append(UNCHANGED)
                place += 1
            else:
                raise ProtocolError(f"column tag {tag:#04x} is not one of t, n, u")
    except (StructError, IndexError):
        raise ProtocolError("tuple ends before its last column") from None
    return columns, place


_NULL: Final = rb"\N"
_ESCAPE: Final = re.compile(rb"\\(x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_LETTER: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if code in _LETTER:
        return _LETTER[code]
    if code[:1] == b"x" and len(code) > 1:
        return bytes((int(code[1:], 16),))
    if code[:1].isdigit() and code[0] < 0x38:
        return bytes((int(code, 8) & 0xFF,))
    return code


def split_line(line: bytes) -> list[bytes | None]:
    """Return the columns of a line of COPY text (without its newline)."""
    columns: list[bytes | None] = list(line.split(b"\t"))
    escapes = line.count(b"\\")
    # Most are NULLs, and those that are can be counted and found without a look at each column.
    place = -1
    for _ in range(columns.count(_NULL) if escapes else 0):
        place = columns.index(_NULL, place + 1)
        columns[place] = None
        escapes -= 1
    if escapes:
        for index, column in enumerate(columns):
            if column is not None and b"\\" in column:
                columns[index] = _ESCAPE.sub(_unescape, column)
    return columns


def merge_unchanged(new: Sequence[ColumnBytes], old: Sequence[ColumnBytes] | None) -> list[ColumnBytes]:
    """Return the new row; values that were not sent are taken from the full old row, where there is one.

    Under REPLICA IDENTITY FULL an unchanged TOASTed value stands only in the old tuple.
    """
    if old is None:
        return list(new)
    return [before if value is UNCHANGED else value for value, before in zip(new, old, strict=True)]
