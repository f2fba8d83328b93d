"""A server without a free replication origin: the pipeline goes on, and says what it cannot see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.errors import EnvironmentNotReady
from pycdc.observability.apply_metrics import apply_metrics
from pycdc.operations.doctor.finding import FindingStatus as Status
from pycdc.operations.doctor.routes import conflict_findings
from pycdc.sinks.postgres.preflight import inspect_target
from tests.sinks.postgres.rig import Rig

pytestmark = pytest.mark.pg("!=16")
ROUTE = {"topic": "items", "table": "items"}


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    rig = Rig(database)
    rig.sql("CREATE TABLE items (id int PRIMARY KEY, name text)")
    yield rig
    rig.close()


@pytest.fixture
def crowd(database: str) -> Iterator[None]:
    """As many origins of others as the server keeps track of."""
    with psycopg.connect(database, autocommit=True) as connection:
        number = 0
        try:
            while True:
                connection.execute("SELECT pg_replication_origin_create(%s::text)", (f"crowd{number}",))
                number += 1
                connection.execute("SELECT pg_replication_origin_advance(%s, '0/1')", (f"crowd{number - 1}",))
        except psycopg.errors.ConfigurationLimitExceeded:
            yield
        finally:
            for taken in range(number):
                connection.execute("SELECT pg_replication_origin_drop(%s)", (f"crowd{taken}",))


def gauge(process: Any) -> float:
    metrics = {family.name: family for family in apply_metrics(process.progress)}
    return metrics["pycdc_replication_origin"].samples[0].value


def findings(rig: Rig) -> list[Any]:
    facts = inspect_target(PostgresSinkConfig.model_validate({"dsn": rig.dsn, "routes": [ROUTE]}), "back")
    return [found for found in conflict_findings(facts.conflicts) if found.status is Status.WARNING]


def test_where_all_replication_origins_are_in_use_metric_log_and_doctor_say_so(
    rig: Rig, crowd: None, caplog: pytest.LogCaptureFixture
) -> None:
    (finding,) = findings(rig)
    assert "the pipeline's sessions may get none" in finding.title
    process = rig.process(ROUTE)
    process.apply({"id": 1, "name": "cup"})
    assert rig.sql("SELECT name FROM items") == [("cup",)]
    assert gauge(process) == 0
    assert "gets no replication origin" in caplog.text
    with pytest.raises(EnvironmentNotReady, match=r"who wrote a row of table .* last is not known"):
        rig.process({**ROUTE, "conflict": "last_write_wins"})


def test_where_there_is_one_the_metric_says_so_and_doctor_nothing(rig: Rig) -> None:
    assert findings(rig) == []
    process = rig.process(ROUTE)
    process.apply({"id": 1, "name": "cup"})
    assert gauge(process) == 1
    assert findings(rig) == []
