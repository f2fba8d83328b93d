"""JSON as producers write it: exactly, within bounds, and by the schema beside it where Kafka Connect put one there."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

from pycdc.rows.avro_decoder import bad_field
from pycdc.rows.connect_types import Convert, NoValue, conversion

DEEPEST: Final = 200
_MOST_TYPES: Final = 10_000
_MOST_PREFIXES: Final = 64
_FAST: Final = json.JSONDecoder(parse_float=Decimal)
_LONG: Final = json.JSONDecoder(
    parse_float=Decimal, parse_int=lambda digits: int(digits) if len(digits) < 4000 else Decimal(digits)
)
"""Python refuses integers of more than 4,300 digits."""
_LONG_NUMBER: Final = re.compile(r"\d{4000}")
_SPACES: Final = (" ", "\n", "\t", "\r")
"""What may stand between the parts of JSON, and what `raw_decode` does not skip."""
_SCHEMA, _PAYLOAD = '{"schema":', ',"payload":'


class BadJson(ValueError):
    """The message holds nothing of the text."""


class DecodedValue(NamedTuple):
    """A value, and whether a schema beside it told what it is."""

    value: Any
    typed: bool


class JsonDecoder:
    """Remembers schemas by the text that stands before a payload, which most records share."""

    def __init__(self) -> None:
        self._known: dict[str, Convert] = {}

    def read(self, data: bytes) -> DecodedValue:
        """Decode a value. Raises BadJson, and BadField for a value that is none of its schema's type."""
        try:
            return self._read(data)
        except UnicodeDecodeError:
            raise BadJson("it is no UTF-8") from None
        except (RecursionError, ArithmeticError):
            raise BadJson(f"it is nested more than {DEEPEST} deep, or has a number beyond all bounds") from None

    def _read(self, data: bytes) -> DecodedValue:
        text = data.decode()
        for prefix, convert in self._known.items():
            if text.startswith(prefix):
                payload, end = _decoded(text, len(prefix))
                if text[end:].strip() != "}":
                    break
                _check(data, payload)
                return DecodedValue(None if payload is None else convert(payload), True)
        value, end = _decoded(text, len(text) - len(text.lstrip()))
        if text[end:].strip():
            raise BadJson("something stands behind it")
        _check(data, value)
        if not isinstance(value, dict) or value.keys() != {"schema", "payload"}:
            return DecodedValue(value, False)
        schema, payload = value["schema"], value["payload"]
        if not isinstance(schema, dict) or "type" not in schema:
            return DecodedValue(payload, False)
        read = _Connect().reader(schema, 1)
        self._remember(text, read)
        return DecodedValue(None if payload is None else read(payload), True)

    def _remember(self, text: str, read: Convert) -> None:
        if not text.startswith(_SCHEMA):
            return
        _, end = _decoded(text, len(_SCHEMA))
        if text.startswith(_PAYLOAD, end):
            if len(self._known) >= _MOST_PREFIXES:
                self._known.clear()
            self._known[text[: end + len(_PAYLOAD)]] = read


def _decoded(text: str, at: int) -> tuple[Any, int]:
    if text[at : at + 1] in _SPACES:
        at = len(text) - len(text[at:].lstrip())
    try:
        return _FAST.raw_decode(text, at)
    except ValueError:
        if _LONG_NUMBER.search(text) is None:
            raise BadJson("it is none") from None
    try:
        return _LONG.raw_decode(text, at)
    except ValueError:
        raise BadJson("it is none") from None


