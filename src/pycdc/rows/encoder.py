"""Rows to Avro: a plain encoder that is easy to trust, and functions compiled from it that are fast.

`RowEncoder` holds both. Compiled code handles what is usual; at the first surprise in a row (a value that its inline
expression cannot write, a malformed length) it hands that row to the plain twin, which converts it under the
pipeline's policy or raises the error that names table and column. A test holds the two together.

A record's bytes are: a head (wire prefix and the union branches up to the row), the row, and a suffix that depends
on the row's LSN. What they mean is serialization's business; `Parts` carries them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from struct import error as StructError
from typing import Any, Final

from pycdc.errors import ConversionError, ProtocolError
from pycdc.model import UNCHANGED
from pycdc.rows._codegen import compile_function, identifier
from pycdc.rows.avro import CONTINUED, SHORT, unsigned
from pycdc.rows.codecs.codec import Unrepresentable
from pycdc.rows.plan import Field, Plan
from pycdc.rows.tuples import Text, split_line, split_tuple

Record = dict[str, Any]
"""``key`` and ``value`` (bytes or None), as Producer.produce_batch takes them; ``headers`` where there are any."""
Append = Callable[[Record], None]
OnNull = Callable[[str, str], None]
"""Called with table and column when a value without a representation became NULL."""

Encoded = tuple[bytes, ...]
"""A row's fields as Avro, one by one."""

ROW: Final = 31
"""Offset of TupleData in an XLogData frame of an insert, or of an update without an old tuple."""
_lsn = Struct(">Q").unpack_from
SURPRISE: Final = (ValueError, LookupError, StructError, OverflowError, TypeError)


class Parts:
    """What surrounds the rows of one run.

    head      before the row: wire prefix, null ``before``, branch of ``after``
    key_head  wire prefix of the key
    sequence  the text of ``source.sequence`` up to the row's own LSN
    source    Avro bytes from the row to ``sequence``
    middle    Avro bytes between ``sequence`` and the zigzag varint of ``lsn``
    tail      Avro bytes after ``lsn``
    """

    __slots__ = ("_digits", "_start", "head", "key_head", "middle", "sequence", "source", "tail")

    def __init__(
        self, head: bytes, key_head: bytes, source: bytes, sequence: bytes, middle: bytes, tail: bytes
    ) -> None:
        self.head = head
        self.key_head = key_head
        self.source = source
        self.sequence = sequence
        self.middle = middle
        self.tail = tail
        self._digits = -1
        self._start = b""

    def start(self, digits: int) -> bytes:
        """`source` and the beginning of ``sequence`` for an LSN of that many digits."""
        if digits != self._digits:
            self._digits = digits
            length = len(self.sequence) + digits + 2
            self._start = self.source + b"\x02" + unsigned(length << 1) + self.sequence
        return self._start

    def suffix(self, lsn: int) -> bytes:
        text = b"%d" % lsn
        return b"".join((self.start(len(text)), text, b'"]', self.middle, unsigned(lsn << 1), self.tail))


