"""What the table rules make of a table: which fields, in what form, under which key."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from pydantic import SecretStr

from pycdc.config.values import CompatibilityConfig, HashRule, TableRule, ValuesConfig
from pycdc.errors import ConfigError
from pycdc.model.change import Column, PgType, Table
from pycdc.model.patterns import matches_any
from pycdc.rows.encoder import RowEncoder
from pycdc.rows.plan import TablePlan, plan_table

N = PgType(0, "numeric", (10 << 16 | 2) + 4)
TABLE = Table(
    1,
    "public",
    "users",
    (
        Column("id", PgType(0, "int4"), identity=True, nullable=False),
        Column("email", PgType(0, "varchar", 24), identity=True, nullable=False),
        Column("name", PgType(0, "text")),
        Column("phone", PgType(0, "bpchar", 14)),
        Column("amount", N, default="1.50"),
    ),
    ("email", "id"),
)
ROW = [b"7", b"ada@example.com", "Ada Löve".encode(), b"0123456789", b"2.00"]


def plan(*rules: TableRule, table: Table = TABLE, **switches: Any) -> TablePlan:
    return plan_table(table, rules, ValuesConfig(), CompatibilityConfig(**switches))


def names(made: TablePlan) -> list[str]:
    return [field.name for field in made.fields]


def row(made: TablePlan, *columns: bytes | None) -> dict[str, Any]:
    return RowEncoder(made, lambda table, column: None).datums(columns or ROW)


def key(made: TablePlan) -> dict[str, Any]:
    return RowEncoder(made, lambda table, column: None).key_datums(ROW)


def hashed(*columns: str, salt: str = "CzQMA0cB5K", algorithm: Any = "sha256") -> HashRule:
    return HashRule(columns=list(columns), salt=SecretStr(salt), algorithm=algorithm)


def test_without_rules_all_columns_are_fields_and_the_key_has_its_constraint_s_order() -> None:
    made = plan()
    assert names(made) == ["id", "email", "name", "phone", "amount"]
    assert key(made) == {"email": "ada@example.com", "id": 7}
    assert list(key(made)) == ["email", "id"]


def test_included_columns_keep_the_key_and_the_table_s_order() -> None:
    assert names(plan(TableRule(include_columns=["name"]))) == ["id", "email", "name"]


def test_excluded_columns_keep_the_key() -> None:
    assert names(plan(TableRule(exclude_columns=["id", "name", "phone"]))) == ["id", "email", "amount"]


def test_exclusions_add_up_over_rules_and_win_over_inclusions() -> None:
    made = plan(TableRule(exclude_columns=["name"]), TableRule(include_columns=["name", "phone"]))
    assert names(made) == ["id", "email", "phone"]
    assert names(plan(TableRule(exclude_columns=["name"]), TableRule(exclude_columns=["phone"]))) == [
        "id",
        "email",
        "amount",
    ]


def test_the_later_of_two_lists_of_included_columns_counts() -> None:
    assert names(plan(TableRule(include_columns=["name"]), TableRule(include_columns=["phone"]))) == [
        "id",
        "email",
        "phone",
    ]


@pytest.mark.parametrize("size", [0, 3])
def test_a_mask_is_so_many_asterisks_whatever_the_value(size: int) -> None:
    made = plan(TableRule(mask={"name": size}))
    assert row(made)["name"] == "*" * size
    assert row(made, *ROW[:2], None, None, None)["name"] is None


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512", "sha1", "md5"])
def test_a_hash_is_the_hex_of_salt_and_text(algorithm: str) -> None:
    made = plan(TableRule(hash=[hashed("name", algorithm=algorithm)]))
    expected = hashlib.new(algorithm, b"CzQMA0cB5K" + ROW[2]).hexdigest()
    assert row(made)["name"] == expected


def test_a_hash_of_a_known_value_is_the_known_hash() -> None:
    made = plan(TableRule(hash=[hashed("name")]))
    row_of = RowEncoder(made, lambda table, column: None).datums([b"1", b"e", b"hello", None, None])
    # printf CzQMA0cB5Khello | sha256sum
    assert row_of["name"] == "c4bf2f9ebc99b7f64add45103e81eb4ca483649064e3e1398b21f41786360c7b"


def test_a_hash_is_cut_to_the_length_of_its_column() -> None:
    made = plan(TableRule(hash=[hashed("email", "phone")]))
    digest = hashlib.sha256(b"CzQMA0cB5K" + ROW[1]).hexdigest()
    assert row(made)["email"] == digest[:20]
    assert len(row(made)["phone"]) == 10


def test_the_salt_makes_the_hash() -> None:
    assert row(plan(TableRule(hash=[hashed("name", salt="a")]))) != row(
        plan(TableRule(hash=[hashed("name", salt="b")]))
    )


def test_truncation_counts_characters() -> None:
    assert row(plan(TableRule(truncate={"name": 6})))["name"] == "Ada Lö"
    assert row(plan(TableRule(truncate={"name": 100})))["name"] == "Ada Löve"
    assert row(plan(TableRule(truncate={"name": 0})))["name"] == ""


def test_a_renamed_column_has_its_new_name_in_row_and_key() -> None:
    made = plan(TableRule(rename={"email": "mail", "name": "label"}))
    assert names(made) == ["id", "mail", "label", "phone", "amount"]
    assert list(key(made)) == ["mail", "id"]


def test_keys_are_masked_hashed_and_cut_as_their_columns() -> None:
    for rule in (TableRule(mask={"email": 3}), TableRule(hash=[hashed("email")]), TableRule(truncate={"email": 1})):
        made = plan(rule)
        assert key(made)["email"] == row(made)["email"] != "ada@example.com"


MASK, HASH, CUT = TableRule(mask={"name": 2}), TableRule(hash=[hashed("name")]), TableRule(truncate={"name": 1})
DIGEST = hashlib.sha256(b"CzQMA0cB5K" + ROW[2]).hexdigest()


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ((MASK, TableRule(mask={"name": 4})), "****"),
        ((MASK, HASH), DIGEST),
        ((MASK, CUT), "A"),
        ((HASH, MASK), "**"),
        ((HASH, CUT), "A"),
        ((CUT, MASK), "**"),
        ((CUT, HASH), DIGEST),
        ((CUT, HASH, TableRule(hash=[hashed("name", salt="")])), hashlib.sha256(ROW[2]).hexdigest()),
        ((MASK, TableRule(mask={"phone": 1})), "**"),
        ((HASH, TableRule(truncate={"phone": 1})), DIGEST),
        ((MASK, TableRule(tables="public.others", truncate={"name": 1})), "**"),
    ],
)
def test_of_two_treatments_of_a_column_the_later_wins(rules: tuple[TableRule, ...], text: str) -> None:
    assert row(plan(*rules))["name"] == text


def test_names_keys_and_topics_of_later_rules_win_one_by_one() -> None:
    made = plan(
        TableRule(rename={"name": "a", "phone": "p"}, key=["id"], topic="one"),
        TableRule(rename={"name": "b"}, topic="{table}"),
    )
    assert names(made) == ["id", "email", "b", "p", "amount"]
    assert list(key(made)) == ["id"]
    assert made.topic == "{table}"


def test_another_key_takes_the_place_of_the_primary_key_in_its_own_order() -> None:
    assert list(key(plan(TableRule(key=["phone", "id"])))) == ["phone", "id"]


def test_an_empty_list_of_key_columns_means_no_key() -> None:
    made = plan(TableRule(key=[]))
    assert made.key == ()
    assert not RowEncoder(made, lambda table, column: None).keyed
    assert names(plan(TableRule(key=[], include_columns=["name"]))) == ["name"]


def test_a_key_of_a_column_that_does_not_exist_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"key column 'nope' of table public\.users does not exist") as error:
        plan(TableRule(key=["id", "nope"]))
    assert "rules[].key" in error.value.hint


def test_a_key_whose_type_is_dropped_is_a_config_error() -> None:
    table = Table(1, "public", "t", (Column("k", PgType(0, "addr", kind="c")),), ("k",))
    with pytest.raises(ConfigError, match="has no representation"):
        plan_table(table, [], ValuesConfig(unknown_types="drop"), CompatibilityConfig())


HIDING = [
    {"mask": {"gone": 3}},
    {"hash": [{"columns": ["gone"], "salt": "s"}]},
    {"truncate": {"gone": 3}},
    {"exclude_columns": ["gone"]},
]


@pytest.mark.parametrize("hiding", HIDING)
def test_a_hidden_column_that_is_gone_fails_closed_where_the_rule_names_the_table(hiding: dict[str, Any]) -> None:
    for tables in ("public.users", "users"):
        with pytest.raises(ConfigError, match=r"'gone' of table public\.users") as error:
            plan(TableRule(tables=tables, **hiding))
        assert error.value.hint


@pytest.mark.parametrize("hiding", HIDING)
def test_a_pattern_over_many_tables_need_not_fit_each_of_them(hiding: dict[str, Any]) -> None:
    for tables in ("*", "public.*", "public.use*", "public.others"):
        assert names(plan(TableRule(tables=tables, **hiding))) == names(plan())


@pytest.mark.parametrize("rule", [{"mask": {"amount": 3}}, {"hash": [hashed("amount")]}, {"truncate": {"amount": 1}}])
def test_masking_what_is_no_text_is_a_config_error_with_a_way_out(rule: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"'amount' of table public\.users is of type numeric") as error:
        plan(TableRule(**rule))
    assert "exclude_columns" in error.value.hint


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", True),
        ("users", True),
        ("public.users", True),
        ("public.*", True),
        ("*.users", True),
        ("use*", True),
        ("p*s", False),
        ("*.u*r*", True),
        ("other.users", False),
        ("public.user", False),
        ("public.users2", False),
        ("public.user?", False),
        ("public.user[s]", False),
        ("publicxusers", False),
    ],
)
def test_patterns_know_the_asterisk_and_the_schema_public(pattern: str, found: bool) -> None:
    assert matches_any([pattern], TABLE.schema, TABLE.name) is found


def test_a_table_with_brackets_in_its_name_is_found_by_its_name() -> None:
    table = Table(1, "public", "a[1]", (Column("secret", PgType(0, "text")),))
    made = plan(TableRule(tables="public.a[1]", mask={"secret": 3}), table=table)
    assert row(made, b"x") == {"secret": "***"}


def test_a_null_in_a_column_with_a_default_is_null_or_debezium_s_default() -> None:
    columns = [*ROW[:4], None]
    assert row(plan(), *columns)["amount"] is None
    assert row(plan(null_with_default="default"), *columns)["amount"] == b"\x00\x96"
    [honest] = [field for field in plan().fields if field.name == "amount"]
    [lossy] = [field for field in plan(null_with_default="default").fields if field.name == "amount"]
    assert honest.schema == lossy.schema
    assert (honest.null, lossy.null) == (b"\x02", b"\x00\x04\x00\x96")


def test_a_not_null_column_that_the_old_row_does_not_tell_gets_its_default_or_zero() -> None:
    columns = (
        Column("a", PgType(0, "int4"), nullable=False),
        Column("b", PgType(0, "int4"), nullable=False, default="7"),
        Column("c", PgType(0, "text"), nullable=False),
    )
    made = plan(table=Table(1, "public", "t", columns))
    assert row(made, None, None, None) == {"a": 0, "b": 7, "c": ""}


@pytest.mark.parametrize(
    ("identity", "covered", "unknown"),
    [("d", False, True), ("d", True, False), ("f", False, False), ("i", False, True)],
)
def test_a_plan_knows_whether_old_rows_lack_values_that_their_schema_requires(
    identity: str, covered: bool, unknown: bool
) -> None:
    columns = (
        Column("id", PgType(0, "int4"), identity=True, nullable=False),
        Column("v", PgType(0, "int4"), identity=covered, nullable=False),
        Column("w", PgType(0, "int4")),
    )
    assert plan(table=Table(1, "public", "t", columns, ("id",), identity)).unknown_when_old is unknown


def test_a_secret_salt_shows_in_no_representation() -> None:
    made = plan(TableRule(hash=[hashed("name", salt="s3cr3t-salt")]))
    assert "s3cr3t-salt" not in repr(made)
