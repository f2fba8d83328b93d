"""A schema for a JSON document, from the document itself: Debezium's ``table.expand.json.payload``.

Objects are structs named by their path, arrays take what all their elements are, and everything is optional, but for
objects of one array that differ in their members. Members that are null and empty arrays have no type: `Untyped` says
what becomes of them. Members whose names become the same field are refused, so that none of them is lost. Wider than
Debezium in two places: numbers of one array may differ in width, and objects of one array in their members, at any
depth.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Final, Literal

from pycdc.config.envelope import Adjustment
from pycdc.printable import printable
from pycdc.rows.schema import Datum, Schema
from pycdc.serialization.names import field_name, record_name

_NUMBERS: Final = ("int32", "int64", "float64")
_NULL: Final = Schema("null", optional=True)
"""Of what is null: any other schema takes its place."""
_EMPTY: Final = Schema("array", optional=True)
"""Of arrays without elements: that of any other array takes its place."""
_SCALARS: Final = {kind: Schema(kind, optional=True) for kind in ("boolean", "string", *_NUMBERS)}
_TEXTS: Final = Schema("array", optional=True, items=Schema("string", optional=True))
_BYTES: Final = Schema("bytes", optional=True)


class NotInferable(ValueError):
    """No schema holds the document: elements of different types, numbers that are too large, or no JSON at all."""


@dataclass(frozen=True, slots=True)
class Untyped:
    """What becomes of members whose type nothing shows.

    Arrays of such elements are not inferable where these members are left out.
    """

    nulls: Literal["ignore", "optional_bytes"] = "ignore"
    empty_arrays: Literal["ignore", "optional_string"] = "ignore"


LEFT_OUT: Final = Untyped()


def inferred(text: object, name: str, *, adjust: Adjustment, untyped: Untyped = LEFT_OUT) -> tuple[Schema, Datum]:
    """Infer the schema of an object or array, named `name`, and its Connect value. Raises NotInferable."""
    if not isinstance(text, str):
        raise NotInferable("not text")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise NotInferable("no JSON") from None
    if not isinstance(document, dict | list) or document == []:
        raise NotInferable("neither an object nor an array with elements")
    schema = _settled(_Inference(adjust, untyped).schema(document, name), untyped)
    assert schema is not None
    return schema, _datum(document, schema, adjust)


@dataclass(frozen=True, slots=True)
class _Inference:
    adjust: Adjustment
    untyped: Untyped

    def schema(self, value: Any, name: str) -> Schema:
        """With `_NULL` and `_EMPTY` where there is no type."""
        if isinstance(value, dict):
            return self._struct(value, name)
        if isinstance(value, list):
            return self._array(value, name) if value else _EMPTY
        return _NULL if value is None else _SCALARS[_scalar(value)]

    def _struct(self, members: dict[str, Any], name: str) -> Schema:
        named = Counter(field_name(key, adjust=self.adjust) for key in members)
        if len(named) < len(members):
            twice = next(name for name, count in named.items() if count > 1)
            raise NotInferable(f"several members of an object would be field {printable(twice)!r}")
        fields = zip(named, members.values(), strict=True)
        schemas = tuple((field, self.schema(value, f"{name}.{field}")) for field, value in fields)
        return Schema("struct", optional=True, name=record_name(name, adjust=self.adjust), fields=schemas)

    def _array(self, elements: list[Any], name: str) -> Schema:
        schemas = [self.schema(element, name) for element in elements]
        first = schemas[0]
        if all(schema is first or schema == first for schema in schemas):
            return Schema("array", optional=True, items=first)
        items = reduce(_merged, schemas)
        if items.type == "struct" and _NULL not in schemas and len({_settled(s, self.untyped) for s in schemas}) > 1:
            items = replace(items, optional=False)
        return Schema("array", optional=True, items=items)


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


def _merged(left: Schema, right: Schema) -> Schema:
    """Return a schema that holds what both hold."""
    if left == right or right is _NULL:
        return left
    if left is _NULL:
        return right
    if left.type in _NUMBERS and right.type in _NUMBERS:
        return max(left, right, key=lambda schema: _NUMBERS.index(schema.type))
    if left.type == right.type == "array":
        if left.items is None or right.items is None:
            return left if right.items is None else right
        return Schema("array", optional=True, items=_merged(left.items, right.items))
    if left.type == right.type == "struct":
        fields = dict(left.fields)
        for name, schema in right.fields:
            fields[name] = _merged(fields[name], schema) if name in fields else schema
        return Schema("struct", optional=True, name=left.name, fields=tuple(fields.items()))
    raise NotInferable("an array with elements of different types")


def _settled(schema: Schema, untyped: Untyped) -> Schema | None:
    """With a type for what has none; None where that is left out. Raises NotInferable."""
    if schema is _NULL:
        return _BYTES if untyped.nulls == "optional_bytes" else None
    if schema.type == "array" and schema.items is None:
        return _TEXTS if untyped.empty_arrays == "optional_string" else None
    if schema.type == "array" and schema.items is not None:
        items = _settled(schema.items, untyped)
        if items is None:
            raise NotInferable("an array whose elements have no type")
        return schema if items is schema.items else replace(schema, items=items)
    if schema.type == "struct":
        fields = [(name, _settled(field, untyped)) for name, field in schema.fields]
        known = tuple((name, field) for name, field in fields if field is not None)
        return schema if known == schema.fields else replace(schema, fields=known)
    return schema


def _datum(value: Any, schema: Schema, adjust: Adjustment) -> Datum:
    if value is None:
        return None
    if schema.type == "struct":
        members = {field_name(key, adjust=adjust): member for key, member in value.items()}
        return {name: _datum(members.get(name), field, adjust) for name, field in schema.fields}
    if schema.type == "array" and schema.items is not None:
        return [_datum(item, schema.items, adjust) for item in value]
    return float(value) if schema.type == "float64" else value