class RowEncoder:
    """Encodes the rows of one plan. `on_null` hears of values that became NULL under the policy."""

    def __init__(self, plan: Plan, on_null: OnNull) -> None:
        self.plan = plan
        self._on_null = on_null
        self._columns = len(plan.table.columns)
        self.keyed = bool(plan.key)
        name = identifier(str(plan.table))
        namespace = _namespace(plan, self)
        self.inserts: Callable[[list[bytes], Parts, Append], None] = compile_function(
            f"insert_{name}", tuple_source(plan, f"insert_{name}"), namespace
        )
        self.reads: Callable[[list[bytes], Parts, Append], None] = compile_function(
            f"read_{name}", line_source(plan, f"read_{name}"), namespace
        )
        self.tuple: Callable[[bytes, int, Encoded | None], tuple[Encoded, bytes, int]] = compile_function(
            f"tuple_{name}", fields_source(plan, f"tuple_{name}"), namespace
        )

    # The plain twin.

    def columns(self, frame: bytes, start: int) -> tuple[list[Text], int]:
        """The column texts of the tuple at `start`, and the offset behind it."""
        columns, end = split_tuple(frame, start)
        if len(columns) != self._columns:
            raise ProtocolError(
                f"row of {self.plan.table} has {len(columns)} columns where {self._columns} were described"
            ) from None
        return columns, end

    def row(self, columns: Sequence[Text]) -> bytes:
        """The record's fields as Avro."""
        return b"".join([self._encode(field, columns[field.index]) for field in self.plan.fields])

    def key(self, columns: Sequence[Text]) -> bytes:
        return b"".join([self._encode(field, columns[field.index]) for field in self.plan.key])

    def require_key(self, *, partial: bool) -> None:
        """Refuse an old row that does not hold the message key: its record would name another row."""
        if partial and not all(field.column.identity for field in self.plan.key):
            raise ConversionError(
                f"old rows of {self.plan.table} do not hold the message key: the replica identity does not cover it",
                hint=f"ALTER TABLE {self.plan.table} REPLICA IDENTITY FULL, or choose columns of the replica identity "
                "under rules[].key",
            )

    def datums(self, columns: Sequence[Text]) -> dict[str, Any]:
        """The record's fields as Connect values."""
        return {field.name: self._datum(field, columns[field.index]) for field in self.plan.fields}

    def key_datums(self, columns: Sequence[Text]) -> dict[str, Any]:
        return {field.name: self._datum(field, columns[field.index]) for field in self.plan.key}

    def line(self, line: bytes) -> list[Text]:
        """The column texts of a line of COPY text."""
        columns = split_line(line)
        if len(columns) != self._columns:
            raise ProtocolError(f"line of {self.plan.table} has {len(columns)} columns instead of {self._columns}") from None
        return list(columns)

    def _encode(self, field: Field, text: Text) -> bytes:
        if text is None or field.codec.always_null:
            return field.null
        if text is UNCHANGED:
            return field.unavailable
        try:
            return field.branch + field.codec.encode(text)
        except Unrepresentable as exc:
            self._refuse(field, str(exc))
            return field.null
        except ValueError as exc:
            raise self._broken(field, exc) from None

    def _datum(self, field: Field, text: Text) -> Any:
        if text is None or field.codec.always_null:
            return field.null_datum
        if text is UNCHANGED:
            return field.unavailable_datum
        try:
            return field.codec.value(text)
        except Unrepresentable as exc:
            self._refuse(field, str(exc))
            return field.null_datum
        except ValueError as exc:
            raise self._broken(field, exc) from None

    def _refuse(self, field: Field, why: str) -> None:
        """Apply `compatibility.unrepresentable`: stop, or count a NULL.

        The errors that led here quote the value: a traceback must not show them.
        """
        table, column = str(self.plan.table), field.column.name
        if self.plan.compatibility.unrepresentable == "stop":
            raise ConversionError(
                f"column {column!r} of table {table} ({field.column.type.name}) holds a value that its schema "
                f"cannot express: {why}",
                hint="choose another form for the type (values.decimal: string …), leave the column out "
                "(rules[].exclude_columns), or accept NULL with compatibility.unrepresentable: 'null'",
            ) from None
        self._on_null(table, column)

    def _broken(self, field: Field, exc: ValueError) -> ConversionError:
        return ConversionError(
            f"column {field.column.name!r} of table {self.plan.table} is not a {field.column.type.name} "
            f"as Postgres writes it ({type(exc).__name__})",
            hint="report this with the column's type and the server's version; exclude the column to go on",
        )

    def slow_insert(self, frame: bytes, parts: Parts, append: Append) -> None:
        columns, end = self.columns(frame, ROW)
        if frame[ROW - 1] != 0x4E or end != len(frame):
            raise ProtocolError(f"row message of {self.plan.table} is malformed") from None
        key = parts.key_head + self.key(columns) if self.keyed else None
        append({"key": key, "value": parts.head + self.row(columns) + parts.suffix(_lsn(frame, 1)[0])})

    def slow_read(self, line: bytes, parts: Parts, append: Append) -> None:
        columns = self.line(line)
        key = parts.key_head + self.key(columns) if self.keyed else None
        append({"key": key, "value": parts.head + self.row(columns) + parts.tail})


