"""hstore: a JSON text (Debezium's default) or a map."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from pycdc.model.change import PgType
from pycdc.rows.avro import sized
from pycdc.rows.codecs.codec import Codec, Text, codec
from pycdc.rows.codecs.options import CodecOptions, Factory
from pycdc.rows.schema import Schema

_PAIR = re.compile(rb'"((?:[^"\\]|\\.)*+)"=>(?:NULL|"((?:[^"\\]|\\.)*+)")(, |$)', re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
# Jackson writes control characters in upper-case hex.
_JSON: Final = str.maketrans(
    {chr(code): f"\\u{code:04X}" for code in range(32)}
    | {"\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}
)


def pairs(text: Text, decode: Callable[[Text], str]) -> dict[str, str | None]:
    """Return the pairs in Postgres' order: by the key's length, then its bytes."""
    found: dict[str, str | None] = {}
    at = 0
    while at < len(text):
        match = _PAIR.match(text, at)
        if match is None or (match.end() == len(text)) is bool(match[3]):
            raise ValueError("not an hstore")
        key, value = match[1], match[2]
        found[decode(_ESCAPED.sub(rb"\1", key))] = None if value is None else decode(_ESCAPED.sub(rb"\1", value))
        at = match.end()
    return found


def json_text(found: dict[str, str | None]) -> str:
    """As Debezium's Jackson writes it: no spaces, nothing escaped that need not be."""
    return "{" + ",".join([f"{_quoted(key)}:{_quoted(value)}" for key, value in found.items()]) + "}"


def _quoted(text: str | None) -> str:
    return "null" if text is None else f'"{text.translate(_JSON)}"'


def _hstore(pg: PgType, options: CodecOptions) -> Codec:
    decode, placeholder = options.decode, options.values.unavailable_text
    unavailable: dict[str, str | None] = {placeholder: placeholder}

    def parse(text: Text) -> dict[str, str | None]:
        return pairs(text, decode)

    if options.values.hstore == "map":
        schema = Schema("map", items=Schema("string", optional=True))
        return codec(schema, parse, zero={}, unavailable=unavailable)

    def value(text: Text) -> str:
        return json_text(parse(text))

    return codec(
        Schema("string", name="io.debezium.data.Json", version=1),
        value,
        parse=parse,
        zero="{}",
        unavailable=json_text(unavailable),
        encode=lambda text: sized(value(text).encode()),
    )


FAMILY: Final[dict[str, Factory]] = {"hstore": _hstore}
