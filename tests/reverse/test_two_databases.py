"""One name, two databases: they would share the partitions, and each lack what the other got."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pycdc.config.pipeline import ApplyPipeline
from pycdc.errors import EnvironmentNotReady
from pycdc.operations.apply_status import inspect
from pycdc.operations.doctor.finding import FindingStatus as Status
from pycdc.operations.doctor.partitions import place_findings
from tests.reverse.conftest import TABLES, Rig
from tests.running import Running
from tests.services.kafka_mock import MockKafka
from tests.services.postgres import PostgresServer

pytestmark = pytest.mark.pg("newest")


@pytest.fixture
def rig(database: str, topic_prefix: str, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(database, MockKafka(), topic_prefix, tmp_path)
    rig.kafka.create_topic(rig.topic)
    yield rig
    rig.close()


def another(postgres: PostgresServer) -> str:
    dsn = postgres.create_database()
    with psycopg.connect(dsn) as connection:
        connection.execute(TABLES)
    return dsn


def test_a_group_that_works_for_another_database_is_refused_and_goes_on_where_it_belongs(
    rig: Rig, postgres: PostgresServer
) -> None:
    document = rig.document()
    with Running(document) as running:
        rig.produce((n, {"id": n}) for n in range(8))
        running.until(lambda: rig.sql("SELECT count(*) FROM items") == [(8,)])
        other = another(postgres)
        elsewhere = rig.document(sink={"dsn": other})
        with Running(elsewhere) as second:
            error = second.failure()
        assert isinstance(error, EnvironmentNotReady)
        assert f"consumer group {rig.name} works for another database" in error.fact
        assert "source.kafka.group" in error.hint
        rig.produce((n, {"id": n}) for n in range(8, 20))
        running.until(lambda: rig.sql("SELECT count(*) FROM items") == [(20,)])
    rig.connect(other)
    elsewhere["source"]["kafka"]["group"] = f"{rig.name}-2"
    with Running(elsewhere) as second:
        second.until(lambda: rig.sql("SELECT count(*) FROM items") == [(20,)])


def test_doctor_and_status_say_that_the_group_works_for_another_database(rig: Rig, postgres: PostgresServer) -> None:
    rig.produce([(1, {"id": 1})])
    with Running(rig.document()) as running:
        running.until(lambda: rig.offsets() == 1)
    assert inspect(ApplyPipeline.model_validate(rig.document())).foreign is None
    found = inspect(ApplyPipeline.model_validate(rig.document(sink={"dsn": another(postgres)})))
    (problem,) = [one for one in found.problems() if isinstance(one, EnvironmentNotReady)]
    assert "works for another database" in problem.fact
    (finding,) = [one for one in place_findings(found) if one.status is Status.FAILED]
    assert (finding.path, finding.fix) == ("source.kafka.group", problem.hint)