# The compiler. A generated function walks one frame per iteration, column by column, with the offset in `p`, the
# text's length in `n`, its bytes in `v`, and each encoded field in `c<index>`.

_TEXT_LENGTH: Final = [b"\x02" + SHORT[n << 1] for n in range(len(SHORT) >> 1)]


def _namespace(plan: Plan, encoder: RowEncoder) -> dict[str, object]:
    names: dict[str, object] = {
        "u32": Struct(">I").unpack_from,
        "lsn_at": _lsn,
        "join": b"".join,
        "unsigned": unsigned,
        "SHORT": SHORT,
        "CONTINUED": CONTINUED,
        "SOME": _TEXT_LENGTH,
        "SURPRISE": SURPRISE,
        "split_line": split_line,
        "slow_insert": encoder.slow_insert,
        "slow_read": encoder.slow_read,
        "SHAPE": b"N" + len(plan.table.columns).to_bytes(2, "big"),
        "COUNT": len(plan.table.columns).to_bytes(2, "big"),
    }
    for field in (*plan.fields, *plan.key):
        suffix = _variable(plan, field)
        names[f"encode_{suffix}"] = field.codec.encode
        names[f"null_{suffix}"] = field.null
        names[f"unavailable_{suffix}"] = field.unavailable
        names[f"branch_{suffix}"] = field.branch
        names.update(field.codec.names)
    return names


def _variable(plan: Plan, field: Field) -> str:
    """``c<index>`` for a record's field, ``k<index>`` for a key whose bytes differ from it (a masked column)."""
    return f"c{field.index}" if field in plan.fields else f"k{field.index}"


def _expression(plan: Plan, field: Field) -> str:
    suffix = _variable(plan, field)
    codec = field.codec
    if codec.always_null:
        return f"null_{suffix}"
    if codec.is_text and field.branch == b"\x02":
        return f"(SOME[n] if n < {len(_TEXT_LENGTH)} else branch_{suffix} + unsigned(n << 1)) + v"
    if codec.is_text:
        body = f"(SHORT[n << 1] if n < {len(_TEXT_LENGTH)} else unsigned(n << 1)) + v"
    else:
        body = codec.inline or f"encode_{suffix}(v)"
    return f"branch_{suffix} + ({body})" if field.branch else body


def _by_column(plan: Plan) -> list[list[Field]]:
    """For each column of the table the fields made of it: none, one, or two where the key's bytes differ."""
    out: list[list[Field]] = [[] for _ in plan.table.columns]
    for field in (*plan.fields, *plan.key):
        if field not in out[field.index]:
            out[field.index].append(field)
    return out


def _key_expression(plan: Plan) -> str:
    return " + ".join(("key_head", *(_variable(plan, field) for field in plan.key))) if plan.key else "None"


def _row_names(plan: Plan) -> str:
    return ", ".join(_variable(plan, field) for field in plan.fields)


def tuple_source(plan: Plan, name: str) -> str:
    """Source of the loop over insert frames (and update frames without an old tuple)."""
    lines = [
        f"def {name}(frames, parts, append):",
        "    head, key_head, tail, middle = parts.head, parts.key_head, parts.tail, parts.middle",
        "    digits = high = -1",
        "    for b in frames:",
        "        try:",
        f"            if b[{ROW - 1}:{ROW + 2}] != SHAPE:",
        "                raise ValueError",
        f"            p = {ROW + 2}",
    ]
    for index, fields in enumerate(_by_column(plan)):
        lines += [f"            {line}" for line in _tuple_column(plan, index, fields)]
    lines += [
        "            if p != len(b):",
        "                raise ValueError",
        "            lsn = lsn_at(b, 1)[0]",
        "            text = b'%d' % lsn",
        "            if len(text) != digits:",
        "                digits = len(text)",
        "                start = parts.start(digits)",
        "            if lsn >> 13 != high:",
        "                high = lsn >> 13",
        "                high_bytes = unsigned(high) + tail",
        f"            row = {{'key': {_key_expression(plan)}, 'value': join((head, {_row_names(plan)}, start, text, "
        "b'\"]', middle, CONTINUED[lsn << 1 & 0x3FFF], high_bytes))}",
        "        except SURPRISE:",
        "            slow_insert(b, parts, append)",
        "            continue",
        "        append(row)",
    ]
    return "\n".join(lines) + "\n"


