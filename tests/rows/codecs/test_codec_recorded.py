"""Every type in every mode against what Debezium 3.6.3 emitted: tests/golden/types.json.

Recorded from Postgres 15 (lc_monetary C, TimeZone UTC) with JsonConverter and schemas. `columns` holds type, default
and texts as Postgres sent them; each run holds the schema, the values of stream and snapshot, the value of an unknown
NOT NULL column of a DELETE (`zero`) and of an unchanged TOAST (`unavailable`). Runs after the first hold only what
differs from it.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pycdc.config.values import DEBEZIUM_3_6, ValuesConfig
from pycdc.model.change import PgType
from pycdc.rows.avro import writer
from pycdc.rows.codecs import Codec, Unrepresentable, codec_for, default_datum, is_unknown
from pycdc.rows.schema import NO_DEFAULT, connect_json, json_datum

RECORDED = json.loads((Path(__file__).parents[2] / "golden" / "types.json").read_text())

VALUES_THAT_DIFFER = {
    ("t_t.d", "2", "snapshot"): "JDBC loses the era",
    ("t_t.d", "6", "snapshot"): "JDBC loses the era",
    ("t_t.da", "1", "stream"): "arrays go through JDBC, which loses the era",
    ("t_t.ta", "1", "stream"): "arrays of time lose microseconds and 24:00:00",
    ("t_t.tza", "1", "stream"): "arrays of timetz lose the fraction",
    ("t_t.tstza", "4", "stream"): "-infinity in an array becomes a date",
    ("t_t.ts6", "2", "stream"): "beyond 64 bits: overflow there, unrepresentable here",
    ("t_t.iv", "3", "stream"): "beyond 64 bits: clamped there, unrepresentable here",
    ("t_x.h", "1", "stream"): "the order of Java's HashMap",
    ("t_x.lta", "2", "stream"): "a NULL in an ltree array fails there",
    ("t_x.nm", "1", "stream"): "a name is NULL in the stream but for include.unknown.datatypes",
}
DEFAULTS_THAT_DIFFER = {
    "t_def.j": "NaN, which JSON has not",
    "t_def.p": "the keyword CURRENT_USER as text",
    "t_def.an": "the first literal of an expression",
    "t_def.be": "false for any expression",
    "t_def.bl": "the expression as text",
    "t_def.bv": "an overflow",
}
PLACEHOLDERS_THAT_DIFFER = ("t_toast.by", "t_toast.bya", "t_toast.da")
"""NULL in some modes, where the others have a placeholder."""


@dataclass(frozen=True)
class Case:
    values: dict[str, Any]
    column: str
    type: PgType
    meta: dict[str, Any]
    recorded: dict[str, Any] | None

    def codec(self, *, snapshot: bool = False) -> Codec | None:
        values = ValuesConfig(unknown_types="debezium", **self.values)
        return codec_for(self.type, values, DEBEZIUM_3_6, dimensions=self.meta.get("dimensions", 0), snapshot=snapshot)


def _type(recorded: dict[str, Any]) -> PgType:
    element = recorded.get("element")
    return PgType(
        0,
        recorded["name"],
        recorded.get("typmod", -1),
        recorded.get("kind", "b"),
        _type(element) if element else None,
        tuple(recorded.get("labels", ())),
        recorded.get("domain", False),
    )


def _tables() -> Iterator[Any]:
    """Each table of each mode: one test a column would be two thousand, which take longer to be run than to pass."""
    for run in RECORDED["runs"]:
        mode = "-".join(str(value) for value in run["values"].values()) or "defaults"
        tables: dict[str, list[Case]] = {}
        for name, recorded in run["columns"].items():
            meta = RECORDED["columns"][name]
            case = Case(run["values"], name, _type(meta["type"]), meta, recorded)
            tables.setdefault(name.partition(".")[0], []).append(case)
        for name, cases in tables.items():
            yield pytest.param(cases, id=f"{mode}-{name}")


each_table = pytest.mark.parametrize("cases", list(_tables()))


def _as_json(value: Any) -> Any:
    """Kafka's JsonConverter writes the numbers that JSON has not as strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    return {key: _as_json(item) for key, item in value.items()} if isinstance(value, dict) else value


