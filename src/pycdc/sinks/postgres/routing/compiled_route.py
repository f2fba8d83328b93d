"""Routes as generated functions: from the rows of one kind, which is a tuple of field names, to their writes.

A function takes each field by its name and turns it into text where its type is the one that the column's would
suggest; another type goes through `text_of`. Whatever is not plain (a key that is not in the row, a field that is not
there, a delete) is left to the reference implementation, `PlainRoute`. With 8 columns: 1.5 µs an event, and 8 by that.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from pycdc.model.event import Event, Forms, JsonText
from pycdc.rows._codegen import compile_function
from pycdc.rows.column_readings import reading
from pycdc.rows.date_texts import USUAL
from pycdc.rows.target_column import TargetColumn
from pycdc.rows.text_values import JSON, text_of
from pycdc.sinks.postgres.routing.field_paths import ABSENT, look_for
from pycdc.sinks.postgres.routing.interpreted_route import PlainRoute
from pycdc.sinks.postgres.writing.writes import Operation, RowWrite, shape_of

WriteOf = Callable[[Event, dict[str, Any]], RowWrite | None]

_NUMBERS: Final = frozenset((int, Decimal))
_COMPILED: Final[dict[str, Operation]] = {"insert": "insert", "upsert": "upsert", "update": "update"}


def compile_route(plain: PlainRoute, fields: tuple[str, ...], forms: Forms | None = None) -> WriteOf:
    """Compile the function for rows that have just these fields in this order, in values of these forms."""
    operation = _COMPILED.get(plain.route.operation)
    columns = plain.table.columns
    assigned = plain.assigned
    if assigned is None:
        if not set(fields) <= columns.keys() | set(plain.key.values()):
            return _by_interpreter(plain)  # which tells the field that has no column
        assigned = {name: name for name in fields if name in columns}
    if operation is None or not set(plain.key.values()) <= set(fields):
        return _by_interpreter(plain)
    names: dict[str, object] = {"plain": plain.write, "new": tuple.__new__, "Write": RowWrite, "ABSENT": ABSENT}
    names |= {"text": reading(forms).text, "own": text_of, "NUMBERS": _NUMBERS, "usual": USUAL, "Document": JsonText}
    lines = ["def write(event, row):"]
    key: list[str] = []
    written: dict[str, str] = {}
    for column, path in plain.key.items():
        key.append(_take(plain, path, fields, columns[column], forms, names, lines))
        lines.append(f"    if {key[-1]} is None: return plain(event)")
    for column, path in assigned.items():
        if column in plain.key or column in plain.constants or columns[column].generated:
            continue
        if path in fields or path.startswith(("$", "__")) or "." in path:
            written[column] = _take(plain, path, fields, columns[column], forms, names, lines)
    written |= {column: repr(value) for column, value in plain.constants.items()}
    must_exist = operation == "update" and plain.route.missing == "error"
    names["shape"] = shape_of(
        plain.table,
        operation,
        tuple(plain.key),
        tuple(written),
        (),
        must_exist,
        plain.order,
        plain.cleared(written),
    )
    lines.append(f"    return new(Write, (shape, {_tuple(key)}, {_tuple(list(written.values()))}, (), event, event))")
    return compile_function("write", "\n".join(lines) + "\n", names)


def _by_interpreter(plain: PlainRoute) -> WriteOf:
    return lambda event, row: plain.write(event)


def _take(
    plain: PlainRoute,
    path: str,
    fields: tuple[str, ...],
    target: TargetColumn,
    forms: Forms | None,
    names: dict[str, object],
    lines: list[str],
) -> str:
    """Lines that put a column's text into a variable, whose name is returned."""
    number = len(lines)
    names[f"column_{number}"] = target
    if path in fields:
        lines.append(f"    v = row[{path!r}]")
    else:
        names[f"look_{number}"] = look_for(path, target)
        lines.append(f"    v = look_{number}(event, row)")
        lines.append("    if v is ABSENT: return plain(event)")
    if target.category == "A" or target.base == "bytea":
        names["unsent"], names["LENGTHS"] = plain.presence.was_not_sent, plain.presence.lengths
        may_be = "type(v) is list and len(v) in LENGTHS or type(v) is str"
        lines.append(f"    if ({may_be}) and unsent(v): return plain(event)")
    if path.startswith("$key"):
        lines.append("    return plain(event)")  # whose values may be of other forms
    known_forms = None if path.startswith("$") else forms
    words = "text" if reading(known_forms).has_meaning(target) else "own"
    lines.append(
        f"    t{number} = {_text(target, known_forms)} else None if v is None else {words}(v, column_{number})"
    )
    return f"t{number}"


def _text(target: TargetColumn, forms: Forms | None) -> str:
    """Return the expression for the most frequent values, as the beginning of a conditional expression."""
    if target.category == "N":
        return "str(v) if type(v) in NUMBERS else repr(v) if type(v) is float and v - v == 0"
    if target.category == "B":
        return '"true" if v is True else "false" if v is False'
    known = _SHORT.get(target.base)
    if known is not None:
        return known
    return _PLAIN if reading(forms).is_plain(target) else "None if v is None"


_PLAIN: Final = r'v if type(v) is str and "\0" not in v'
_SHORT: Final = {
    "timestamptz": r'v if type(v) is str and v[4:5] == "-" and v >= "0001" and "\0" not in v',
    "timestamp": "v if type(v) is str and usual(v)",
    "date": "v if type(v) is str and len(v) == 10 and v[4] == '-' and v >= '0001'",
    "bytea": r"'\\x' + v.hex() if type(v) is bytes",
    **dict.fromkeys(JSON, r'v if type(v) is Document and "\0" not in v'),
}
"""By the type's name: what says the same whoever wrote it."""


def _tuple(items: list[str]) -> str:
    return f"({', '.join(items)},)" if items else "()"
