"""Which tables are refused, and what is said about it."""

from __future__ import annotations

from typing import Any

import pytest

from pycdc.errors import ConfigError
from pycdc.model.change import PgType, Table
from pycdc.table_validation import TableValidation
from tests.serialization.runs import ID, column, configured

AVRO = {"brokers": "b:9092", "registry": {"url": "http://r", "subjects": "record"}}


def table(name: str, schema: str = "public", oid: int | None = None) -> Table:
    return Table(oid or abs(hash((schema, name))), schema, name, (ID, column("mail"), column("x")), ("id",))


def refused(*tables: Table, **options: Any) -> str | None:
    """What the last of the tables meets; those before it are fine."""
    admit = TableValidation(configured(**{"sink": {"null": {}}, **options}))
    for one in tables[:-1]:
        admit(one)
    try:
        admit(tables[-1])
    except ConfigError as error:
        return error.fact + "; " + error.hint
    return None


@pytest.mark.parametrize(
    "names",
    [("a b", "a_b"), ("a-b ", "a-b_"), ("名前", "表格"), ("ä", "ö"), ("😀", "éé"), ('a"b', "a'b"), ("x\ty", "x\ny")],
)
def test_tables_whose_names_become_the_same_are_refused(names: tuple[str, str]) -> None:
    fact = refused(*map(table, names))
    assert fact is not None
    assert "tables public." in fact
    assert "rules[].topic" in fact


def test_a_schema_and_a_table_may_become_the_same_too() -> None:
    assert refused(table("c", "a.b"), table("b.c", "a")) is not None
    assert refused(table("t", "s 1"), table("t", "s_1")) is not None


@pytest.mark.parametrize("topic", ["all", "{name}.{table}", "x-{table}"])
def test_tables_that_a_rule_sends_to_one_topic_are_not(topic: str) -> None:
    assert refused(table("t", "one"), table("t", "two"), rules=[{"topic": topic}]) is None


def test_names_that_a_rule_s_topic_makes_the_same_are_refused() -> None:
    assert refused(table("a b"), table("a_b"), rules=[{"topic": "{name}.{table}"}]) is not None


def test_a_table_stays_the_owner_of_its_topic() -> None:
    one = table("a b", oid=7)
    assert refused(one, one) is None
    assert refused(one, table("a b", oid=8), table("a b", oid=9)) is None
    assert refused(one, table("a_b", oid=7)) is None


def test_tables_that_come_and_go_leave_no_owner_behind() -> None:
    admit = TableValidation(configured(sink={"kafka": AVRO}))
    for oid in range(1, 1000):
        admit(table(f"t{oid}", oid=oid))
        admit.forget({oid})
    assert admit.topics == 0
    admit(table("a b", oid=2000))
    admit.forget({1, 2})
    with pytest.raises(ConfigError):
        admit(table("a_b", oid=2001))
    admit.forget({2000})
    admit(table("a_b", oid=2001))


def test_subjects_by_record_may_be_the_same_although_topics_differ() -> None:
    assert refused(table("a-b"), table("a_b")) is None
    fact = refused(table("a-b"), table("a_b"), sink={"kafka": AVRO})
    assert fact is not None
    assert "record shop.public.a_b.Value" in fact


def test_rows_without_topics_have_no_owners() -> None:
    assert refused(table("a b"), table("a_b"), sink={"console": {}}) is None


KEYED = Table(
    9,
    "public",
    "k",
    (column("mail", PgType(0, "varchar", 12), nullable=False), column("name", nullable=False)),
    ("mail",),
)


@pytest.mark.parametrize(
    ("rule", "refuses"),
    [
        ({"mask": {"mail": 3}}, True),
        ({"truncate": {"mail": 3}}, True),
        ({"hash": [{"columns": ["mail"], "salt": "s"}]}, True),
        ({"mask": {"mail": 3}, "key": ["name"]}, False),
        ({"mask": {"name": 3}}, False),
        ({"hash": [{"columns": ["name"], "salt": "s"}], "key": ["name"]}, False),
    ],
)
def test_a_rule_that_makes_keys_the_same_is_refused(rule: dict[str, Any], *, refuses: bool) -> None:
    assert (refused(KEYED, rules=[rule]) is not None) is refuses
