from __future__ import annotations

from typing import Any

from pycdc.clients.schema_diff import differences


def record(*fields: tuple[str, Any] | tuple[str, Any, Any]) -> dict[str, Any]:
    return {
        "type": "record",
        "name": "Value",
        "fields": [dict(zip(("name", "type", "default"), field, strict=False)) for field in fields],
    }


def test_schemas_that_are_the_same_do_not_differ() -> None:
    assert differences(record(("a", "int")), record(("a", "int"))) == []


def test_fields_removed_added_and_changed_are_listed() -> None:
    old = record(("id", "int"), ("qty", "int"), ("note", "string"), ("gone", ["null", "string"], None))
    new = record(
        ("id", "int"), ("qty", "string"), ("note", ["null", "string"], None), ("born", "long"), ("soft", "int", 0)
    )
    assert differences(old, new) == [
        "- gone: optional string",
        "~ qty: int became string",
        "~ note: string became optional string",
        "+ born: long, without a default",
        "+ soft: int, with a default",
    ]


def test_a_lost_default_is_a_difference() -> None:
    assert differences(record(("a", "int", 0)), record(("a", "int"))) == ["~ a: int lost its default"]


def test_fields_of_nested_records_have_paths() -> None:
    def envelope(value: dict[str, Any]) -> dict[str, Any]:
        fields = [{"name": "before", "type": ["null", value]}, {"name": "after", "type": ["null", "Value"]}]
        return {"type": "record", "name": "Envelope", "fields": fields}

    assert differences(envelope(record(("id", "int"))), envelope(record(("id", "long")))) == [
        "~ before.id: int became long"
    ]


def test_what_a_type_means_is_part_of_it() -> None:
    def decimal(scale: int) -> dict[str, Any]:
        return {"type": "bytes", "scale": scale, "precision": 10, "logicalType": "decimal"}

    def days(name: str) -> dict[str, Any]:
        return {"type": "int", "connect.name": name}

    assert differences(record(("a", decimal(2))), record(("a", decimal(3)))) == [
        "~ a: decimal(10,2) became decimal(10,3)"
    ]
    assert differences(record(("a", days("Date"))), record(("a", days("Year")))) == [
        "~ a: int (Date) became int (Year)"
    ]


def test_arrays_and_maps_name_their_items() -> None:
    def array(items: Any) -> dict[str, Any]:
        return {"type": "array", "items": items}

    old = record(("a", array("int")), ("m", {"type": "map", "values": "int"}))
    new = record(("a", array(["null", "int"])), ("m", {"type": "map", "values": "long"}))
    assert differences(old, new) == [
        "~ a: array of int became array of optional int",
        "~ m: map of int became map of long",
    ]
