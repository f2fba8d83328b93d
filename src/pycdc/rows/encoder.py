"""Rows to Avro: a plain encoder that is easy to trust, and functions compiled from it that are fast.

`RowEncoder` holds both. Compiled code handles what is usual; at the first surprise in a row (a value that its inline
expression cannot write, a malformed length) it hands that row to the plain twin, which converts it under the
pipeline's policy or raises the error that names table and column. A test holds the two together.

A record's bytes are: a head (wire prefix and the union branches up to the row), the row, and a suffix that depends
on the row's LSN. What they mean is serialization's business; `Parts` carries them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
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
    """Encodes the rows of one plan. `on_null` hears of values that became NULL under the policy. `flat`: what stands
    behind a row is any `Parts.suffix`, not the envelope's."""

    def __init__(self, plan: Plan, on_null: OnNull, *, flat: bool = False) -> None:
        self.plan = plan
        self._on_null = on_null
        self._columns = len(plan.table.columns)
        self.keyed = bool(plan.key)
        name = identifier(str(plan.table))
        namespace = _namespace(plan, self)
        self.inserts: Callable[[list[bytes], Parts, Append], None] = compile_function(
            f"insert_{name}", tuple_source(plan, f"insert_{name}", flat=flat), namespace
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
        try:
            columns, end = split_tuple(frame, start)
        except ProtocolError as exc:
            raise ProtocolError(f"row of {self.plan.table} is malformed: {exc.fact}") from None
        if len(columns) != self._columns:
            raise ProtocolError(
                f"row of {self.plan.table} has {len(columns)} columns where {self._columns} were described"
            ) from None
        return columns, end

    def row(self, columns: Sequence[Text]) -> bytes:
        """The record's fields as Avro."""
        return b"".join([self._encode(field, columns[field.index]) for field in self.plan.fields])

    def key(self, columns: Sequence[Text]) -> bytes:
        self._require_sent(columns)
        return b"".join([self._encode(field, columns[field.index]) for field in self.plan.key])

    def _require_sent(self, columns: Sequence[Text]) -> None:
        """Refuse a key with a TOASTed value that was not sent: a placeholder would name another row."""
        for field in self.plan.key:
            if columns[field.index] is UNCHANGED:
                raise ConversionError(
                    f"column {field.column.name!r} of table {self.plan.table} is part of the message key, and an "
                    "update that left it alone did not send it",
                    hint=f"ALTER TABLE {self.plan.table} REPLICA IDENTITY FULL, or choose other columns under "
                    "rules[].key",
                )

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
        self._require_sent(columns)
        return {field.name: self._datum(field, columns[field.index]) for field in self.plan.key}

    def line(self, line: bytes) -> list[Text]:
        """The column texts of a line of COPY text."""
        columns = split_line(line) if line or self._columns else []
        if len(columns) != self._columns:
            fact = f"line of {self.plan.table} has {len(columns)} columns instead of {self._columns}"
            raise ProtocolError(fact) from None
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
# text's length in `n`, its bytes in `v`, and each encoded field in a variable of its own. The plain twin runs outside
# of the handler, so that no exception about a value becomes the context of the error that it raises.

_LENGTH: Final = [SHORT[n << 1] for n in range(len(SHORT) >> 1)]
_SOME_LENGTH: Final = [b"\x02" + length for length in _LENGTH]


@dataclass(frozen=True, slots=True)
class _Layout:
    """The variables of a plan's fields: ``c<index>``, or ``k<index>`` for a key whose bytes differ (a masked column).

    `columns` holds, for each column of the table, the variables made of its text: none, one or two. `row` and `key`
    are in the order of the record's and the key's fields.
    """

    columns: tuple[tuple[tuple[str, Field], ...], ...]
    row: tuple[str, ...]
    key: tuple[str, ...]


def _layout(plan: Plan) -> _Layout:
    made = {field.index: [(f"c{field.index}", field)] for field in plan.fields}
    key = []
    for field in plan.key:
        known = made.setdefault(field.index, [])
        if not any(other is field for _, other in known):
            known.append((f"k{field.index}", field))
        key.append(known[-1][0])
    columns = tuple(tuple(made.get(index, ())) for index in range(len(plan.table.columns)))
    return _Layout(columns, tuple(f"c{field.index}" for field in plan.fields), tuple(key))


def _namespace(plan: Plan, encoder: RowEncoder) -> dict[str, object]:
    names: dict[str, object] = {
        "u32": Struct(">I").unpack_from,
        "tag_and_length": Struct(">BI").unpack_from,
        "lsn_at": _lsn,
        "join": b"".join,
        "unsigned": unsigned,
        "CONTINUED": CONTINUED,
        "LENGTH": _LENGTH,
        "SOME_LENGTH": _SOME_LENGTH,
        "SURPRISE": SURPRISE,
        "split_line": split_line,
        "slow_insert": encoder.slow_insert,
        "slow_read": encoder.slow_read,
        "SHAPE": b"N" + len(plan.table.columns).to_bytes(2, "big"),
        "COUNT": len(plan.table.columns).to_bytes(2, "big"),
    }
    for variable, field in chain.from_iterable(_layout(plan).columns):
        names[f"encode_{variable}"] = field.codec.encode
        names[f"null_{variable}"] = field.null
        names[f"unavailable_{variable}"] = field.unavailable
        names[f"branch_{variable}"] = field.branch
        names.update(field.codec.names)
    return names


def _expression(variable: str, field: Field) -> str:
    codec = field.codec
    if codec.always_null:
        return f"null_{variable}"
    if codec.is_text and field.branch == b"\x02":
        return f"(SOME_LENGTH[n] if n < {len(_LENGTH)} else branch_{variable} + unsigned(n << 1)) + v"
    if codec.is_text:
        body = f"(LENGTH[n] if n < {len(_LENGTH)} else unsigned(n << 1)) + v"
    else:
        body = codec.inline or f"encode_{variable}(v)"
    return f"branch_{variable} + ({body})" if field.branch else body


def _listed(variables: Sequence[str]) -> str:
    """``c0, c1, ``: what stands within a tuple display, where it is followed by more or is the whole."""
    return "".join(f"{variable}, " for variable in variables)


_SUFFIX: Final = (
    "            lsn = lsn_at(b, 1)[0]",
    "            text = b'%d' % lsn",
    "            if len(text) != digits:",
    "                digits = len(text)",
    "                start = parts.start(digits)",
    "            if lsn >> 13 != high:",
    "                if lsn < 8192:",
    "                    raise ValueError  # its varint has no second byte",
    "                high = lsn >> 13",
    "                high_bytes = unsigned(high) + tail",
)
"""`Parts.suffix` without a call, but for its last expressions."""


def tuple_source(plan: Plan, name: str, *, flat: bool = False) -> str:
    """Source of the loop over insert frames (and update frames without an old tuple)."""
    layout = _layout(plan)
    suffix = "start, text, b'\"]', middle, CONTINUED[lsn << 1 & 0x3FFF], high_bytes"
    if flat:
        suffix = "suffix(lsn_at(b, 1)[0])"
    lines = [
        f"def {name}(frames, parts, append):",
        "    head, key_head, suffix, tail, middle = parts.head, parts.key_head, parts.suffix, parts.tail, parts.middle",
        "    digits = high = -1",
        "    for b in frames:",
        "        try:",
        f"            if b[{ROW - 1}:{ROW + 2}] != SHAPE:",
        "                raise ValueError",
        f"            p = {ROW + 2}",
    ]
    for index in range(len(layout.columns)):
        lines += [f"            {line}" for line in _tuple_column(plan, layout, index)]
    lines += [
        "            if p != len(b):",
        "                raise ValueError",
        *(() if flat else _SUFFIX),
        f"            append({{'key': {_key_expression(layout)}, "
        f"'value': join((head, {_listed(layout.row)}{suffix}))}})",
        "            continue",
        "        except SURPRISE:",
        "            pass",
        "        slow_insert(b, parts, append)",
    ]
    return "\n".join(lines) + "\n"


def _key_expression(layout: _Layout) -> str:
    return " + ".join(("key_head", *layout.key)) if layout.key else "None"


def fields_source(plan: Plan, name: str) -> str:
    """Source of the function that encodes the tuple at `p`: its fields, its key, and the offset behind it.

    Fields that were not sent are taken from `old`, the fields of the full old row, where there is one.
    """
    layout = _layout(plan)
    lines = [
        f"def {name}(b, p, old):",
        "    if b[p : p + 2] != COUNT:",
        "        raise ValueError",
        "    p += 2",
    ]
    for index in range(len(layout.columns)):
        lines += [f"    {line}" for line in _tuple_column(plan, layout, index, old=True)]
    key = " + ".join(layout.key) or "b''"
    lines.append(f"    return ({_listed(layout.row)}), {key}, p")
    return "\n".join(lines) + "\n"


def _tuple_column(plan: Plan, layout: _Layout, index: int, *, old: bool = False) -> list[str]:
    made = layout.columns[index]
    lines = [f"# {plan.table.columns[index].name!r}"]
    if not made:
        return [
            *lines,
            "t = b[p]",
            "if t == 116:",
            "    p += 5 + u32(b, p + 1)[0]",
            "elif t == 110 or t == 117:",
            "    p += 1",
            "else:",
            "    raise ValueError",
        ]
    if len(layout.columns) - index > 4:
        # At least four bytes follow even a NULL, so tag and length can be read in one call.
        lines += ["t, n = tag_and_length(b, p)", "if t == 116:"]
    else:
        lines += ["t = b[p]", "if t == 116:", "    n = u32(b, p + 1)[0]"]
    lines += ["    v = b[p + 5 : (p := p + 5 + n)]"]
    lines += [f"    {variable} = {_expression(variable, field)}" for variable, field in made]
    lines += ["elif t == 110:", "    p += 1"]
    lines += [f"    {variable} = null_{variable}" for variable, _ in made]
    lines += ["elif t == 117:", "    p += 1"]
    lines += [f"    {line}" for variable, field in made for line in _unsent(plan, layout, variable, field, old=old)]
    return [*lines, "else:", "    raise ValueError"]


def _unsent(plan: Plan, layout: _Layout, variable: str, field: Field, *, old: bool) -> list[str]:
    """What becomes of a field that was not sent; a key needs its value."""
    absent = f"{'null' if field.codec.always_null else 'unavailable'}_{variable}"
    if not old or variable not in layout.row:
        return ["raise ValueError"] if variable in layout.key else [f"{variable} = {absent}"]
    before = f"old[{layout.row.index(variable)}]"
    if variable in layout.key:
        return ["if old is None:", "    raise ValueError", f"{variable} = {before}"]
    return [f"{variable} = {absent} if old is None else {before}"]


def line_source(plan: Plan, name: str) -> str:
    """Source of the loop over lines of COPY text. The suffix does not depend on the row: all share one LSN."""
    layout = _layout(plan)
    unpack = _listed([f"v{index}" for index in range(len(layout.columns))])
    lines = [
        f"def {name}(frames, parts, append):",
        "    head, key_head, tail = parts.head, parts.key_head, parts.tail",
        "    for line in frames:",
        "        try:",
        f"            {unpack or '[] '}= split_line(line) if b'\\\\' in line else line.split(b'\\t')",
    ]
    for index, made in enumerate(layout.columns):
        if made:
            lines += [f"            {line}" for line in _line_column(plan, index, made)]
    lines += [
        f"            append({{'key': {_key_expression(layout)}, 'value': join((head, {_listed(layout.row)}tail))}})",
        "            continue",
        "        except SURPRISE:",
        "            pass",
        "        slow_read(line, parts, append)",
    ]
    return "\n".join(lines) + "\n"


def _line_column(plan: Plan, index: int, made: tuple[tuple[str, Field], ...]) -> list[str]:
    return [
        f"# {plan.table.columns[index].name!r}",
        f"v = v{index}",
        "if v is None:",
        *[f"    {variable} = null_{variable}" for variable, _ in made],
        "else:",
        "    n = len(v)",
        *[f"    {variable} = {_expression(variable, field)}" for variable, field in made],
    ]
