"""A schema for a JSON document, from the document itself: Debezium's ``table.expand.json.payload``.

Objects are structs named by their path, arrays take what all their elements are, and everything is optional. Members
that are null and empty arrays have no type and are left out; members whose names become the same field are refused, so
that none of them is lost. Wider than Debezium in two places: numbers of one array may differ in width, and objects of
one array in their members, at any depth.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import reduce
from typing import Any, Final

from pycdc.config import Adjustment
from pycdc.printable import printable
from pycdc.rows.schema import Datum, Schema
from pycdc.serialization.names import field_name, record_name

_NUMBERS: Final = ("int32", "int64", "float64")


class NotInferable(ValueError):
    """No schema holds the document: elements of different types, numbers that are too large, or no JSON at all."""


def inferred(text: object, name: str, *, adjust: Adjustment) -> tuple[Schema, Datum]:
    """The schema of an object or array, named `name`, and its Connect value. Raises NotInferable."""
    if not isinstance(text, str):
        raise NotInferable("not text")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise NotInferable("no JSON") from None
    schema = _schema(document, name, adjust) if isinstance(document, dict | list) else None
    if schema is None:
        raise NotInferable("neither an object nor an array with elements")
    return schema, _datum(document, schema, adjust)


def _schema(value: Any, name: str, adjust: Adjustment) -> Schema | None:
    if isinstance(value, dict):
        return _struct(value, name, adjust)
    if isinstance(value, list):
        items = [found for item in value if (found := _schema(item, name, adjust)) is not None]
        return Schema("array", optional=True, items=reduce(_merged, items)) if items else None
    return None if value is None else Schema(_scalar(value), optional=True)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, float):
        return "float64"
    for bits, kind in ((31, "int32"), (63, "int64")):
        if -(1 << bits) <= value < 1 << bits:
            return kind
    raise NotInferable("an integer of more than 64 bits")


def _struct(members: dict[str, Any], name: str, adjust: Adjustment) -> Schema:
    fields: dict[str, Schema] = {}
    named = Counter(field_name(key, adjust=adjust) for key in members)
    if len(named) < len(members):
        twice = next(name for name, count in named.items() if count > 1)
        raise NotInferable(f"several members of an object would be field {printable(twice)!r}")
    for key, value in members.items():
        field = field_name(key, adjust=adjust)
        schema = _schema(value, f"{name}.{field}", adjust)
        if schema is not None:
            fields[field] = schema
    return Schema("struct", optional=True, name=record_name(name, adjust=adjust), fields=tuple(fields.items()))


def _merged(left: Schema, right: Schema) -> Schema:
    """A schema that holds what both hold."""
    if left == right:
        return left
    if left.type in _NUMBERS and right.type in _NUMBERS:
        return max(left, right, key=lambda schema: _NUMBERS.index(schema.type))
    if left.type == right.type == "array" and left.items is not None and right.items is not None:
        return Schema("array", optional=True, items=_merged(left.items, right.items))
    if left.type == right.type == "struct":
        fields = dict(left.fields)
        for name, schema in right.fields:
            fields[name] = _merged(fields[name], schema) if name in fields else schema
        return Schema("struct", optional=True, name=left.name, fields=tuple(fields.items()))
    raise NotInferable("an array with elements of different types")


def _datum(value: Any, schema: Schema, adjust: Adjustment) -> Datum:
    if value is None:
        return None
    if isinstance(value, list) and schema.type != "array":
        # An array whose elements have no type, beside something that has one.
        raise NotInferable("elements of different types")
    if schema.type == "struct":
        members: dict[str, Any] = {}
        for key, member in value.items():
            if member is not None and member != []:
                members[field_name(key, adjust=adjust)] = member
        return {name: _datum(members.get(name), field, adjust) for name, field in schema.fields}
    if schema.type == "array" and schema.items is not None:
        return [_datum(item, schema.items, adjust) for item in value]
    return float(value) if schema.type == "float64" else value
