"""Types without a form of their own in Debezium: Postgres' text in a string column, or nothing."""

from __future__ import annotations

from pycdc.model.change import PgType
from pycdc.rows.codecs.codec import Codec, Text, Unrepresentable, codec
from pycdc.rows.codecs.numeric import amounts
from pycdc.rows.codecs.options import CodecOptions
from pycdc.rows.codecs.text import PLAIN, text_codec


def unknown_codec(pg: PgType, options: CodecOptions) -> Codec | None:
    return text_codec(PLAIN, options) if options.values.unknown_types == "text" else None


def money_array_codec(digits: int, options: CodecOptions) -> Codec | None:
    """money[] of a server whose lc_monetary has another number of digits than the session's, which is C."""
    made = unknown_codec(PgType(0, "_money"), options)

    def value(text: Text) -> str:
        return amounts(text, digits).decode()

    return made and codec(made.schema, value, zero=made.zero, unavailable=made.unavailable)


def bit_array_codec(item: Codec, options: CodecOptions) -> Codec | None:
    """bit[], for which Debezium declares a single bit's schema and writes NULL."""
    if options.values.unknown_types != "debezium":
        return unknown_codec(PgType(0, "_bit"), options)

    def value(text: Text) -> object:
        raise Unrepresentable("Debezium writes NULL for an array of bits")

    return codec(item.schema, value, parse=bytes.decode, zero=item.zero, unavailable=item.zero, always_null=True)
