"""Kafka Connect's schema model, the common ground of the Avro and JSON forms of a row.

Source: Kafka Connect's ``org.apache.kafka.connect.data.Schema``; Avro's text follows Confluent's AvroData, whose
attribute order counts because registries compare schemas as text.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

Datum = Any
"""A Connect value: None, bool, int, float, str, bytes, list, or dict for structs and maps."""


class _NoDefault:
    def __repr__(self) -> str:
        return "NO_DEFAULT"


NO_DEFAULT: Final = _NoDefault()


@dataclass(frozen=True, slots=True)
class Schema:
    """`type` is int8, int16, int32, int64, float32, float64, boolean, string, bytes, array, map or struct.

    `parameters` keeps its order. `fields` belongs to structs, `items` to arrays and maps (the values), `keys` to maps
    whose keys are no strings.
    """

    type: str
    optional: bool = False
    name: str | None = None
    version: int | None = None
    doc: str | None = None
    parameters: tuple[tuple[str, str], ...] = ()
    default: Datum = NO_DEFAULT
    fields: tuple[tuple[str, Schema], ...] = ()
    items: Schema | None = None
    keys: Schema | None = None

    def as_optional(self) -> Schema:
        return replace(self, optional=True)

    def with_default(self, default: Datum) -> Schema:
        return replace(self, default=default)


_AVRO_TYPE: Final = {
    "int8": "int",
    "int16": "int",
    "int32": "int",
    "int64": "long",
    "float32": "float",
    "float64": "double",
    "boolean": "boolean",
    "string": "string",
    "bytes": "bytes",
}
DECIMAL: Final = "org.apache.kafka.connect.data.Decimal"
_DEFAULT_PRECISION: Final = 64
_LOGICAL_TYPE: Final = {
    "org.apache.kafka.connect.data.Date": "date",
    "org.apache.kafka.connect.data.Time": "time-millis",
    "org.apache.kafka.connect.data.Timestamp": "timestamp-millis",
}


def avro_schema(schema: Schema, defined: set[str] | None = None, namespace: str = "") -> Any:
    """Return the Avro schema as JSON-ready values, attributes in AvroData's order.

    `defined` holds the full names of the records already written, which Avro then refers to by name; `namespace` is the
    enclosing one, which Avro leaves out.
    """
    defined = set() if defined is None else defined
    avro = _avro_type(schema, defined, namespace)
    if not schema.optional:
        return avro
    return ["null", avro] if default_of(schema) is NO_DEFAULT else [avro, "null"]


def default_of(schema: Schema) -> Datum:
    """Return the default as Avro's text shows it: AvroData drops those of arrays and maps (golden: ``t_arr.ea``)."""
    return NO_DEFAULT if schema.type in ("array", "map") or schema.default is None else schema.default


def _avro_type(schema: Schema, defined: set[str], namespace: str) -> Any:
    if schema.type == "struct":
        return _record(schema, defined, namespace)
    if schema.type == "array" and schema.items is not None:
        base: dict[str, Any] = {"type": "array", "items": avro_schema(schema.items, defined, namespace)}
    elif schema.type == "map" and schema.items is not None and schema.keys is not None:
        base = {"type": "array", "items": _entry(schema.keys, schema.items, defined, namespace)}
    elif schema.type == "map" and schema.items is not None:
        base = {"type": "map", "values": avro_schema(schema.items, defined, namespace)}
    else:
        base = {"type": _AVRO_TYPE[schema.type]}
    base.update(_attributes(schema))
    return base["type"] if len(base) == 1 else base


_ENTRY: Final = "io.confluent.connect.avro", "MapEntry"
"""Of maps whose keys are no strings: AvroData writes them as arrays."""


def _entry(keys: Schema, values: Schema, defined: set[str], enclosing: str) -> Any:
    namespace, name = _ENTRY
    if (full := f"{namespace}.{name}") in defined:
        return name if namespace == enclosing else full
    defined.add(full)
    record: dict[str, Any] = {"type": "record", "name": name}
    if namespace != enclosing:
        record["namespace"] = namespace
    fields = ("key", keys), ("value", values)
    return {**record, "fields": [_field(name, field, defined, namespace) for name, field in fields]}


