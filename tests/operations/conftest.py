from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.operations.cutover.world import World
from tests.services.kafka import KafkaAddress
from tests.services.postgres import PostgresServer

Worlds = Callable[..., World]


@pytest.fixture
def world(
    postgres: PostgresServer, database: str, kafka: KafkaAddress, topic_prefix: str, tmp_path: Path
) -> Iterator[Worlds]:
    with ExitStack() as stack:

        def make(**options: Any) -> World:
            new = postgres.create_database()
            stack.callback(postgres.drop_database, new)
            made = World(tmp_path, database, new, kafka.bootstrap, topic_prefix.replace("-", "_"), **options)
            stack.callback(made.close)
            made.start()
            return made

        yield make
