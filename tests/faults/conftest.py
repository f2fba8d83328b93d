from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.chain import Chain
from tests.faults.harness import Rig
from tests.fix_kafka import BROKERS
from tests.services.kafka import KafkaAddress
from tests.services.postgres import PostgresServer
from tests.services.registry import RegistryAddress

collect_ignore = [] if os.environ.get(BROKERS) == "3" else ["test_broker_kills.py"]

TABLES = """
CREATE TABLE items (id int PRIMARY KEY, v int NOT NULL);
CREATE TABLE finish (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
INSERT INTO items SELECT i, 0 FROM generate_series(1, 900) AS i;
"""


@pytest.fixture
def rig(database: str, kafka: Any, registry: Any, topic_prefix: str, tmp_path: Path) -> Iterator[Rig]:
    """A database with two tables, a real Kafka, a real registry. Use `@pytest.mark.pg` to choose the servers."""
    rig = Rig(database, kafka.bootstrap, registry.url, topic_prefix, tmp_path)
    rig.execute(TABLES)
    yield rig
    rig.close()


@pytest.fixture
def chain(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    postgres: PostgresServer,
    kafka: KafkaAddress,
    registry: RegistryAddress,
    topic_prefix: str,
) -> Iterator[Chain]:
    made = Chain(request.param, tmp_path, postgres, kafka, registry.url, topic_prefix)
    yield made
    made.close()
    postgres.heal()
    for dsn in made.dsns:
        postgres.drop_database(dsn)
