"""Structs of geometric types, read back to the texts that were written."""

from __future__ import annotations

from base64 import b64encode
from decimal import Decimal
from typing import Any

import pytest

from pycdc.config.values import HONEST, ValuesConfig
from pycdc.model.change import PgType
from pycdc.model.event import Unwritable
from pycdc.rows import shape_texts
from pycdc.rows.codecs import codec_for
from pycdc.rows.connect_types import conversion

TEXTS = [
    ("point", "(1.5,-0.0)"),
    ("box", "(2.0,2.0),(1.0,1.0)"),
    ("lseg", "[(0.0,0.0),(1.0,1.0)]"),
    ("path", "[(0.0,0.0),(1.0,1.0),(0.0,0.0)]"),
    ("path", "((0.0,0.0),(1.0,1.0))"),
    ("polygon", "((0.0,0.0),(1.0,0.0),(1.0,1.0))"),
    ("polygon", "((0.0,0.0),(1.0,0.0),(0.0,0.0))"),
    ("polygon", "((7.0,8.0))"),
    ("polygon", "((7.0,8.0),(7.0,8.0))"),
    ("circle", "<(1.0,2.0),3.0>"),
    ("line", "{1.0,-1.0,0.0}"),
    ("box", "(inf,inf),(-inf,-inf)"),
    ("lseg", "[(nan,1e+300),(5e-324,1.0)]"),
]


@pytest.mark.parametrize(("name", "text"), TEXTS)
def test_a_shape_is_read_back_as_it_was(name: str, text: str) -> None:
    codec = codec_for(PgType(0, name), ValuesConfig(), HONEST)
    assert codec is not None
    convert = conversion(codec.schema.name, {})
    assert convert is not None
    value: Any = codec.value(text.encode())
    assert convert(value) == text
    if "wkb" in value:
        assert convert({**value, "wkb": b64encode(value["wkb"]).decode()}) == text


def test_a_geometry_of_postgis_stays_as_it_is() -> None:
    convert = conversion("io.debezium.data.geometry.Geometry", {})
    assert convert is not None
    raw = bytes.fromhex("0101000020730C00001C7C613255DE6540787AA52C435C42C0")
    mores: list[dict[str, Any]] = [{}, {"extensions": None}, {"extensions": {}}]
    for more in mores:
        value = {"wkb": raw, "srid": 3187, **more}
        assert convert(value) == value


def test_a_sparse_vector_is_read_back_as_it_was() -> None:
    codec = codec_for(PgType(0, "sparsevec"), ValuesConfig(), HONEST)
    assert codec is not None
    convert = conversion(codec.schema.name, {})
    assert convert is not None
    for text in ("{1:1.5,3:-2.0,10:1e-05}/10", "{}/3"):
        value: Any = codec.value(text.encode())
        entries = [{"key": key, "value": number} for key, number in value["vector"].items()]
        assert convert({**value, "vector": entries}) == text
        assert convert({**value, "vector": [list(one) for one in value["vector"].items()]}) == text


@pytest.mark.parametrize("wkb", [b"", b"\x01\x02\0\0\0\x02\0\0\0", b"\0" * 25, b"\x01\x03\0\0\0\x01\0\0\0\0\0\0\0"])
def test_bytes_that_are_no_such_shape_are_an_error(wkb: bytes) -> None:
    convert = conversion("io.debezium.data.geometry.Geometry", {})
    assert convert is not None
    with pytest.raises(Unwritable, match="geometry"):
        convert({"wkb": wkb, "srid": None, "extensions": {"type": "path"}})


@pytest.mark.parametrize("nanos", [2**63 - 1, -(2**63)])
def test_the_infinite_timestamps_of_nanoseconds_are_infinite(nanos: int) -> None:
    convert = conversion("io.debezium.time.NanoTimestamp", {})
    assert convert is not None
    assert convert(nanos) == ("infinity" if nanos > 0 else "-infinity")


def test_numbers_of_json_are_written_with_their_digits() -> None:
    """JSON's numbers are read as decimals, so that no digit is lost."""
    numbers = {"x": Decimal("1.50"), "y": Decimal("-16.5")}
    assert shape_texts.point(numbers) == "(1.50,-16.5)"
    assert shape_texts.circle({"center": numbers, "radius": Decimal("2.5")}) == "<(1.50,-16.5),2.5>"
    assert shape_texts.line({"a": Decimal(1), "b": Decimal("-0.5"), "c": Decimal(0)}) == "{1,-0.5,0}"