def fields_source(plan: Plan, name: str) -> str:
    """Source of the function that encodes the tuple at `p`: its fields, its key, and the offset behind it.

    Fields that were not sent are taken from `old`, the fields of the full old row, where there is one.
    """
    lines = [
        f"def {name}(b, p, old):",
        "    if b[p : p + 2] != COUNT:",
        "        raise ValueError",
        "    p += 2",
    ]
    for index, fields in enumerate(_by_column(plan)):
        lines += [f"    {line}" for line in _tuple_column(plan, index, fields, old=True)]
    key = " + ".join(_variable(plan, field) for field in plan.key) or "b''"
    names = _row_names(plan)
    lines.append(f"    return ({names}{',' if len(plan.fields) == 1 else ''}), {key}, p")
    return "\n".join(lines) + "\n"


def _tuple_column(plan: Plan, index: int, fields: list[Field], *, old: bool = False) -> list[str]:
    name = plan.table.columns[index].name
    lines = [f"# {name!r}", "t = b[p]", "if t == 116:"]
    if not fields:
        return [
            *lines,
            "    p += 5 + u32(b, p + 1)[0]",
            "elif t == 110 or t == 117:",
            "    p += 1",
            "else:",
            "    raise ValueError",
        ]
    lines += ["    n = u32(b, p + 1)[0]", "    p += 5", "    v = b[p : p + n]", "    p += n"]
    lines += [f"    {_variable(plan, field)} = {_expression(plan, field)}" for field in fields]
    lines += ["elif t == 110:", "    p += 1"]
    lines += [f"    {_variable(plan, field)} = null_{_variable(plan, field)}" for field in fields]
    lines += ["elif t == 117:", "    p += 1"]
    for field in fields:
        variable = _variable(plan, field)
        value = f"unavailable_{variable}"
        if old and field in plan.fields:
            value += f" if old is None else old[{plan.fields.index(field)}]"
        lines.append(f"    {variable} = {value}")
    return [*lines, "else:", "    raise ValueError"]


def line_source(plan: Plan, name: str) -> str:
    """Source of the loop over lines of COPY text. The suffix does not depend on the row: all share one LSN."""
    unpack = ", ".join(f"v{index}" for index in range(len(plan.table.columns)))
    lines = [
        f"def {name}(frames, parts, append):",
        "    head, key_head, tail = parts.head, parts.key_head, parts.tail",
        "    for line in frames:",
        "        try:",
        f"            {unpack}{',' if len(plan.table.columns) == 1 else ''} = "
        "split_line(line) if b'\\\\' in line else line.split(b'\\t')",
    ]
    for index, fields in enumerate(_by_column(plan)):
        if not fields:
            continue
        lines += [f"            # {plan.table.columns[index].name!r}", f"            v = v{index}"]
        lines += ["            if v is None:"]
        lines += [f"                {_variable(plan, field)} = null_{_variable(plan, field)}" for field in fields]
        lines += ["            else:", "                n = len(v)"]
        lines += [f"                {_variable(plan, field)} = {_expression(plan, field)}" for field in fields]
    lines += [
        f"            row = {{'key': {_key_expression(plan)}, 'value': join((head, {_row_names(plan)}, tail))}}",
        "        except SURPRISE:",
        "            slow_read(line, parts, append)",
        "            continue",
        "        append(row)",
    ]
    return "\n".join(lines) + "\n"
