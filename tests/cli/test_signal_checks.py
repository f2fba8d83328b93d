"""`pycdc doctor` on where signals come from: the table, the topic, and who may write there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import yaml

from pycdc.connectors.postgres.signals.signal_table import create_table_sql
from tests.cli.conftest import Invoke
from tests.services.kafka import KafkaAddress

Write = Callable[[str], str]
pytestmark = pytest.mark.pg("newest")


def execute(dsn: str, query: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(query.encode())


def settings(dsn: str, **signals: str) -> str:
    document: dict[str, Any] = {
        "name": "shop",
        "source": {"postgres": {"dsn": dsn, "tables": ["users"]}},
        "sink": {"null": {"format": "json"}},
        "signals": signals,
    }
    return yaml.safe_dump(document)


def test_doctor_says_how_to_make_the_table_and_then_finds_it_good(
    database: str, invoke: Invoke, config_file: Write
) -> None:
    execute(database, "CREATE TABLE users (id int PRIMARY KEY)")
    path = config_file(settings(database, table="signals"))
    lacking = invoke("doctor", path)
    assert lacking.exit_code == 3
    assert "✗ signal table public.signals does not exist" in lacking.stdout
    statement = create_table_sql("public", "signals")
    assert f"fix: {statement};" in lacking.stdout
    execute(database, statement)
    execute(database, "CREATE PUBLICATION pycdc_shop FOR TABLE ONLY users")
    good = invoke("doctor", path)
    assert good.exit_code == 0, good.output
    assert "✓ signal table public.signals can take signals" in good.stdout
    assert "public.signals will be added to the publication" in good.stdout
    execute(database, "ALTER PUBLICATION pycdc_shop ADD TABLE ONLY signals")
    published = invoke("doctor", path)
    assert "published, but not captured" not in published.stdout
    assert "every role may insert" not in published.stdout


@pytest.mark.parametrize(
    "columns", ["id text, type text", "id text, type text, data int", "data jsonb, id text, type text"]
)
def test_doctor_refuses_a_table_with_other_columns(
    database: str, invoke: Invoke, config_file: Write, columns: str
) -> None:
    execute(database, f"CREATE TABLE users (id int PRIMARY KEY); CREATE TABLE signals ({columns})")
    result = invoke("doctor", config_file(settings(database, table="signals")))
    assert result.exit_code == 3
    assert "public.signals cannot take signals (its first three columns are not" in result.stdout


def test_doctor_warns_of_a_table_that_everybody_may_insert_into(
    database: str, invoke: Invoke, config_file: Write
) -> None:
    execute(database, "CREATE TABLE users (id int PRIMARY KEY)")
    execute(database, create_table_sql("public", "signals"))
    execute(database, "GRANT INSERT ON signals TO PUBLIC")
    result = invoke("doctor", config_file(settings(database, table="signals")))
    assert "⚠ every role may insert into public.signals" in result.stdout
    assert 'fix: REVOKE INSERT ON "public"."signals" FROM PUBLIC;' in result.stdout


def test_doctor_looks_for_the_topic(
    database: str, kafka: KafkaAddress, topic_prefix: str, invoke: Invoke, config_file: Write
) -> None:
    execute(database, "CREATE TABLE users (id int PRIMARY KEY)")
    path = config_file(settings(database, topic=f"{topic_prefix}-signal", brokers=kafka.bootstrap))
    missing = invoke("doctor", path)
    assert missing.exit_code == 0, missing.output
    assert f"⚠ signal topic {topic_prefix}-signal does not exist" in missing.stdout
    assert f"--create --topic {topic_prefix}-signal" in missing.stdout
    kafka.create_topic(f"{topic_prefix}-signal")
    assert f"✓ signal topic {topic_prefix}-signal exists" in invoke("doctor", path).stdout
    away = invoke("doctor", config_file(settings(database, topic="t", brokers="127.0.0.1:1")))
    assert "⚠ the signal topic was not looked at" in away.stdout
