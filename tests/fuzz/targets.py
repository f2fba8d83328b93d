"""Every parser of strangers' bytes as a function of bytes, what it may raise, and inputs to begin with.

A parser may refuse what it is given by its own error, and by no other; and it may not take long. A new parser gets a
line in `TARGETS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.config.values import CompatibilityConfig, ValuesConfig
from pycdc.connectors.kafka.columnar_decoder import ColumnarDecoder
from pycdc.connectors.kafka.json_decoder import BadJson, JsonDecoder
from pycdc.connectors.kafka.record_decoder import Decoder
from pycdc.connectors.postgres.replication import pgoutput
from pycdc.connectors.postgres.signals import debezium as debezium_signals
from pycdc.connectors.postgres.signals import messages as signals
from pycdc.engine_interfaces import NotColumnar
from pycdc.errors import ConversionError, ProtocolError, UnknownSchema
from pycdc.model.change import PgType
from pycdc.model.event import Event, Partition, Unwritable
from pycdc.model.origin import read_headers, read_mark
from pycdc.operations.lag.record_times import RecordTimes
from pycdc.rows.avro_decoder import BadField, compile_reader
from pycdc.rows.avro_schema import BadSchema, parse_avro
from pycdc.rows.codecs import codec_for
from pycdc.rows.column_readings import reading
from pycdc.rows.target_column import TargetColumn
from pycdc.rows.tuples import split_line, split_tuple
from pycdc.sinks.postgres.routing.field_paths import identity_of
from pycdc.sinks.postgres.routing.router import RouteTable
from pycdc.sinks.postgres.target_tables import TargetTable


@dataclass(frozen=True)
class Target:
    """`refuses` are the errors by which it says no."""

    run: Callable[[bytes], object]
    refuses: tuple[type[Exception], ...] = ()
    seeds: Sequence[bytes] = field(default=())

    def __call__(self, data: bytes) -> None:
        try:
            self.run(data)
        except self.refuses:
            pass


# The apply side.

CATEGORIES = {
    "int8": "N", "numeric": "N", "money": "N", "float8": "N", "bool": "B", "bit": "V", "varbit": "V", "text": "S",
    "bytea": "U", "jsonb": "U", "json": "U", "uuid": "U", "date": "D", "time": "D", "timestamp": "D",
    "timestamptz": "D", "timetz": "D", "interval": "T", "hstore": "U", "point": "G", "geometry": "U", "vector": "U",
}  # fmt: skip
_NAMED: dict[str, Any] = {
    "n": ("bytes", {"logicalType": "decimal", "precision": 9, "scale": 2}),
    "d": ("int", {"connect.name": "io.debezium.time.Date"}),
    "dd": ("int", {"logicalType": "date"}),
    "t": ("long", {"connect.name": "io.debezium.time.MicroTime"}),
    "at": ("long", {"connect.name": "io.debezium.time.MicroTimestamp"}),
    "ms": ("long", {"logicalType": "timestamp-millis"}),
    "tz": ("string", {"connect.name": "io.debezium.time.ZonedTimestamp"}),
    "i": ("long", {"connect.name": "io.debezium.time.MicroDuration"}),
    "doc": ("string", {"connect.name": "io.debezium.data.Json"}),
    "b": ("bytes", {"connect.name": "io.debezium.data.Bits", "connect.parameters": {"length": "9"}}),
    "u": ("string", {"logicalType": "uuid"}),
    "w": ("bytes", {"connect.name": "org.apache.kafka.connect.data.Decimal", "connect.parameters": {"scale": "-2"}}),
}


def _record(name: str, *fields: tuple[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": one, "type": kind} for one, kind in fields]}


_VARIABLE = _record("V", ("scale", "int"), ("value", "bytes")) | {
    "connect.name": "io.debezium.data.VariableScaleDecimal"
}
_ROW = _record(
    "Value",
    ("id", "long"),
    *((name, ["null", {"type": kind, **more}]) for name, (kind, more) in _NAMED.items()),
    ("v", ["null", _VARIABLE]),
    ("tree", ["null", {"type": "array", "items": ["null", "string", {"type": "map", "values": "double"}, "Value"]}]),
    ("f", {"type": "fixed", "name": "F", "size": 3}),
    ("e", {"type": "enum", "name": "E", "symbols": ["A", "B"]}),
)
_ENVELOPE = _record(
    "Envelope", ("before", ["null", _ROW]), ("after", ["null", "Value"]), ("op", "string"), ("ts_ms", ["null", "long"])
)
SCHEMAS = {1: _ROW, 2: _ENVELOPE, 3: _record("Key", ("id", "long")), 4: _VARIABLE}
WIRE = {number: b"\0" + number.to_bytes(4, "big") for number in SCHEMAS}
_EMPTY_ROW = b"\x02" + b"\0" * (len(_NAMED) + 2) + b"abc" + b"\x02"


def _schema_text(number: int) -> str:
    if number not in SCHEMAS:
        raise UnknownSchema(f"no schema {number}")
    return json.dumps(SCHEMAS[number])


def _of_wire(number: int, data: bytes) -> bytes:
    return data if data[:1] != b"\0" else WIRE[number] + data[1:]


def _column(name: str, base: str) -> TargetColumn:
    array = base.endswith("[]")
    element = base.removesuffix("[]") if array else ""
    kind = "A" if array else CATEGORIES[base]
    return TargetColumn(name, ("pg_catalog", base), kind, base, element, False, "", False)


def _router(settings: dict[str, Any]) -> RouteTable:
    bases = [*CATEGORIES, *(f"{base}[]" for base in CATEGORIES)]
    columns = {base: _column(base, base) for base in bases} | {"id": _column("id", "int8")}
    table = TargetTable("public", "t", columns, ("id",), frozenset({frozenset({"id"})}))
    fields = dict.fromkeys(bases, "v")
    route = {"topic": "t", "table": "t", "key": {"id": "id"}, "set": fields, **settings}
    return RouteTable(PostgresSinkConfig.model_validate({"dsn": "x", "routes": [route]}), {"t": table})


_ROUTERS = [_router({}), _router({"operation": "delta", "delta": {"numeric": "v"}, "set": {"text": "$key.a"}})]
_TOLD = ValuesConfig()


def _event(data: bytes, key: bytes | None = None, **options: Any) -> Event:
    headers = (("id", data[:9]), ("pycdc.hops", data[:3]))
    event = Decoder(_schema_text, **options).event(Partition("t", 0), 1, 0, key, data, headers)
    assert event.problem is not None or event.deleted or isinstance(event.row, dict)
    return event


def _routed(data: bytes) -> None:
    """By each column on its own, so that one does not hide another."""
    for values in (None, _TOLD):
        event = _event(data, data[:40], values=values)
        if event.problem is None:
            identity_of((event.row or {}).get("v"))
            for router in _ROUTERS:
                try:
                    router.writes(event)
                except Unwritable:
                    continue
            _each_column(event)


def _each_column(event: Event) -> None:
    for value in (event.row or event.before or {}).values():
        for base in CATEGORIES:
            for name in (base, f"{base}[]"):
                try:
                    text = reading(event.forms).text(value, _column("c", name))
                    assert text is None or "\0" not in text
                except Unwritable:
                    continue


def _key(data: bytes) -> None:
    for form in ("auto", "avro", "json", "string", "bytes", "int", "long"):
        event = _event(b"{}", data, key_form=form)
        try:
            identity_of(event.key)
        except Unwritable:
            continue


class _Target:
    def __init__(self, fields: Any) -> None:
        self.key, self.take = fields[:1], tuple(one.name for one in fields)

    def load(self, rows: list[Any], removals: int, *, own_keys: bool) -> Any:
        return rows


class _Targets:
    def target(self, topic: str, fields: Any) -> Any:
        return _Target(fields)


_COLUMNAR_RECORDS = Decoder(_schema_text)
for _known in WIRE.values():
    _COLUMNAR_RECORDS.event(Partition("t", 0), 0, 0, _known, _known)
_COLUMNAR = ColumnarDecoder(_COLUMNAR_RECORDS, _Targets())


def _columns(data: bytes) -> None:
    """What columns read, the decoder reads: never more."""
    value = WIRE[2] + data
    rows, removals = _COLUMNAR.part("t", [None], [value])
    event = _COLUMNAR_RECORDS.event(Partition("t", 0), 0, 0, None, value)
    assert event.problem is None, "columns read what the decoder refuses"
    assert (event.deleted, len(rows)) == (bool(removals), 1)


def _schema(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    read = compile_reader(parse_avro(text))
    try:
        read(b"\0\2\4\6\x80\1" * 20, 0)
    except Exception:
        return  # of other bytes than its own


def _payload(data: bytes) -> None:
    payloads = RecordTimes(_schema_text)
    payloads.committed_at(_of_wire(2, data))
    payloads.message(data)


# The capture side.

_TYPES = [PgType(0, name) for name in CATEGORIES if name not in ("geometry", "vector")] + [
    PgType(0, f"_{name}", element=PgType(0, name))
    for name in ("int8", "numeric", "text", "timestamp", "bytea", "jsonb")
]
_CODECS = [
    codec
    for kind in _TYPES
    for values in (ValuesConfig(), ValuesConfig(decimal="string", time="isostring", interval="string", hstore="map"))
    if (codec := codec_for(kind, values, CompatibilityConfig())) is not None
]


def _codecs(data: bytes) -> None:
    for codec in _CODECS:
        try:
            codec.encode(data)
        except (ValueError, LookupError, ArithmeticError, TypeError, ConversionError):
            continue  # the encoder names row and column


def _signal(data: bytes) -> None:
    debezium_signals.requested(debezium_signals.of_message(data, "signals[0]@1"))


def _message(data: bytes) -> None:
    document = signals.content(data)
    assert isinstance(document, dict)


_JSON = [
    b'{"id":1,"v":1.50}', b'{"id":1,"v":"2024-01-01T12:00+02:00"}', b'{"op":"c","after":{"id":1,"v":[1]}}',
    b'{"schema":{"type":"struct","fields":[{"field":"v","type":"bytes","name":"org.apache.kafka.connect.data.Decimal",'
    b'"parameters":{"scale":"2"}}]},"payload":{"v":"BNI="}}', b'{"id":1e5,"v":{"scale":1,"value":"AQ=="}}',
    b'{"id":1,"v":"\\ud83d"}', b'{"__deleted":"true","id":1}', b'{"v":{"x":1,"y":2,"wkb":"AQEAAAA=","srid":7}}',
]  # fmt: skip
_SIGNALS = [
    b'{"type":"execute-snapshot","data":{"data-collections":["public.t"],"type":"incremental"}}',
    b'{"id":"1","type":"stop-snapshot","data":"{}"}', b'{"type":"log","data":{"message":"x {}"}}',
]  # fmt: skip

TARGETS: dict[str, Target] = {
    "json_record": Target(_event, (), _JSON),
    "json_reader": Target(lambda data: JsonDecoder().read(data), (BadJson, BadField, Unwritable), _JSON),
    "routed_json": Target(_routed, (), _JSON),
    "avro_row": Target(lambda data: _event(WIRE[1] + data), (), [_EMPTY_ROW]),
    "avro_envelope": Target(lambda data: _event(WIRE[2] + data), (), [b"\0\2" + _EMPTY_ROW + b"\2c\0"]),
    "routed_avro": Target(lambda data: _routed(WIRE[1] + data), (), [_EMPTY_ROW]),
    "avro_schema": Target(_schema, (BadSchema, Unwritable), [json.dumps(one).encode() for one in SCHEMAS.values()]),
    "key": Target(_key, (), [b'{"id":1}', b"12e3", WIRE[3] + b"\2", b"\0\0\0\0\0\0\0\7", b'"x"']),
    "columns": Target(_columns, (NotColumnar,), [b"\0\2" + _EMPTY_ROW + b"\2c\0", b"\2" + _EMPTY_ROW + b"\0\2d\0"]),
    "payload": Target(_payload, (), [b'{"source":{"ts_us":1}}', b'{"message":{"prefix":"p","content":"AQ=="}}']),
    "headers": Target(lambda data: read_headers([("pycdc.origin", data), ("pycdc.hops", data)]), (), [b"x", b"1"]),
    "mark": Target(read_mark, (), [b'{"pipeline":"x","origin":"y","hops":2,"tables":["a.b"]}']),
    "identity": Target(identity_of, (), [b"a", b"\xff\xfe", b"\\x00"]),
    "pgoutput": Target(pgoutput.decode, (ProtocolError,), [
        b"B" + bytes(20), b"C" + bytes(25), b"I\0\0\0\1N\0\1t\0\0\0\1x",
        b"R\0\0\0\1public\0t\0d\0\1\1id\0\0\0\0\x17\xff\xff\xff\xff",
        b"M\0" + bytes(8) + b"p\0\0\0\0\1x", b"T\0\0\0\1\0\0\0\0\1",
    ]),
    "tuple": Target(split_tuple, (ValueError, ProtocolError), [b"\0\2t\0\0\0\1xn"]),
    "copy_line": Target(split_line, (ValueError,), [b"a\\tb\t\\N", b"\\x41"]),
    "codecs": Target(_codecs, (), [b"1.50", b"2020-02-29 13:14:15.5", b"{1,2}", b'"a"=>"b"', b"1 mon", b"\\x00"]),
    "signal": Target(_signal, (debezium_signals.Unusable,), _SIGNALS),
    "own_signal": Target(_message, (), [b'{"slot":"x","kind":"mark","chunk":"1"}']),
}  # fmt: skip
