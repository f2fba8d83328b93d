"""Stages 1 and 2: what is agreed on before anything moves, and a service that stands by itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

HERE = Path(__file__).parent
_SUMMARY = re.compile(r"^\s*(\d+)\s+(\d+)%\s+\S+\s+\((.*)\)$", re.MULTILINE)
"""Lines, percentage and path of a module, as `python -m trace --summary` prints them."""


def event_schemas() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted((HERE / "events").glob("*.avsc"))}


def register(url: str, prefix: str) -> int:
    """Register the events' schemas with compatibility FULL_TRANSITIVE; return how many the registry tells back so."""
    registry, found = SchemaRegistryClient({"url": url}), 0
    for schema in event_schemas().values():
        subject = _subject(prefix, schema)
        registry.register_schema(subject, Schema(json.dumps(schema), "AVRO"))
        registry.set_compatibility(subject, "FULL_TRANSITIVE")
        kept = json.loads(registry.get_latest_version(subject).schema.schema_str or "")
        found += kept == schema and registry.get_compatibility(subject) == "FULL_TRANSITIVE"
    return found


def breaking_changes_refused(url: str, prefix: str) -> int:
    """Try a change of each event that readers would not survive; return how many the registry refused."""
    registry, refused = SchemaRegistryClient({"url": url}), 0
    for schema in event_schemas().values():
        first, *rest = schema["fields"]
        broken = {**schema, "fields": [{**first, "name": "sku"}, *rest]}
        try:
            registry.register_schema(_subject(prefix, schema), Schema(json.dumps(broken), "AVRO"))
        except SchemaRegistryError as error:
            refused += error.http_status_code == 409
    return refused


def missing_in_domain_model() -> list[str]:
    """Return the names of events, fields, tables and columns that the page does not explain."""
    page = (HERE / "DOMAIN.md").read_text()
    names = [name for schema in event_schemas().values() for name in (schema["name"], *_fields(schema))]
    scripts = [(HERE / folder / "schema.sql").read_text() for folder in ("inventory_service", "monolith")]
    tables = [name for script in scripts for name in re.findall(r"CREATE TABLE (\w+)", script)]
    return [name for name in [*names, *tables] if f"`{name}`" not in page]


def _subject(prefix: str, schema: dict[str, Any]) -> str:
    return f"{prefix}.{schema['namespace']}.{schema['name']}-value"


def _fields(schema: dict[str, Any]) -> list[str]:
    return [field["name"] for field in schema["fields"]]


def deployed(folder: Path) -> Path:
    """Copy the service's own folder, and nothing else; return where it can be started."""
    target = folder / "deployed"
    shutil.copytree(
        HERE / "inventory_service", target / "inventory_service", ignore=shutil.ignore_patterns("__pycache__")
    )
    return target


def tested(folder: Path, server: str) -> float:
    """Run the deployed service's own tests against a database of their own; return the coverage of its lines, 0 to 1.

    `server` is a connection string. Raises RuntimeError where a test fails.
    """
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE inventory_tests")
    dsn = psycopg.conninfo.make_conninfo(server, dbname="inventory_tests")
    command = [sys.executable, "-m", "trace", "--count", "--missing", "--summary", f"--coverdir={folder / 'coverage'}"]
    command += [f"--ignore-dir={os.pathsep.join({sys.prefix, sys.base_prefix})}"]
    command += ["--module", "unittest", "inventory_service.tests"]
    environment = {**os.environ, "INVENTORY_TEST_DSN": dsn}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode or "\nOK" not in done.stderr:
        raise RuntimeError(f"the service's tests: {done.stderr}{done.stdout}")
    return _coverage(done.stdout)


def _coverage(summary: str) -> float:
    found = [(int(lines), int(percent)) for lines, percent, path in _SUMMARY.findall(summary) if _is_service(path)]
    return sum(lines * percent for lines, percent in found) / sum(lines for lines, _ in found) / 100


def _is_service(path: str) -> bool:
    return "inventory_service" in path and not path.endswith(("tests.py", "__main__.py"))
