"""What a sink leaves behind."""

from __future__ import annotations

import gc
import os

import pytest

from pycdc.config.kafka import KafkaSinkConfig, TopicsConfig
from pycdc.interfaces import Checkpoint
from pycdc.model.change import Batch, Lsn, Position
from pycdc.offsets.memory import MemoryOffsetStore
from pycdc.sinks.kafka.producer import KafkaSink
from tests.services.kafka import KafkaAddress
from tests.sinks.kafka.records import GivenRecords, numbered


def descriptors_and_threads() -> tuple[int, int]:
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts by Linux' /proc")
def test_a_sink_that_was_closed_keeps_no_descriptors_and_no_threads(kafka: KafkaAddress, topic_prefix: str) -> None:
    """Whenever the collector runs: a rewind makes a sink anew."""
    settings = KafkaSinkConfig(brokers=kafka.bootstrap, format="json", topics=TopicsConfig(replication=1))
    gc.collect()
    gc.disable()
    try:
        counts = []
        for _ in range(6):
            sink = KafkaSink(GivenRecords([(topic_prefix, numbered(0, 3))]), settings, MemoryOffsetStore())
            sink.write(Batch())
            sink.commit(Checkpoint(Position(Lsn(1)), source={"slot": "s"}))
            sink.close()
            counts.append(descriptors_and_threads())
    finally:
        gc.enable()
    assert counts[-1] <= counts[1], counts
