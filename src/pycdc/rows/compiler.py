"""The source of the functions that encode a plan's rows.

A generated function walks one frame per iteration, column by column, with the offset in `p`, the text's length in `n`,
its bytes in `v`, and each encoded field in a variable of its own. At a surprise the row goes to the plain twin
(``slow_insert``, ``slow_read``), outside of the handler, so that no exception about a value becomes the context of the
error that the twin raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from struct import Struct
from struct import error as StructError
from typing import Final

from pycdc.rows.avro import CONTINUED, SHORT, unsigned
from pycdc.rows.plan import Field, Plan
from pycdc.rows.tuples import ROW, split_line

SURPRISE: Final = (ValueError, LookupError, StructError, OverflowError, TypeError)
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


def namespace(plan: Plan) -> dict[str, object]:
    """The names that a plan's functions use, but for ``slow_insert`` and ``slow_read``, which take a row over."""
    names: dict[str, object] = {
        "u32": Struct(">I").unpack_from,
        "tag_and_length": Struct(">BI").unpack_from,
        "lsn_at": Struct(">Q").unpack_from,
        "join": b"".join,
        "unsigned": unsigned,
        "CONTINUED": CONTINUED,
        "LENGTH": _LENGTH,
        "SOME_LENGTH": _SOME_LENGTH,
        "SURPRISE": SURPRISE,
        "split_line": split_line,
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
"""The envelope's `Parts.suffix` without a call, but for its last expressions."""


def tuple_source(plan: Plan, name: str, *, flat: bool = False) -> str:
    """Source of the loop over insert frames (and update frames without an old tuple). `flat`: any suffix will do."""
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
    lines += ["elif t == 110:", "    p += 1", *_null(made)]
    lines += ["elif t == 117:", "    p += 1"]
    lines += [f"    {line}" for variable, field in made for line in _unsent(plan, layout, variable, field, old=old)]
    return [*lines, "else:", "    raise ValueError"]


def _null(made: tuple[tuple[str, Field], ...]) -> list[str]:
    """What becomes of a NULL, which only a row from before the column was NOT NULL has where it is."""
    if any(field.required for _, field in made):
        return ["    raise ValueError"]
    return [f"    {variable} = null_{variable}" for variable, _ in made]


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
        *_null(made),
        "else:",
        "    n = len(v)",
        *[f"    {variable} = {_expression(variable, field)}" for variable, field in made],
    ]
