from __future__ import annotations

from pathlib import Path

import pytest

from tests.parking import functions
from tests.parking.parked import Rig
from tests.services.kafka import KafkaAddress

TABLES = "CREATE TABLE items (id int PRIMARY KEY, v numeric(8, 2), note text)"


@pytest.fixture
def rig(database: str, kafka: KafkaAddress, topic_prefix: str, tmp_path: Path) -> Rig:
    functions.corrected.clear()
    rig = Rig(database, kafka, topic_prefix, tmp_path)
    rig.execute(TABLES)
    return rig
