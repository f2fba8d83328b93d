"""From Kafka Connect's and Debezium's named types to texts that Postgres reads: days to a date, bytes to bits.

Names stand in an Avro schema as ``connect.name``, in JSON's as ``name``. Values without such a name stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from pycdc.rows.codecs.civil import DAY, civil_of, iso_time

Convert = Callable[[Any], Any]
"""From a decoded value, never None, to what a row holds."""

_INFINITE_DAYS: Final = {2_147_483_647: "infinity", -2_147_483_648: "-infinity"}
_INFINITE_MICROS: Final = 9_223_372_036_825_000_000
"""Debezium's infinite timestamps lie beyond it, rounded in one way or another."""


def _date(days: int) -> str:
    return _INFINITE_DAYS.get(days) or _civil(days)


def _civil(days: int, time: str = "") -> str:
    year, month, day = civil_of(days)
    shown = f"{year if year > 0 else 1 - year:04d}-{month:02d}-{day:02d}{time}"
    return shown if year > 0 else shown + " BC"


def _timestamp(micros: int) -> str:
    if abs(micros) >= _INFINITE_MICROS:
        return "infinity" if micros > 0 else "-infinity"
    days, of_day = divmod(micros, DAY)
    return _civil(days, " " + iso_time(of_day))


def _interval(micros: int) -> str:
    return f"{micros} microseconds"


def _variable_decimal(value: Mapping[str, Any]) -> Any:
    """A struct of scale and unscaled bytes; Debezium writes NaN and the like as null, which has no struct."""
    unscaled = int.from_bytes(value["value"], "big", signed=True)
    return Decimal(unscaled).scaleb(-value["scale"])


def _point(value: Mapping[str, Any]) -> str:
    return f"({value['x']!r},{value['y']!r})"


def _bits(parameters: Mapping[str, str]) -> Convert:
    """Little-endian bytes; `length` is the number of bits, where it is known."""
    length = int(parameters.get("length", "0"))

    def convert(value: bytes) -> str:
        number = int.from_bytes(value, "little")
        return format(number, f"0{length}b") if 0 < length < 2**31 - 1 else format(number, f"0{len(value) * 8}b")

    return convert


_BY_NAME: Final[dict[str, Convert]] = {
    "io.debezium.time.Date": _date,
    "org.apache.kafka.connect.data.Date": _date,
    "io.debezium.time.Timestamp": lambda value: _timestamp(value * 1000),
    "org.apache.kafka.connect.data.Timestamp": lambda value: _timestamp(value * 1000),
    "io.debezium.time.MicroTimestamp": _timestamp,
    "io.debezium.time.NanoTimestamp": lambda value: _timestamp(value // 1000),
    "io.debezium.time.Time": lambda value: iso_time(value * 1000),
    "org.apache.kafka.connect.data.Time": lambda value: iso_time(value * 1000),
    "io.debezium.time.MicroTime": iso_time,
    "io.debezium.time.NanoTime": lambda value: iso_time(value // 1000),
    "io.debezium.time.MicroDuration": _interval,
    "io.debezium.data.VariableScaleDecimal": _variable_decimal,
    "io.debezium.data.geometry.Point": _point,
}


def conversion(name: str | None, parameters: Mapping[str, str]) -> Convert | None:
    """What to do with values of a named type; None: nothing."""
    if name == "io.debezium.data.Bits":
        return _bits(parameters)
    return _BY_NAME.get(name or "")


class AvroConversions:
    """Compiles a parsed Avro schema into one function over its decoded datum; None where nothing has to be done."""

    def __init__(self) -> None:
        self._named: dict[str, Convert | None] = {}

    def of(self, schema: Any) -> Convert | None:
        if isinstance(schema, list):
            return self._union(schema)
        if isinstance(schema, str):
            return self._named.get(schema)
        if schema.get("logicalType"):
            return None  # fastavro makes dates, times and decimals of them
        convert = conversion(schema.get("connect.name"), schema.get("connect.parameters") or {})
        if schema["type"] in ("record", "error"):
            convert = convert or self._record(schema)
            self._named[schema["name"]] = convert
        elif schema["type"] == "array":
            convert = self._array(schema["items"])
        elif isinstance(schema["type"], dict | list):
            convert = convert or self.of(schema["type"])
        return convert

    def _union(self, branches: list[Any]) -> Convert | None:
        others = [self.of(branch) for branch in branches if branch != "null"]
        return others[0] if len(others) == 1 else None

    def _record(self, schema: dict[str, Any]) -> Convert | None:
        fields = [(field["name"], self.of(field["type"])) for field in schema["fields"]]
        converted = [(name, convert) for name, convert in fields if convert is not None]
        return _of_record(converted) if converted else None

    def _array(self, items: Any) -> Convert | None:
        convert = self.of(items)
        return None if convert is None else lambda values: [None if v is None else convert(v) for v in values]


def _of_record(converted: list[tuple[str, Convert]]) -> Convert:
    def convert_record(record: dict[str, Any]) -> dict[str, Any]:
        for name, convert in converted:
            value = record.get(name)
            if value is not None:
                record[name] = convert(value)
        return record

    return convert_record