def _attributes(schema: Schema) -> dict[str, Any]:
    out: dict[str, Any] = {}
    parameters = dict(schema.parameters)
    if schema.name == DECIMAL:
        out["scale"] = int(parameters["scale"])
        out["precision"] = int(parameters.get("connect.decimal.precision", _DEFAULT_PRECISION))
    if schema.doc:
        out["connect.doc"] = schema.doc
    if schema.version is not None:
        out["connect.version"] = schema.version
    if parameters:
        out["connect.parameters"] = parameters
    if default_of(schema) is not NO_DEFAULT:
        out["connect.default"] = _avro_default(schema.default)
    if schema.name is not None:
        out["connect.name"] = schema.name
    if schema.type in ("int8", "int16"):
        out["connect.type"] = schema.type
    if schema.name == DECIMAL:
        if 0 <= out["scale"] <= out["precision"]:
            out["logicalType"] = "decimal"
    elif schema.name in _LOGICAL_TYPE:
        out["logicalType"] = _LOGICAL_TYPE[schema.name]
    return out


def _avro_default(value: Datum) -> Any:
    # Avro's JSON writes bytes one character a byte.
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _record(schema: Schema, defined: set[str], enclosing: str) -> Any:
    full = schema.name or "ConnectDefault"
    namespace, _, name = full.rpartition(".")
    if full in defined:
        return name if namespace == enclosing else full
    defined.add(full)
    record: dict[str, Any] = {"type": "record", "name": name}
    if namespace != enclosing:
        record["namespace"] = namespace
    record["fields"] = [_field(name, field, defined, namespace) for name, field in schema.fields]
    record.update(_attributes(schema))
    return record


def _field(name: str, schema: Schema, defined: set[str], namespace: str) -> dict[str, Any]:
    field: dict[str, Any] = {"name": name, "type": avro_schema(schema, defined, namespace)}
    if default_of(schema) is not NO_DEFAULT:
        field["default"] = _avro_default(schema.default)
    elif schema.optional:
        field["default"] = None
    return field


def avro_text(schema: Schema) -> str:
    """Return the Avro schema as registries get it: no white space, attributes in AvroData's order."""
    return json.dumps(avro_schema(schema), separators=(",", ":"), ensure_ascii=False)


def connect_json(schema: Schema, field: str | None = None) -> Mapping[str, Any]:
    """Return the schema half of Kafka Connect's JsonConverter with ``schemas.enable=true``."""
    out: dict[str, Any] = {"type": {"float32": "float", "float64": "double"}.get(schema.type, schema.type)}
    if schema.type == "struct":
        out["fields"] = [connect_json(item, name) for name, item in schema.fields]
    elif schema.type == "array" and schema.items is not None:
        out["items"] = connect_json(schema.items)
    elif schema.type == "map" and schema.items is not None:
        out["keys"] = connect_json(schema.keys or Schema("string"))
        out["values"] = connect_json(schema.items)
    out["optional"] = schema.optional
    if schema.name is not None:
        out["name"] = schema.name
    if schema.version is not None:
        out["version"] = schema.version
    if schema.doc:
        out["doc"] = schema.doc
    if schema.parameters:
        out["parameters"] = dict(schema.parameters)
    if schema.default is not NO_DEFAULT and schema.default is not None:
        out["default"] = json_datum(schema, schema.default)
    if field is not None:
        out["field"] = field
    return out


def json_datum(schema: Schema, value: Datum) -> Any:
    """Return a Connect value as JsonConverter writes it: bytes as base64, floats that JSON cannot express by name."""
    if value is None:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if schema.type == "bytes":
        return base64.b64encode(value).decode("ascii")
    if schema.type == "array" and schema.items is not None:
        return [json_datum(schema.items, item) for item in value]
    if schema.type == "map" and schema.items is not None and schema.keys is not None:
        return [[key, json_datum(schema.items, item)] for key, item in value.items()]
    if schema.type == "map" and schema.items is not None:
        return {key: json_datum(schema.items, item) for key, item in value.items()}
    if schema.type == "struct":
        return {name: json_datum(item, value.get(name)) for name, item in schema.fields}
    return value
