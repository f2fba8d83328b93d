"""The source of the functions that encode a plan's rows.

A generated function walks one frame per iteration, column by column, with the offset in `p`, the text's length in `n`,
its bytes in `v`, and each encoded field in a variable of its own. At a surprise the row goes to the reference
implementation (``slow``, ``slow_read``), outside of the handler, so that no exception about a value becomes the context
of the error that this raises.

Functions over streamed rows take many runs at once, because small transactions make small runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from struct import Struct
from struct import error as StructError
from typing import Final

from pycdc.rows.avro import CONTINUED, SHORT, unsigned
from pycdc.rows.plan import PlannedField, TablePlan
from pycdc.rows.tuples import ROW, split_line

SURPRISE: Final = (ValueError, LookupError, StructError, OverflowError, TypeError)
_LENGTH: Final = [SHORT[n << 1] for n in range(len(SHORT) >> 1)]
_SOME_LENGTH: Final = [b"\x02" + length for length in _LENGTH]
_SEQUENCE: Final = [b"\x02" + unsigned((n + 2) << 1) for n in range(64)]
"""Before ``source.sequence``, by its length up to the end of the row's LSN."""
_NEVER: Final = b""
_NAMES: Final[dict[str, object]] = {
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
    "SEQUENCE": _SEQUENCE,
}
"""What is the same for all plans, one object each: see `shared_function`."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """The variables of a plan's fields, ``c<index>``.

    `columns` holds, for each column of the table, the variable made of its text, or none. `row` and `key`
    are in the order of the record's and the key's fields.
    """

    columns: tuple[tuple[tuple[str, PlannedField], ...], ...]
    row: tuple[str, ...]
    key: tuple[str, ...]


def _layout(plan: TablePlan) -> _Layout:
    made = {field.index: ((f"c{field.index}", field),) for field in plan.fields}
    columns = tuple(made.get(index, ()) for index in range(len(plan.table.columns)))
    row, key = (tuple(f"c{field.index}" for field in fields) for fields in (plan.fields, plan.key))
    return _Layout(columns, row, key)


def namespace(plan: TablePlan) -> dict[str, object]:
    """Return the names that a plan's functions use, but for ``slow_read``, which takes a row over."""
    count = len(plan.table.columns).to_bytes(2, "big")
    full = plan.table.identity == "f"
    # A key that the old row does not hold is an error, which the reference implementation raises.
    keyed = full or all(field.column.identity for field in plan.key)
    names: dict[str, object] = {
        **_NAMES,
        "NEW": b"N" + count,
        "FULL": b"O" + count,
        "OLD": (b"O" if full else b"K") + count if keyed else _NEVER,
    }
    for variable, field in chain.from_iterable(_layout(plan).columns):
        names[f"encode_{variable}"] = field.codec.encode
        names[f"null_{variable}"] = field.null
        names[f"unavailable_{variable}"] = field.unavailable
        names[f"branch_{variable}"] = field.branch
        names.update(field.codec.names)
    return names


def _expression(variable: str, field: PlannedField) -> str:
    codec = field.codec
    if codec.always_null:
        return f"null_{variable}"
    if codec.is_text and field.branch == b"\x02":
        return f"(SOME_LENGTH[n] if n < {len(_LENGTH)} else branch_{variable} + unsigned(n << 1)) + v"
    if codec.inline_some and field.branch == b"\x02":
        return codec.inline_some
    if codec.is_text:
        body = f"(LENGTH[n] if n < {len(_LENGTH)} else unsigned(n << 1)) + v"
    else:
        body = codec.inline or f"encode_{variable}(v)"
    return f"branch_{variable} + ({body})" if field.branch else body


def _listed(variables: Sequence[str]) -> str:
    """``c0, c1, ``: what stands within a tuple display, where it is followed by more or is the whole."""
    return "".join(f"{variable}, " for variable in variables)


