"""What is loaded by importing a part of pycdc, seen in a fresh interpreter. Times and megabytes follow from it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import pycdc

DRIVERS = {"psycopg", "confluent_kafka", "fastavro"}
HEAVY = DRIVERS | {
    "asyncio",
    "authlib",
    "click",
    "cryptography",
    "email",
    "httpx",
    "joserfc",
    "opentelemetry",
    "prometheus_client",
    "pydantic",
    "rich",
    "structlog",
    "tenacity",
    "yaml",
}
"""Each takes milliseconds by the dozen, or megabytes."""
UNUSED = {"authlib", "cryptography", "httpx", "joserfc", "confluent_kafka.schema_registry"}
"""What Confluent's client for schema registries brings, which is why it is not used."""


def loaded(code: str) -> set[str]:
    """The modules that are there after running `code`, packages by their own names too."""
    told = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(json.loads(told.stdout.splitlines()[-1]))


def test_the_front_door_loads_nothing_heavy() -> None:
    assert not HEAVY & loaded("import pycdc; pycdc.Lsn, pycdc.PycdcError, pycdc.__version__")


def test_what_is_asked_for_is_loaded_then() -> None:
    assert "pydantic" in loaded("import pycdc; pycdc.PipelineConfig")
    assert "psycopg" in loaded("from pycdc import Pipeline")


@pytest.mark.parametrize("name", pycdc.__all__)
def test_every_name_of_the_front_door_is_there(name: str) -> None:
    assert getattr(pycdc, name) is not None
    assert name in dir(pycdc)


def test_the_engine_loads_nothing_that_it_does_not_use() -> None:
    assert not UNUSED & loaded("import pycdc.build.capture, pycdc.build.apply")


def test_a_capture_does_not_start_with_what_only_others_need() -> None:
    terminal, way_back = {"rich"}, {"pycdc.connectors.kafka.connector", "pycdc.sinks.postgres.sink", "fastavro"}
    found = loaded("import pycdc.cli.run, pycdc.build.capture")
    assert not (terminal | way_back | {"structlog", "prometheus_client"}) & found
    assert {"psycopg", "confluent_kafka"} <= found


def test_a_direction_does_not_wait_for_the_other() -> None:
    command = loaded("import pycdc.cli.run")
    assert not {"pycdc.build.capture", "pycdc.build.apply", "pycdc.config.migration"} & command
    capture = {"pycdc.connectors.postgres.connector", "pycdc.serialization.serializer", "pycdc.sinks.kafka.producer"}
    assert not capture & loaded("import pycdc.cli.run, pycdc.build.apply")


def test_a_verification_does_not_start_with_what_only_some_need() -> None:
    """It shall take 60 MB at most, and the drivers and pydantic are 40 of them."""
    engine = {"pycdc.connectors.postgres.connector", "pycdc.serialization.serializer", "pycdc.sinks.postgres.sink"}
    some = {
        "sqlite3",
        "http.server",
        "xml.etree.ElementTree",
        "tenacity",
        "urllib3",
        "fastavro",
        "pycdc.config.migration",
    }
    assert not (engine | some) & loaded("import pycdc.cli.verify")


def test_the_command_loads_no_driver_to_tell_its_version() -> None:
    assert not DRIVERS & loaded("from pycdc.cli.app import main")
