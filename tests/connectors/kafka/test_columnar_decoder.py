"""Columnar rows are those that the decoder sees, or there are none."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycdc.connectors.kafka.columnar_decoder import ColumnarDecoder, field_of
from pycdc.connectors.kafka.record_decoder import Decoder
from pycdc.engine_interfaces import NotColumnar
from pycdc.model.event import FieldPath, Partition, Removal
from tests.rows.test_avro_decoder import schemas

KEY = {"type": "record", "name": "Key", "fields": [{"name": "id", "type": "long"}]}
CODE = {"type": "record", "name": "Key", "fields": [{"name": "id", "type": "string"}]}


class AllFields:
    """A target that takes every field as it comes, and keeps what it is given."""

    def __init__(self, fields: tuple[FieldPath, ...], key: str = "id") -> None:
        self.key = tuple(field for field in fields if field.name == key)
        self.take = (key, *(field.name for field in fields if field.name != key))
        self.fields = {field.name: field for field in fields}

    def load(self, rows: list[Any], removals: int, *, own_keys: bool) -> Any:
        return rows


class Targets:
    def __init__(self, key: str = "id") -> None:
        self._known: dict[Any, AllFields] = {}
        self._key = key

    def target(self, topic: str, fields: tuple[FieldPath, ...]) -> AllFields:
        return self._known.setdefault(fields, AllFields(fields, self._key))


def wire(number: int, schema: Any, datum: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), datum)
    return b"\0" + number.to_bytes(4, "big") + out.getvalue()


def reader(*texts: Any, key: str = "id") -> tuple[Decoder, ColumnarDecoder]:
    """Schemas have the numbers of their places, and were met before."""
    decoder = Decoder(lambda number: json.dumps(texts[number]))
    for number in range(len(texts)):
        decoder.event(Partition("t", 0), 0, 0, None, b"\0" + number.to_bytes(4, "big"))
    return decoder, ColumnarDecoder(decoder, Targets(key))


def record(*fields: tuple[str, Any], name: str = "Row") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": one, "type": kind} for one, kind in fields]}


def envelope(row: dict[str, Any]) -> dict[str, Any]:
    source = record(("db", "string"), ("lsn", ["null", "long"]), name="Source")
    extra = (("source", source), ("op", "string"), ("tags", {"type": "array", "items": "string"}))
    return record(("before", ["null", row]), ("after", ["null", row["name"]]), *extra, name="Envelope")


def value_of(field: FieldPath, value: Any) -> Any:
    """What a decoder makes of what columns are read."""
    if value is None or field.kind in ("number", "any"):
        return value
    return value.decode() if field.kind == "text" else Decimal(value).scaleb(-field.scale)


@given(st.data(), st.lists(schemas, max_size=6), st.booleans())
def test_rows_are_those_that_the_decoder_sees(data: st.DataObject, kinds: list[Any], enveloped: bool) -> None:
    row = record(("id", "long"), *((f"f{number}", kind) for number, (kind, _) in enumerate(kinds)))
    values = [
        {"id": data.draw(st.integers(-(2**63), 2**63 - 1))}
        | {f"f{number}": data.draw(strategy) for number, (_, strategy) in enumerate(kinds)}
        for _ in range(3)
    ]
    schema = envelope(row) if enveloped else row
    told = {"source": {"db": "shop", "lsn": 2**40}, "op": "u", "tags": ["a", "b"]}
    old = [{**values[0], "id": value["id"]} for value in values]
    changes = [{"before": before, "after": value, **told} for before, value in zip(old, values, strict=True)]
    given_ = changes if enveloped else values
    decoder, columns = reader(KEY, schema)
    keys = [wire(0, KEY, {"id": value["id"]}) for value in values]
    records = [wire(1, schema, one) for one in given_]
    rows, removals = columns.part("t", list(keys), list(records))
    target = columns._targets.target("t", columns._schemas[records[0][:5]].fields)
    assert removals == 0
    for key, one, found in zip(keys, records, rows, strict=True):
        event = decoder.event(Partition("t", 0), 0, 0, key, one)
        assert event.row is not None
        fields = [target.fields[name] for name in target.take]  # type: ignore[union-attr]
        seen = {field.name: value_of(field, value) for field, value in zip(fields, found, strict=True)}
        # NaN is itself by its text only.
        assert repr(sorted(seen.items())) == repr(sorted(event.row.items()))


def test_a_change_of_the_row_that_is_meant_is_looked_at_by_itself() -> None:
    row = record(("id", "long"), ("f", ["null", "string"]))
    schema = envelope(row)
    told = {"source": {"db": "shop", "lsn": 2**40}, "op": "u", "tags": []}
    befores: list[Any] = [None, {"id": 1, "f": None}, {"id": 2}]
    changes: list[dict[str, Any]] = [{"before": before, "after": {"id": 1, "f": "x"}, **told} for before in befores]
    records: list[bytes | None] = [
        wire(1, schema, {**one, "before": one["before"] and {"f": None, **one["before"]}}) for one in changes
    ]
    _, columns = reader(KEY, schema)
    key = wire(0, KEY, {"id": 1})
    assert columns.part("t", [key, key], records[:2])[1] == 0
    with pytest.raises(NotColumnar):
        columns.part("t", [key], records[2:])


@pytest.mark.parametrize("key", [b'{"other":1}', b"\0\0\0\0\0\2"])
def test_rows_whose_message_key_is_another_are_looked_at_by_themselves(key: bytes) -> None:
    schema, source = envelope(record(("id", "long"))), {"db": "shop", "lsn": 1}
    made = wire(1, schema, {"before": None, "after": {"id": 1}, "source": source, "op": "u", "tags": []})
    _, columns = reader(record(("other", "long"), name="Key"), schema)
    with pytest.raises(NotColumnar):
        columns.part("t", [key], [made])


@pytest.mark.parametrize("number", [0, 7])
def test_a_delete_whose_plain_key_is_another_fields_is_looked_at_by_itself(number: int) -> None:
    """Its old row may tell that field alone, and a zero for the rest."""
    schema, source = envelope(record(("id", "long"), ("n", "long"))), {"db": "shop", "lsn": 1}
    gone = wire(0, schema, {"before": {"id": 5, "n": number}, "after": None, "source": source, "op": "d", "tags": []})
    for key, fits in ((b"5", False), (b"%d" % number, True), (None, True)):
        _, columns = reader(schema, key="n")
        if fits:
            assert columns.part("t", [key], [gone])[1] == 1
        else:
            with pytest.raises(NotColumnar):
                columns.part("t", [key], [gone])


@given(st.data(), st.lists(schemas, max_size=4))
def test_a_delete_tells_its_key_whatever_else_it_tells(data: st.DataObject, kinds: list[Any]) -> None:
    row = record(*((f"f{number}", kind) for number, (kind, _) in enumerate(kinds)), ("id", "long"))
    before = {"id": 7} | {f"f{number}": data.draw(strategy) for number, (_, strategy) in enumerate(kinds)}
    schema = envelope(row)
    datum = {"before": before, "after": None, "source": {"db": "ü" * 70, "lsn": -1}, "op": "d", "tags": ["x"]}
    _, columns = reader(KEY, schema)
    key = wire(0, KEY, {"id": 7})
    part, removals = columns.part("t", [key, key], [wire(1, schema, datum), None])
    assert (part, removals) == ([Removal((7,), False), Removal((7,), True)], 2)


ROW = record(("id", "long"), ("name", ["null", "string"]), ("__deleted", ["null", "string"]))
ENVELOPE = envelope(record(("id", "long"), ("name", ["null", "string"])))
GOOD = wire(1, ROW, {"id": 300, "name": "cup", "__deleted": "false"})
WHOLE: dict[str, Any] = {
    "before": None,
    "after": {"id": 300, "name": "cup"},
    "source": {"db": "d", "lsn": 1},
    "op": "c",
    "tags": [],
}
CHANGED = wire(2, ENVELOPE, WHOLE)
GONE = {**WHOLE, "before": {"id": 300, "name": None}, "after": None, "op": "d"}
OWN = wire(0, KEY, {"id": 300})


def test_a_flat_row_that_is_marked_as_deleted_is_a_removal() -> None:
    _, columns = reader(KEY, ROW)
    gone = wire(1, ROW, {"id": 300, "name": None, "__deleted": "true"})
    assert columns.part("t", [OWN, OWN], [GOOD, gone]) == ([(300, b"cup"), Removal((300,), False)], 1)


UNFIT: dict[str, tuple[bytes | None, bytes | None]] = {
    "nothing but a tombstone": (OWN, None),
    "another schema": (OWN, b"\0\0\0\0\3" + GOOD[5:]),
    "a schema never met": (OWN, b"\0\0\0\0\x63" + GOOD[5:]),
    "cut in a number": (OWN, GOOD[:6]),
    "cut in a text": (OWN, GOOD[:10]),
    "bytes behind a flat row": (OWN, GOOD + b"\0"),
    "no such branch": (OWN, GOOD[:7] + b"\6" + GOOD[8:]),
    "an envelope cut in its row": (OWN, CHANGED[:11]),
    "a truncate": (OWN, wire(2, ENVELOPE, {**GONE, "op": "t"})),
    "a delete without the row": (OWN, wire(2, ENVELOPE, {**GONE, "before": None})),
    "bytes behind a delete": (OWN, wire(2, ENVELOPE, GONE) + b"\0"),
    "a delete cut": (OWN, wire(2, ENVELOPE, GONE)[:-1]),
    "JSON": (OWN, b'{"id": 300}'),
}
BAD_KEYS = [OWN[:-1], OWN + b"\0", b"\0\0\0\0\x63\2", b"plain", None]


@pytest.mark.parametrize("name", UNFIT)
def test_what_is_not_plain_is_left_to_the_decoder(name: str) -> None:
    _, columns = reader(KEY, ROW, ENVELOPE)
    key, value = UNFIT[name]
    good = CHANGED if value is not None and value[:5] == CHANGED[:5] else GOOD
    columns.part("t", [OWN], [good])
    with pytest.raises(NotColumnar):
        columns.part("t", [key], [value])
    if value is not None:
        with pytest.raises(NotColumnar):
            columns.part("t", [OWN, key], [good, value])


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_cannot_be_read_is_no_hindrance_and_tells_no_tombstone(key: bytes | None) -> None:
    _, columns = reader(KEY, ROW)
    assert columns.part("t", [key, OWN], [GOOD, GOOD])[1] == 0
    with pytest.raises(NotColumnar):
        columns.part("t", [OWN, key], [GOOD, None])


def test_a_key_of_another_type_than_the_rows_tells_no_tombstone() -> None:
    _, columns = reader(CODE, ROW)
    key = wire(0, CODE, {"id": "300"})
    assert columns.part("t", [key], [GOOD])[1] == 0
    with pytest.raises(NotColumnar):
        columns.part("t", [key, key], [GOOD, None])


def test_a_row_with_fields_like_an_envelopes_has_no_columnar_path() -> None:
    schema = record(("id", "long"), ("op", "string"), ("after", "string"))
    _, columns = reader(KEY, schema)
    with pytest.raises(NotColumnar):
        columns.part("t", [OWN], [wire(1, schema, {"id": 1, "op": "c", "after": "x"})])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("int", FieldPath("f", "number")),
        (["null", "long"], FieldPath("f", "number")),
        ("string", FieldPath("f", "text")),
        ({"type": "string", "connect.name": "io.debezium.time.ZonedTimestamp"}, FieldPath("f", "text")),
        (["null", {"type": "string", "connect.name": "io.debezium.data.Json"}], FieldPath("f", "document")),
        ({"type": "int", "connect.name": "io.debezium.time.Date"}, FieldPath("f")),
        ({"type": "string", "logicalType": "uuid"}, FieldPath("f")),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, FieldPath("f", "decimal", 2)),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": -2}, FieldPath("f")),
        (["null", "int", "string"], FieldPath("f")),
        ("boolean", FieldPath("f")),
        ("bytes", FieldPath("f")),
    ],
)
def test_a_field_is_read_raw_only_where_its_type_leaves_no_question(kind: Any, expected: FieldPath) -> None:
    assert field_of({"name": "f", "type": kind}) == expected


@pytest.mark.parametrize("bad", ["f", "g"])
def test_a_text_of_a_negative_length_is_left_to_the_decoder_which_names_it(bad: str) -> None:
    schema = record(("id", "long"), ("f", "string"), ("g", "bytes"), ("h", "long"))
    decoder, columns = reader(KEY, schema)
    head = wire(1, record(("id", "long"), ("f", "string")), {"id": 1, "f": "x"})
    data = (head[:-2] if bad == "f" else head) + b"\x03" + b"abc" * 9
    with pytest.raises(NotColumnar):
        columns.part("t", [wire(0, KEY, {"id": 1})], [data])
    problem = decoder.event(Partition("t", 0), 0, 0, None, data).problem
    assert problem == f"the value of field {bad} has a negative length"


def test_the_other_key_of_a_changed_one_may_be_written_by_the_registry_too() -> None:
    decoder, _ = reader(KEY)
    key = wire(0, KEY, {"id": 1})
    for told, expected in ((wire(0, KEY, {"id": 9}), {"id": 9}), (b'{"id":9}', {"id": 9}), (key[:-1], {})):
        event = decoder.event(Partition("t", 0), 0, 0, key, None, (("__debezium.newkey", told),))
        assert (event.other_key, event.problem) == (expected, None)
