"""Avro's binary form, written by hand because a generic writer costs five times what the rest of the engine does.

`writer` builds, from a schema, the function that writes a Connect value; it is the reference implementation of
everything the compiled encoders do faster. The tables below let compiled code write the usual integers and lengths
without a loop. Source: Apache Avro 1.12 specification, "Binary encoding".
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from pycdc.rows.schema import NO_DEFAULT, Datum, Schema, default_of

WriteValue = Callable[[Datum], bytes]


def varint(z: int) -> bytes:
    """Encode an unsigned integer, seven bits a byte, low bits first."""
    out = bytearray()
    while z > 0x7F:
        out.append(z & 0x7F | 0x80)
        z >>= 7
    out.append(z)
    return bytes(out)


LIMIT: Final = 1 << 14
SHORT: Final = [varint(z) for z in range(LIMIT)]
"""Varints of one or two bytes."""
CONTINUED: Final = [bytes((z & 0x7F | 0x80, z >> 7 | 0x80)) for z in range(LIMIT)]
"""The low 14 bits of a longer varint: both bytes say that more follow."""


def unsigned(z: int) -> bytes:
    """`varint` by tables: the value must be below 2**70."""
    if z < 0x4000:
        return SHORT[z]
    if z < 0x10000000:
        return CONTINUED[z & 0x3FFF] + SHORT[z >> 14]
    if z < 0x40000000000:
        return CONTINUED[z & 0x3FFF] + CONTINUED[z >> 14 & 0x3FFF] + SHORT[z >> 28]
    return CONTINUED[z & 0x3FFF] + CONTINUED[z >> 14 & 0x3FFF] + unsigned(z >> 28)


def long(i: int) -> bytes:
    """Encode an int or a long: zigzag, then varint."""
    return unsigned(i << 1 if i >= 0 else (~i << 1) | 1)


def sized(data: bytes) -> bytes:
    """Bytes, or a string's UTF-8, behind their length."""
    return unsigned(len(data) << 1) + data


_float = struct.Struct("<f").pack
_double = struct.Struct("<d").pack
_SCALAR: Final[dict[str, WriteValue]] = {
    "int8": long,
    "int16": long,
    "int32": long,
    "int64": long,
    "float32": _float,
    "float64": _double,
    "boolean": lambda value: b"\x01" if value else b"\x00",
    "string": lambda value: sized(value.encode("utf-8", "surrogateescape")),
    "bytes": sized,
}


def null_branch(schema: Schema) -> bytes:
    """Return the union index of null: Connect puts the default's branch first."""
    return b"\x00" if default_of(schema) is NO_DEFAULT else b"\x02"


def value_branch(schema: Schema) -> bytes:
    """Return what stands before a value: nothing where the schema is required."""
    if not schema.optional:
        return b""
    return b"\x02" if default_of(schema) is NO_DEFAULT else b"\x00"


def writer(schema: Schema) -> WriteValue:
    """Return the function that writes a value of `schema`, None included where it is optional."""
    write = _required(schema)
    if not schema.optional:
        return write
    null, some = null_branch(schema), value_branch(schema)
    return lambda value: null if value is None else some + write(value)


def _required(schema: Schema) -> WriteValue:
    if schema.type == "struct":
        fields = [(name, writer(field)) for name, field in schema.fields]
        return lambda value: b"".join([write(value[name]) for name, write in fields])
    if schema.type == "array" and schema.items is not None:
        item = writer(schema.items)
        return lambda value: long(len(value)) + b"".join([item(v) for v in value]) + b"\x00" if value else b"\x00"
    if schema.type == "map" and schema.items is not None:
        item, key = writer(schema.items), _SCALAR["string"] if schema.keys is None else writer(schema.keys)
        return lambda value: (
            long(len(value)) + b"".join([key(k) + item(v) for k, v in value.items()]) + b"\x00" if value else b"\x00"
        )
    return _SCALAR[schema.type]