ARGUMENTS: Final = "runs, head, between, key_head, table, tail, append, slow"
"""Of a function over streamed rows.

runs      with the source blocks of their transactions
head      before a row: wire prefix and the branches of ``before`` and ``after``
between   behind the old row, where there is one
key_head  wire prefix of the key
table     the table's names within ``source``
tail      behind ``source.lsn``
append    takes a record
slow      takes a run and a frame of it that is a surprise, and returns another `append` for what comes behind it
"""
_NEVER_UNSENT: Final = {"bool", "int2", "int4", "int8", "oid", "float4", "float8", "uuid", "money"} | {
    *("date", "time", "timetz", "timestamp", "timestamptz", "interval")
}
"""Types of a fixed length, which are never TOASTed: tables of nothing else do not ask. (Others are, or are rare.)"""
_PER_RUN: Final = (
    "        source, sequence, times, xid = block",
    "        middle = times + table + xid",
    "        digits = -1",
)
_PER_ROW: Final = (
    "            lsn = lsn_at(b, 1)[0]",
    "            text = b'%d' % lsn",
    "            if len(text) != digits:",
    "                digits = len(text)",
    "                start = source + SEQUENCE[len(sequence) + digits] + sequence",
    "            if lsn >> 13 != high:",
    "                if lsn < 8192:",
    "                    raise ValueError  # its varint has no second byte",
    "                high = lsn >> 13",
    "                high_bytes = unsigned(high) + tail",
)
_SUFFIX: Final = "start, text, b'\"]', middle, CONTINUED[lsn << 1 & 0x3FFF], high_bytes"
"""The envelope's `Parts.suffix` without a call."""


def _loop(name: str, rows: list[str], appends: list[str], *, flat: bool, more: str = "") -> str:
    """Write a function over the frames of many runs. `flat`: any `EncodedParts.suffix` stands behind a row."""
    lines = [
        f"def {name}({ARGUMENTS}{more}):",
        "    high = -1",
        "    for run, block in runs:",
        *(("        suffix = block.suffix",) if flat else _PER_RUN),
        "        for b in run.frames:",
        "          try:",
        *[f"            {line}" for line in rows],
        "            if p != len(b):",
        "                raise ValueError",
        *(() if flat else _PER_ROW),
        *[f"            {line}" for line in appends],
        "            continue",
        "          except SURPRISE:",
        "            pass",
        "          append = slow(run, b)",
    ]
    return "\n".join(lines) + "\n"


def _record(layout: _Layout, key: str, rows: str, *, flat: bool) -> str:
    suffix = "suffix(lsn_at(b, 1)[0])" if flat else _SUFFIX
    return f"append({{'key': {key}, 'value': join((head, {rows}{suffix}))}})"


def insert_source(plan: TablePlan, name: str, *, flat: bool = False) -> str:
    """Source of the loop over inserts, and updates without an old row.

    `lacking` takes records of rows that were not sent whole, with the columns that were not as bits, and returns
    another `append` for what comes behind.
    """
    layout = _layout(plan)
    rows = _expect("NEW", ROW - 1) + _tuple(plan, layout, collects_unsent=True)
    append = _record(layout, _key_expression(layout), _listed(layout.row), flat=flat)
    if not any(_may_lack(plan, layout, index) for index in range(len(layout.columns))):
        return _loop(name, rows, [append], flat=flat, more=", lacking")
    appends = ["if unsent:", f"    append = lacking(unsent, {append[len('append(') : -1]})", "else:", f"    {append}"]
    return _loop(name, ["unsent = 0", *rows], appends, flat=flat, more=", lacking")


def _may_lack(plan: TablePlan, layout: _Layout, index: int) -> bool:
    """Return whether a column's value may be left out of a row that is sent, and compiled code takes it then."""
    made = layout.columns[index]
    of_key = any(variable in layout.key for variable, _ in made)
    return bool(made) and not of_key and plan.table.columns[index].type.name not in _NEVER_UNSENT


def full_update_source(plan: TablePlan, name: str, *, flat: bool = False) -> str:
    """Source of the loop over updates under REPLICA IDENTITY FULL. One that changes the key is a surprise.

    Values that were not sent are taken from the old row.
    """
    layout = _layout(plan)
    rows = [
        *_expect("FULL", ROW - 1),
        *_tuple(plan, layout, mark="o"),
        *_expect("NEW", "p"),
        *_tuple(plan, layout, old="o"),
    ]
    if layout.key:
        old = " or ".join(f"{variable} != o{variable}" for variable in layout.key)
        rows += [f"if {old}:", "    raise ValueError"]
    before = "" if flat else _listed([f"o{variable}" for variable in layout.row]) + "between, "
    append = _record(layout, _key_expression(layout), before + _listed(layout.row), flat=flat)
    return _loop(name, rows, [append], flat=flat)


