"""bytea, read in hex (bytea_output is pinned)."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from binascii import hexlify, unhexlify
from collections.abc import Callable
from typing import Final

from pycdc.model.change import PgType
from pycdc.rows.avro import sized
from pycdc.rows.codecs.codec import Codec, Text, codec
from pycdc.rows.codecs.options import CodecOptions, Factory
from pycdc.rows.schema import Schema

_NOTATIONS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "base64": b64encode,
    "base64-url-safe": urlsafe_b64encode,
    "hex": hexlify,
}


def _raw(text: Text) -> bytes:
    if text[:2] != b"\\x":
        raise ValueError("a bytea not in hex")
    return unhexlify(text[2:])


def _bytea(pg: PgType, options: CodecOptions) -> Codec:
    if options.values.binary == "bytes":
        return codec(
            Schema("bytes"),
            _raw,
            zero=b"",
            unavailable=options.values.unavailable_octets,
            encode=lambda text: sized(_raw(text)),
            inline="sized(unhexlify(v[2:]))",
            names={"sized": sized, "unhexlify": unhexlify},
        )
    notation = _NOTATIONS[options.values.binary]

    def value(text: Text) -> str:
        return notation(_raw(text)).decode()

    return codec(Schema("string"), value, parse=_raw, zero="", unavailable=options.values.unavailable_text)


FAMILY: Final[dict[str, Factory]] = {"bytea": _bytea}
