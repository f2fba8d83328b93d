"""Types whose value is the text that Postgres prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import count
from typing import Final
from uuid import UUID

from pycdc.model.change import PgType
from pycdc.rows.avro import sized
from pycdc.rows.codecs.codec import Codec, Text, Unrepresentable, codec
from pycdc.rows.codecs.options import CodecOptions, Factory
from pycdc.rows.schema import Schema

PLAIN: Final = Schema("string")


def text_codec(schema: Schema, options: CodecOptions, parse: Callable[[Text], object] | None = None) -> Codec:
    """Make a string column's codec: Avro's bytes are the text itself, unless texts that are not UTF-8 are mended."""
    decode = options.decode
    mend = options.values.encoding_errors == "replace"
    return codec(
        schema,
        decode,
        parse=parse,
        zero="",
        unavailable=options.values.unavailable_text,
        encode=(lambda text: sized(decode(text).encode())) if mend else sized,
        is_text=not mend,
    )


def _plain(pg: PgType, options: CodecOptions) -> Codec:
    return text_codec(PLAIN, options)


def _semantic(name: str, parse: Callable[[Text], object] | None = None) -> Factory:
    schema = Schema("string", name=name, version=1)
    return lambda pg, options: text_codec(schema, options, parse)


def enum_codec(pg: PgType, options: CodecOptions) -> Codec:
    allowed = (("allowed", ",".join(pg.labels)),)
    made = text_codec(Schema("string", name="io.debezium.data.Enum", version=1, parameters=allowed), options)
    if options.compat.enum_labels == "kept" or not pg.labels or not made.is_text:
        return made
    name, written = _labels(pg.labels)
    some = {f"SOME_{name}": _labels(pg.labels, b"\x02")[1]}
    return replace(
        made, is_text=False, inline=f"{name}[v]", inline_some=f"SOME_{name}[v]", names={name: written, **some}
    )


_numbered = count()


@lru_cache(maxsize=1024)
def _labels(labels: tuple[str, ...], branch: bytes = b"") -> tuple[str, dict[Text, bytes]]:
    """Labels to their Avro bytes behind a branch, and a name for that.

    A label that is not there was added since: the row is a surprise to the compiled code, and the table is described
    anew (`RowEncoder.require_values`).
    """
    return f"LABELS_{next(_numbered)}", {label.encode(): branch + sized(label.encode()) for label in labels}


def _name(pg: PgType, options: CodecOptions) -> Codec:
    if options.compat.name_columns == "text" or options.snapshot:
        return text_codec(PLAIN, options)

    def value(text: Text) -> str:
        raise Unrepresentable("Debezium streams NULL for a column of type name")

    return codec(PLAIN, value, parse=options.decode, zero="", unavailable="", always_null=True)


def _document(text: Text) -> object:
    # What Python's reader cannot take (nesting deeper than its stack, 4300 digits) stays text.
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text.decode("utf-8", "replace")


def _uuid(text: Text) -> UUID:
    return UUID(text.decode())


RANGES: Final = ("int4range", "int8range", "numrange", "tsrange", "tstzrange", "daterange")
_STRINGS: Final = ("text", "varchar", "bpchar", "char", "citext", "inet", "cidr", "macaddr", "macaddr8", "isbn")

FAMILY: Final[dict[str, Factory]] = {
    **dict.fromkeys((*_STRINGS, *RANGES), _plain),
    "name": _name,
    "json": _semantic("io.debezium.data.Json", _document),
    "jsonb": _semantic("io.debezium.data.Json", _document),
    "xml": _semantic("io.debezium.data.Xml"),
    "uuid": _semantic("io.debezium.data.Uuid", _uuid),
    "ltree": _semantic("io.debezium.data.Ltree"),
    "tsvector": _semantic("io.debezium.data.Tsvector"),
}
