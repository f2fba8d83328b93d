"""Arrays of one dimension, as Postgres' array_out prints them: ``[0:1]={a,"b c",NULL}``."""

from __future__ import annotations

import re
from hashlib import md5
from typing import Any, Final
from uuid import UUID

from pycdc.model.change import PgType
from pycdc.rows.avro import long
from pycdc.rows.codecs.codec import Codec, Text, Unrepresentable, codec
from pycdc.rows.codecs.options import CodecOptions
from pycdc.rows.schema import Datum, Schema

_TOKEN = re.compile(rb'"((?:[^"\\]|\\.)*+)"|([^{},"\\]+)|([{},])', re.DOTALL)
_ITEM = re.compile(rb'(?:"((?:[^"\\]|\\.)*+)"|([^",\\]+))(?:,|\Z)', re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_BOUNDS = re.compile(rb"(?:\[[+-]?\d+:[+-]?\d+\])+=")
_REQUIRED: Final = ("tsvector", "isbn", "vector", "halfvec")
"""Beside enums, the elements that Debezium declares NOT NULL."""
_AS_BYTES: Final = ("int4", "int8", "date")
_AS_TEXT: Final = ("text", "varchar", "bpchar", "json", "jsonb")


def elements(text: Text) -> list[Any]:
    """Parse an array literal into nested lists of element texts, None for NULL. Bounds are dropped."""
    if text[:1] == b"[":
        match = _BOUNDS.match(text)
        if match is None:
            raise ValueError("not an array")
        text = text[match.end() :]
    if text[:1] != b"{" or text[-1:] != b"}":
        raise ValueError("not an array")
    if text.find(b"{", 1) > 0 or text.find(b"}") < len(text) - 1:
        return _nested(text)
    if b'"' in text:
        return _quoted(text)
    inner = text[1:-1]
    return [None if item == b"NULL" else item for item in inner.split(b",")] if inner else []


def _quoted(text: Text) -> list[Any]:
    """Do what `_nested` does with a literal without further braces, in a quarter of the time."""
    found: list[Any] = []
    length = 1
    for quoted, bare in _ITEM.findall(text, 1, len(text) - 1):
        length += 1 + (len(bare) or len(quoted) + 2)
        if bare:
            found.append(None if bare == b"NULL" else bare)
        else:
            found.append(_ESCAPED.sub(rb"\1", quoted) if b"\\" in quoted else quoted)
    # Whatever was passed over is missing in the length.
    return found if length == len(text) else _nested(text)


def _nested(text: Text) -> list[Any]:
    top: list[Any] = []
    stack = [top]
    at, wants_item = 0, True
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or not stack:
            raise ValueError("not an array")
        at = match.end()
        quoted, bare, mark = match.groups()
        if mark == b",":
            if wants_item or len(stack) == 1:
                raise ValueError("not an array")
            wants_item = True
        elif mark == b"}":
            closed = stack.pop()
            if (wants_item and closed) or not stack:
                raise ValueError("not an array")
            wants_item = False
        else:
            if not wants_item:
                raise ValueError("not an array")
            if mark == b"{":
                opened: list[Any] = []
                stack[-1].append(opened)
                stack.append(opened)
                continue
            wants_item = False
            stack[-1].append(_ESCAPED.sub(rb"\1", quoted) if bare is None else None if bare == b"NULL" else bare)
    if len(stack) != 1 or len(top) != 1 or not isinstance(top[0], list):
        raise ValueError("not an array")
    inner: list[Any] = top[0]
    return inner


_TO_COMMAS: Final = bytes.maketrans(b",;", b"\0,")
_FROM_COMMAS: Final = bytes.maketrans(b"\0", b",")


def _boxes(text: Text) -> list[Any]:
    """`elements` of a box[], the one type whose arrays have semicolons between their elements, and never quotes."""
    return _with_commas(elements(text.translate(_TO_COMMAS)))


def _with_commas(found: list[Any]) -> list[Any]:
    return [
        _with_commas(part) if isinstance(part, list) else None if part is None else part.translate(_FROM_COMMAS)
        for part in found
    ]


def array_codec(element: PgType, item: Codec, options: CodecOptions) -> Codec:
    required = element.kind == "e" or element.name in _REQUIRED
    schema = Schema("array", items=item.schema if required else item.schema.as_optional())
    lenient = options.compat.arrays == "null"
    some = b"" if required else b"\x02"
    split = _boxes if element.name == "box" else elements
    # Debezium 3.7 takes the schemas of such elements for different ones.
    nothing = item.optional and options.compat.geometric_types == "debezium"

    def items(text: Text) -> list[Text | None]:
        found = split(text)
        if found and nothing:
            raise Unrepresentable("Debezium writes NULL for an array of geometric types")
        if found and isinstance(found[0], list):
            if not lenient:
                raise Unrepresentable("an array of several dimensions")
            found = [None] * len(found)
        if required and None in found:
            raise Unrepresentable("a NULL among elements that the schema requires")
        return found

    def value(text: Text) -> Datum:
        return [None if part is None else item.value(part) for part in items(text)]

    def encode(text: Text) -> bytes:
        found = items(text)
        if not found:
            return b"\x00"
        parts = [b"\x00" if part is None else some + item.encode(part) for part in found]
        return long(len(found)) + b"".join(parts) + b"\x00"

    def parse(text: Text) -> object:
        return _parsed(split(text), item)

    return codec(schema, value, parse=parse, zero=[], unavailable=_unavailable(element, item, options), encode=encode)


def _parsed(found: list[Any], item: Codec) -> list[Any]:
    return [
        None if part is None else _parsed(part, item) if isinstance(part, list) else item.parse(part) for part in found
    ]


def _unavailable(element: PgType, item: Codec, options: CodecOptions) -> Datum:
    values = options.values
    if element.name in _AS_BYTES and item.schema.type in ("int32", "int64"):
        # Java's bytes are signed.
        return [byte - 256 if byte > 127 else byte for byte in values.unavailable_octets]
    if element.name in _AS_TEXT:
        return [values.unavailable_text]
    if element.name == "uuid":
        return [str(UUID(bytes=md5(values.unavailable_octets, usedforsecurity=False).digest(), version=3))]
    if element.name == "bytea":
        return [item.unavailable]
    return None
