"""Message keys: what a key is, is told by `source.kafka.key_format`, or by what it can only be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pycdc.connectors.kafka.json_decoder import JsonDecoder
from pycdc.model.event import Forms, Unwritable

ReadKey = Callable[[bytes], tuple[Any, Forms | None]]

_BIG_ENDIAN: Final = {"int": 4, "long": 8}
"""What Java's IntegerSerializer and LongSerializer write."""
_REMEDY: Final = "set source.kafka.key_format"


def key_reader(form: str, avro: Callable[[bytes], Any], json: JsonDecoder, forms: Callable[[bool], Forms]) -> ReadKey:
    """Return the reader of a format. It raises Unwritable. `avro` reads a key, and returns None for what is none."""

    def of_json(data: bytes) -> tuple[Any, Forms]:
        try:
            value, typed = json.read(data)
        except ValueError as error:
            raise Unwritable(f"the key is no JSON ({error}): {_REMEDY}") from None
        return value, forms(typed)

    def of_avro(data: bytes) -> tuple[Any, Forms]:
        return avro(data), forms(True)

    def auto(data: bytes) -> tuple[Any, Forms | None]:
        if data[:1] == b"\0":
            return of_avro(data)
        if data.lstrip()[:1] == b"{":
            return of_json(data)
        if data[:1] == data[-1:] == b'"':
            raise Unwritable(
                f"the key is a text in quotes, which may be JSON's or its own: {_REMEDY} to json or string"
            )
        return _number(text(data)), None

    readers: dict[str, ReadKey] = {"auto": auto, "avro": of_avro, "json": of_json}
    if form in _BIG_ENDIAN:
        return lambda data: (_integer(data, _BIG_ENDIAN[form]), None)
    return readers.get(form) or (lambda data: (data if form == "bytes" else text(data), None))


def text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Unwritable(f"the key is no UTF-8 text: {_REMEDY} to what wrote it") from None


def _number(found: str) -> int | str:
    """Return an integer where its text is the only one that it has."""
    if len(found) > 19 or not found.removeprefix("-").isdecimal() or not found.isascii():
        return found
    return int(found) if str(int(found)) == found else found


def _integer(data: bytes, size: int) -> int:
    if len(data) != size:
        raise Unwritable(f"the key does not have the {size} bytes of source.kafka.key_format")
    return int.from_bytes(data, "big", signed=True)