def _check(data: bytes, value: Any) -> None:
    if data.count(b"[") + data.count(b"{") > DEEPEST and _deep(value):
        raise BadJson(f"it is nested more than {DEEPEST} deep")
    if b"\\u" in data:
        try:
            json.dumps(value, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError:
            raise BadJson("it has half of a surrogate pair, which is no character") from None


def _deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _within(outer) if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def _within(value: Any) -> Iterator[Any]:
    yield from value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


class _Connect:
    """From a schema of Kafka Connect to the function that reads its values, which are never None."""

    def __init__(self) -> None:
        self._types = 0

    def reader(self, schema: Any, depth: int) -> Convert:
        self._types += 1
        if not isinstance(schema, dict) or self._types > _MOST_TYPES or depth > DEEPEST:
            raise BadJson(f"its schema is none, or has more than {_MOST_TYPES} types")
        plain = self._plain(schema, depth)
        convert = self._conversion(schema)
        if convert is None:
            return plain
        if schema["type"] == "bytes":
            # decimal.format=NUMERIC writes the number itself.
            return lambda value: value if type(value) in (int, Decimal) else convert(plain(value))
        return lambda value: convert(plain(value))

    def _conversion(self, schema: Mapping[str, Any]) -> Convert | None:
        name, parameters = schema.get("name"), schema.get("parameters") or {}
        if not isinstance(parameters, dict) or not isinstance(name, str | None):
            raise BadJson("its schema has a name that is no text, or parameters that are no object")
        numbers = {key: text for key, text in parameters.items() if isinstance(text, str) and _NUMBER.fullmatch(text)}
        return conversion(name, numbers)

    def _plain(self, schema: Mapping[str, Any], depth: int) -> Convert:
        kind = schema.get("type")
        if kind == "struct":
            return self._struct(schema.get("fields"), depth)
        if kind == "array":
            return _items(self.reader(schema.get("items"), depth + 1))
        if kind == "map":
            return _map(self.reader(schema.get("keys"), depth + 1), self.reader(schema.get("values"), depth + 1))
        read = _SCALARS.get(kind) if isinstance(kind, str) else None
        if read is None:
            raise BadJson("its schema has a type that Kafka Connect does not have")
        return read

    def _struct(self, fields: Any, depth: int) -> Convert:
        if not isinstance(fields, list) or not all(isinstance(one, dict) for one in fields):
            raise BadJson("its schema has a struct without fields")
        names = [one.get("field") for one in fields]
        if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise BadJson("its schema has a struct whose fields have no names, or a name twice")
        readers = {str(name): self.reader(one, depth + 1) for name, one in zip(names, fields, strict=True)}
        return lambda value: _fields(readers, value)


_NUMBER: Final = re.compile(r"-?[0-9]{1,9}")


def _fields(readers: Mapping[str, Convert], value: Any) -> Any:
    if not isinstance(value, dict):
        raise NoValue("no object where the schema has a struct")
    out = {}
    for name, item in value.items():
        read = readers.get(name)
        if read is None:
            raise BadJson(f"its schema does not have the field {name}")
        if item is not None:
            try:
                item = read(item)
            except Exception as error:
                bad_field(name, error)
        out[name] = item
    return out


def _items(read: Convert) -> Convert:
    def convert(value: Any) -> Any:
        if not isinstance(value, list):
            raise NoValue("no array where the schema has one")
        return [None if item is None else read(item) for item in value]

    return convert


def _map(key: Convert, item: Convert) -> Convert:
    def convert(value: Any) -> Any:
        pairs = value.items() if isinstance(value, dict) else value  # keys that are no texts stand in pairs
        return {key(name): None if held is None else item(held) for name, held in pairs}

    return convert


def _of(*kinds: type) -> Convert:
    def check(value: Any) -> Any:
        if type(value) not in kinds:
            raise NoValue("a value of another type than the schema's")
        return value

    return check


def _bytes(value: Any) -> bytes:
    return b64decode(value, validate=True)


_float: Final = _of(int, float, Decimal, str)
_SCALARS: Final[dict[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(("int8", "int16", "int32", "int64"), _of(int)),
    **dict.fromkeys(("float", "double", "float32", "float64"), _float),
    "boolean": _of(bool),
    "string": _of(str),
    "bytes": _bytes,
}
