"""`transforms` and `routes[].function` in a configuration."""

from __future__ import annotations

from typing import Any

import pytest

from pycdc.cli.schema import json_schema
from pycdc.config import validate, validate_capture
from pycdc.config.pipeline import CapturePipeline
from pycdc.errors import ConfigError
from pycdc.observability.progress import Progress
from pycdc.transforms.capture import CaptureTransforms

CAPTURE: dict[str, Any] = {"name": "shop", "source": {"postgres": {"dsn": "x"}}, "sink": {"console": {}}}
ROUTE: dict[str, Any] = {"topic": "items", "table": "items"}
REVERSE: dict[str, Any] = {
    "name": "back",
    "source": {"kafka": {"brokers": "x", "topics": ["items"], "format": "json"}},
    "sink": {"postgres": {"dsn": "x", "routes": [ROUTE]}},
}


def test_a_path_alone_is_a_transform_of_all_tables() -> None:
    [transform] = validate_capture({**CAPTURE, "transforms": ["shop:mask"]}).transforms
    assert (transform.function, transform.tables, transform.on_error) == ("shop:mask", ["*"], "stop")


def test_the_schema_for_editors_takes_a_path_alone() -> None:
    for root, entry in (("CapturePipeline", "TableTransformConfig"), ("ApplyPipeline", "TopicTransformConfig")):
        items = json_schema()["$defs"][root]["properties"]["transforms"]["items"]
        assert items == {"anyOf": [{"$ref": f"#/$defs/{entry}"}, {"type": "string"}]}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({**CAPTURE, "transforms": ["shop.mask"]}, "no path to a function"),
        ({**CAPTURE, "transforms": [{"function": "s:f", "columns": {"a": "text"}, "drop": ["a"]}]}, "adds and drops"),
        ({**CAPTURE, "transforms": [{"function": "s:f", "topics": ["a"]}]}, "topics has no meaning"),
        ({**REVERSE, "transforms": [{"function": "s:f", "tables": ["a"]}]}, "tables has no meaning"),
        (
            {**REVERSE, "transforms": [{"function": "s:f", "on_error": "stop"}]},
            "on_error has no meaning",
        ),
        ({**CAPTURE, "transforms": [{"function": "s:f", "on_error": "dead_letter"}]}, "no Kafka to send dead letters"),
    ],
)
def test_what_has_no_meaning_is_refused(document: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        validate(document)


@pytest.mark.parametrize(
    "extra", [{"set": {"a": "b"}}, {"operation": "delete"}, {"operation": "delta", "delta": {"a": "b"}}]
)
def test_a_routes_function_stands_in_the_place_of_set(extra: dict[str, Any]) -> None:
    route = {**ROUTE, "function": "shop:row", **extra}
    with pytest.raises(ConfigError, match="a function for its row"):
        validate({**REVERSE, "sink": {"postgres": {"dsn": "x", "routes": [route]}}})


def test_the_functions_of_a_configuration_are_known_by_their_options() -> None:
    route = {**ROUTE, "function": "shop:row"}
    sink = {"postgres": {"dsn": "x", "routes": [ROUTE, route]}}
    found = validate({**REVERSE, "sink": sink, "transforms": ["shop:all"]}).functions
    assert found == {"transforms[0].function": "shop:all", "sink.postgres.routes[1].function": "shop:row"}


def test_a_type_that_is_not_known_is_refused_before_anything_starts() -> None:
    entry = {"function": "tests.transforms.shop_functions:same", "columns": {"line": "intger"}}
    config: CapturePipeline = validate_capture({**CAPTURE, "transforms": [entry]})
    with pytest.raises(ConfigError, match=r"transforms\[0\].columns: the type of column 'line' is not known"):
        CaptureTransforms(config, Progress())
