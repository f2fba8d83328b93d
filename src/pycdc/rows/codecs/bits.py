"""bit and varbit: a boolean for one bit, else Debezium's Bits, little-endian and as short as it gets."""

from __future__ import annotations

import re
from typing import Final

from pycdc.model.change import PgType
from pycdc.rows.avro import sized
from pycdc.rows.codecs.codec import Codec, Text, Unrepresentable, codec
from pycdc.rows.codecs.options import CodecOptions, Factory
from pycdc.rows.schema import Schema

_UNLIMITED: Final = 2_147_483_647
_BITS = re.compile(rb"[01]*")


def _single(text: Text) -> bool:
    if text not in (b"0", b"1"):
        # A varbit(1) may be empty.
        raise Unrepresentable("no bit at all in a column of one")
    return text == b"1"


def _digits(text: Text) -> str:
    if _BITS.fullmatch(text) is None:
        raise ValueError("not a string of bits")
    return text.decode()


def _little_endian(text: Text) -> bytes:
    number = int(_digits(text) or "0", 2)
    return number.to_bytes((number.bit_length() + 7) // 8, "little")


def _bits(pg: PgType, options: CodecOptions) -> Codec:
    length = pg.typmod if pg.typmod > 0 else 1 if pg.name == "bit" else _UNLIMITED
    if length == 1:
        encode = {b"0": b"\x00", b"1": b"\x01"}
        return codec(
            Schema("boolean"),
            _single,
            zero=False,
            unavailable=False,
            encode=lambda text: encode[text] if text in encode else bytes((_single(text),)),
        )
    return codec(
        Schema("bytes", name="io.debezium.data.Bits", version=1, parameters=(("length", str(length)),)),
        _little_endian,
        parse=_digits,
        zero=b"",
        encode=lambda text: sized(_little_endian(text)),
    )


FAMILY: Final[dict[str, Factory]] = {"bit": _bits, "varbit": _bits}
