"""Types that schemas tell: of which columns, and where Debezium's lines differ from what is declared."""

from __future__ import annotations

from typing import Any

import pytest

from pycdc.config.values import DEBEZIUM, DEBEZIUM_3_6, CompatibilityConfig, TableRule, ValuesConfig
from pycdc.model.change import Column, PgType, Table
from pycdc.rows.plan import plan_table
from pycdc.rows.source_types import source_type

HONEST = CompatibilityConfig()
SERIAL = Column("id", PgType(0, "int4"), identity=True, nullable=False, default="nextval('s'::regclass)")
PRICE = Column("price", PgType(0, "numeric", (10 << 16 | 2) + 4, domain=True, declared="amount", schema="money"))
FREE = Column("free", PgType(0, "numeric"))
EMBEDDING = Column("embedding", PgType(0, "vector", 3))
TABLE = Table(1, "public", "users", (SERIAL, PRICE, FREE, EMBEDDING), ("id",))


def told(column: Column, compat: CompatibilityConfig = HONEST, *, snapshot: bool = False) -> dict[str, str]:
    parameters = source_type(column, column.name, compat, snapshot=snapshot)
    return {name.rpartition(".")[2]: value for name, value in parameters}


@pytest.mark.parametrize("snapshot", [False, True])
def test_what_is_told_is_what_was_declared_in_snapshot_and_stream(snapshot: bool) -> None:
    assert told(SERIAL, snapshot=snapshot) == {"type": "SERIAL", "length": "10", "scale": "0", "name": "id"}
    assert told(PRICE, snapshot=snapshot) == {"type": "AMOUNT", "length": "10", "scale": "2", "name": "price"}
    assert told(FREE, snapshot=snapshot) == {"type": "NUMERIC", "name": "free"}
    assert told(EMBEDDING, snapshot=snapshot) == {"type": "VECTOR", "length": "3", "scale": "0", "name": "embedding"}


def test_debeziums_lines_tell_other_things() -> None:
    assert told(FREE, DEBEZIUM) == {"type": "NUMERIC", "length": "131089", "scale": "0", "name": "free"}
    assert told(FREE, DEBEZIUM, snapshot=True) == {"type": "NUMERIC", "length": "0", "name": "free"}
    assert told(SERIAL, DEBEZIUM_3_6)["type"] == "INT4"
    assert told(SERIAL, DEBEZIUM_3_6, snapshot=True)["type"] == "SERIAL"
    assert told(PRICE, DEBEZIUM_3_6, snapshot=True)["type"] == '"MONEY"."AMOUNT"'
    assert told(EMBEDDING, DEBEZIUM_3_6)["length"] == "2147483647"


@pytest.mark.parametrize(
    ("rules", "columns"),
    [
        ([], set()),
        ([{"tell_types": ["p*"]}], {"price"}),
        ([{"tell_types": ["free"]}, {"tables": "public.u*", "tell_types": ["price"]}], {"free", "price"}),
        ([{"tell_types_of": ["NUMERIC", "VEC*"]}], {"free", "embedding"}),
        ([{"tables": "public.others", "tell_types": ["*"]}], set()),
        ([{"tell_types": ["*"], "rename": {"price": "cost"}}], {"id", "cost", "free", "embedding"}),
    ],
)
def test_only_columns_that_are_named_tell_their_types(rules: list[dict[str, Any]], columns: set[str]) -> None:
    plan = plan_table(TABLE, [TableRule(**rule) for rule in rules], ValuesConfig(), HONEST)
    telling = {
        field.name for field in plan.fields if any("source.column" in name for name, _ in field.schema.parameters)
    }
    assert telling == columns
    assert plan.key[0].schema.parameters == ()
