"""What a codec is: everything pycdc knows about the values of one column type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pycdc.rows.avro import writer
from pycdc.rows.schema import Datum, Schema

Text = bytes
"""A value as Postgres' output function wrote it, under the pinned session settings."""


class Unrepresentable(ValueError):
    """The value is legal in Postgres but has no representation in the column's schema (NaN in a decimal)."""


@dataclass(frozen=True, slots=True)
class Codec:
    """One column type under one set of options. All functions take `Text` that is not NULL.

    schema       Connect schema of a present value (required; the plan adds optional and default)
    value        Text -> Connect datum; raises Unrepresentable
    parse        Text -> Python value, for users of the library
    encode       Text -> Avro bytes of the datum, no union index; equals ``writer(schema)(value(text))``
    inline       the same as a Python expression over ``v`` (the text) and ``n`` (its length), for the compiler;
                 may raise ValueError, after which the compiled code falls back to `encode`. Names that it uses come
                 from `names`. Temporaries by walrus start with ``t_``.
    inline_some  `inline` behind the branch of an optional value without a default, where that can be had for less
    is_text      the Avro bytes are the text itself behind its length: the compiler writes it without a call
    zero         the datum for a NOT NULL column whose value Postgres did not send (debezium.md 3.4)
    unavailable  the datum for a TOASTed value that was not sent (debezium.md 3.5); None where Debezium has no
                 placeholder for the type: NULL, or `zero` in a NOT NULL column
    optional     the field is optional even in a NOT NULL column, and a value that was not sent is NULL there
    always_null  no value is written, whatever Postgres sent: NULL, or `zero` in a NOT NULL column
    """

    schema: Schema
    value: Callable[[Text], Datum]
    parse: Callable[[Text], object]
    zero: Datum
    unavailable: Datum
    encode: Callable[[Text], bytes]
    inline: str | None = None
    names: Mapping[str, object] = field(default_factory=dict)
    is_text: bool = False
    always_null: bool = False
    optional: bool = False
    inline_some: str | None = None


def codec(
    schema: Schema,
    value: Callable[[Text], Datum],
    *,
    parse: Callable[[Text], object] | None = None,
    zero: Datum = None,
    unavailable: Datum = None,
    encode: Callable[[Text], bytes] | None = None,
    inline: str | None = None,
    names: Mapping[str, object] | None = None,
    is_text: bool = False,
    always_null: bool = False,
) -> Codec:
    """Make a codec whose `encode` defaults to writing what `value` returns, and whose `parse` defaults to `value`."""
    if encode is None:
        write = writer(schema)

        def encode(text: Text) -> bytes:
            return write(value(text))

    return Codec(schema, value, parse or value, zero, unavailable, encode, inline, names or {}, is_text, always_null)