def _single(value: Any) -> Any:
    return struct.unpack("<f", struct.pack("<f", value))[0] if isinstance(value, float) else value


def _datum(codec: Codec, text: str) -> Any:
    try:
        return _as_json(json_datum(codec.schema, codec.value(text.encode())))
    except Unrepresentable:
        return None


@each_table
def test_a_column_has_debeziums_schema(cases: list[Case]) -> None:
    for case in cases:
        _has_the_schema(case)


def _has_the_schema(case: Case) -> None:
    codec = case.codec()
    if case.recorded is None:
        assert codec is None, case.column
        assert is_unknown(case.type, DEBEZIUM_3_6), case.column
        return
    assert codec is not None, case.column
    schema = codec.schema if case.meta.get("required") else codec.schema.as_optional()
    default = default_datum(case.meta["default"], case.type, codec) if "default" in case.meta else NO_DEFAULT
    expected = dict(case.recorded["schema"])
    if case.column in DEFAULTS_THAT_DIFFER:
        assert default is NO_DEFAULT, case.column
        assert expected.pop("default") is not None
    assert connect_json(schema.with_default(default)) == expected, case.column


@each_table
def test_a_value_is_debeziums_value(cases: list[Case]) -> None:
    for case in cases:
        _has_the_values(case)


def _has_the_values(case: Case) -> None:
    codec = case.codec()
    if codec is None or case.recorded is None or "texts" not in case.meta:
        return
    for side in ("stream", "snapshot"):
        codec = case.codec(snapshot=side == "snapshot")
        assert codec is not None
        for row, expected in case.recorded.get(side, case.recorded["stream"]).items():
            if {(case.column, row, side), (case.column, row, "stream")} & VALUES_THAT_DIFFER.keys():
                continue
            datum = _datum(codec, case.meta["texts"][row])
            if codec.schema.type == "float32":
                datum, expected = _single(datum), _single(expected)
            assert datum == expected, (case.column, side, row)


@each_table
def test_avro_bytes_are_those_of_the_datum(cases: list[Case]) -> None:
    for case in cases:
        _has_the_bytes(case)


def _has_the_bytes(case: Case) -> None:
    codec = case.codec()
    for text in case.meta.get("texts", {}).values() if codec else ():
        assert codec is not None
        try:
            expected = writer(codec.schema)(codec.value(text.encode()))
        except Unrepresentable:
            with pytest.raises(Unrepresentable):
                codec.encode(text.encode())
        else:
            assert codec.encode(text.encode()) == expected, (case.column, text)


@each_table
def test_what_stands_for_unknown_values_is_debeziums(cases: list[Case]) -> None:
    for case in cases:
        _has_what_stands_for_unknown_values(case)


def _has_what_stands_for_unknown_values(case: Case) -> None:
    codec = case.codec()
    if codec is None or case.recorded is None:
        return
    if "zero" in case.recorded:
        assert json_datum(codec.schema, codec.zero) == case.recorded["zero"], case.column
    if "unavailable" in case.recorded and not (case.values and case.column in PLACEHOLDERS_THAT_DIFFER):
        assert json_datum(codec.schema, codec.unavailable) == case.recorded["unavailable"], case.column


def test_each_difference_is_one() -> None:
    first = RECORDED["runs"][0]
    for column, row, side in VALUES_THAT_DIFFER:
        if column == "t_x.nm":
            continue
        meta, recorded = RECORDED["columns"][column], first["columns"][column]
        codec = Case({}, column, _type(meta["type"]), meta, recorded).codec(snapshot=side == "snapshot")
        assert codec is not None
        assert _datum(codec, meta["texts"][row]) != recorded.get(side, recorded["stream"])[row], column
