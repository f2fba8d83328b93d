from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycdc.errors import ConfigError
from pycdc.serialization.names import field_name, record_name, routed, topic_name


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("shop.public.orders", "shop.public.orders"),
        ("shop.Odd Schema.Ta-ble.1", "shop.Odd_Schema.Ta-ble.1"),
        ("shop.public.übér", "shop.public._b_r"),
        ("shop.public.a😀b", "shop.public.a__b"),
        ("x" * 249, "x" * 249),
    ],
)
def test_a_topic_has_an_underscore_for_each_utf_16_unit_that_kafka_refuses(text: str, topic: str) -> None:
    assert topic_name(text) == topic


@pytest.mark.parametrize("text", ["x" * 250, "ü" * 250, "", ".", ".."])
def test_what_is_no_topic_name_is_a_config_error_with_a_way_out(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        topic_name(text)
    assert "rules[].topic" in error.value.hint


@pytest.mark.parametrize(
    ("text", "name"),
    [("we ird", "we_ird"), ("ünï", "_n_"), ("1st", "_1st"), ("a.b", "a_b"), ("select", "select"), ("😀", "__")],
)
def test_a_column_s_name_is_made_legal_for_avro(text: str, name: str) -> None:
    assert field_name(text, adjust=True) == name
    assert field_name(text, adjust=False) == text


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("shop.Odd Schema.Ta-ble.1.Value", "shop.Odd_Schema.Ta_ble.1.Value"),
        ("1shop.public.t.Key", "_1shop.public.t.Key"),
        ("shop.public.😀.Key", "shop.public.__.Key"),
    ],
)
def test_a_record_s_name_is_made_legal_as_debezium_does(text: str, name: str) -> None:
    assert record_name(text, adjust=True) == name
    assert record_name(text, adjust=False) == text


@given(st.text(min_size=1))
def test_adjusted_field_names_are_always_avro_s(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", field_name(text, adjust=True))


@pytest.mark.parametrize(
    ("pattern", "topic"),
    [
        ("{name}.{schema}.{table}", "shop.public.orders"),
        ("all-orders", "all-orders"),
        ("{table}", "orders"),
        ("{{{table}}}", "_orders_"),
    ],
)
def test_a_route_fills_in_its_placeholders(pattern: str, topic: str) -> None:
    assert routed(pattern, name="shop", schema="public", table="orders") == topic


@pytest.mark.parametrize(
    "pattern", ["{db}", "{0}", "{}", "{table", "table}", "{table.secret}", "{table[0]}x{table[k]}"]
)
def test_a_route_with_another_placeholder_is_a_config_error(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"public\.orders has a placeholder") as error:
        routed(pattern, name="shop", schema="public", table="orders")
    assert "{table}" in error.value.hint