def delete_source(plan: TablePlan, name: str) -> str:
    """Source of the loop over deletes; `tombstones`: behind each a record of the key alone."""
    layout = _layout(plan)
    rows = _expect("OLD", ROW - 1) + _tuple(plan, layout, whole=plan.table.identity == "f")
    appends = [
        f"key = {_key_expression(layout)}",
        _record(layout, "key", _listed(layout.row) + "between, ", flat=False),
        "if tombstones:",
        "    append({'key': key, 'value': None})",
    ]
    return _loop(name, rows, appends, flat=False, more=", tombstones")


def _expect(shape: str, at: int | str) -> list[str]:
    """Kind and number of columns of the tuple that begins at `at`."""
    end = f"{at} + 3" if isinstance(at, str) else at + 3
    return [f"if b[{at}:{end}] != {shape}:", "    raise ValueError", f"p = {end}"]


def _key_expression(layout: _Layout) -> str:
    return " + ".join(("key_head", *layout.key)) if layout.key else "None"


def _tuple(
    plan: TablePlan,
    layout: _Layout,
    *,
    mark: str = "",
    old: str = "",
    whole: bool = True,
    collects_unsent: bool = False,
) -> list[str]:
    """Write code that reads the tuple at `p` into the layout's variables, `mark` before their names.

    Fields that were not sent are taken from the variables marked `old`, if that is given, or are collected in `unsent`.
    A tuple that is not `whole` holds the replica identity and NULLs.
    """
    lines = []
    for index in range(len(layout.columns)):
        unsent = _unsent(plan, layout, index, mark, old, collects_unsent=collects_unsent)
        lines += _tuple_column(plan, layout, index, mark, unsent, whole=whole)
    return lines


def _tuple_column(
    plan: TablePlan, layout: _Layout, index: int, mark: str, unsent: list[str], *, whole: bool
) -> list[str]:
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
    lines += [f"    {mark}{variable} = {_expression(variable, field)}" for variable, field in made]
    lines += ["elif t == 110:", "    p += 1", *_null(made, mark, whole=whole)]
    lines += ["elif t == 117:", "    p += 1", *(f"    {line}" for line in unsent)]
    return [*lines, "else:", "    raise ValueError"]


def _null(made: tuple[tuple[str, PlannedField], ...], mark: str = "", *, whole: bool = True) -> list[str]:
    """Write what becomes of a NULL. A whole row has one where the column is NOT NULL only if it is older than that."""
    if whole and any(field.required for _, field in made):
        return ["    raise ValueError"]
    return [f"    {mark}{variable} = null_{variable}" for variable, _ in made]


def _unsent(plan: TablePlan, layout: _Layout, index: int, mark: str, old: str, *, collects_unsent: bool) -> list[str]:
    """Write what becomes of a column that was not sent; a key needs its value."""
    made = layout.columns[index]
    if old:
        return [f"{variable} = {old}{variable}" for variable, _ in made]
    if any(variable in layout.key for variable, _ in made) or (collects_unsent and not _may_lack(plan, layout, index)):
        return ["raise ValueError"]
    lines = [f"unsent |= {1 << index}"] if collects_unsent else []
    kinds = [(variable, "null" if field.codec.always_null else "unavailable") for variable, field in made]
    return [*lines, *(f"{mark}{variable} = {kind}_{variable}" for variable, kind in kinds)]


def line_source(plan: TablePlan, name: str) -> str:
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


def _line_column(plan: TablePlan, index: int, made: tuple[tuple[str, PlannedField], ...]) -> list[str]:
    return [
        f"# {plan.table.columns[index].name!r}",
        f"v = v{index}",
        "if v is None:",
        *_null(made),
        "else:",
        "    n = len(v)",
        *[f"    {variable} = {_expression(variable, field)}" for variable, field in made],
    ]
