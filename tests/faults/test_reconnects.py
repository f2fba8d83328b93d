"""A pipeline whose session is ended again and again keeps nothing of the sessions that it had.

`make chaos-reconnects` ends it 1,000 times.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from pycdc.observability.progress import Progress
from tests.running import Running
from tests.services.kafka import KafkaAddress
from tests.services.registry import RegistryAddress

pytestmark = [pytest.mark.server, pytest.mark.postgres, pytest.mark.kafka, pytest.mark.pg("newest")]

RECONNECTS = int(os.environ.get("PYCDC_RECONNECTS", 30))
WARM = 10
"""Reconnects until allocator, caches and pools have what they keep."""
MEGABYTES = 8 + RECONNECTS * 0.06
"""No object is kept. But each of librdkafka's clients has threads, and glibc keeps some of what they freed in arenas of
theirs: 45 kB a reconnect were measured, 6 kB with MALLOC_ARENA_MAX=1."""
END = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database() AND active"


class Held(NamedTuple):
    descriptors: int
    threads: int
    megabytes: int


def more_than(reconnects: int, progress: Progress) -> bool:
    return progress.reconnects > reconnects


def held() -> Held:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    size = pages * os.sysconf("SC_PAGE_SIZE") >> 20
    return Held(len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), size)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts by Linux' /proc")
@pytest.mark.parametrize("offsets", ["kafka", "postgres"])
def test_descriptors_threads_and_memory_stay_flat_over_reconnects(
    database: str, kafka: KafkaAddress, registry: RegistryAddress, topic_prefix: str, offsets: str
) -> None:
    document: dict[str, Any] = {
        "name": topic_prefix,
        "source": {"postgres": {"dsn": database}},
        "sink": {"kafka": {"brokers": kafka.bootstrap, "registry": registry.url}},
        "offsets": {"postgres": {"dsn": database, "table": "kept"}} if offsets == "postgres" else {"kafka": {}},
        "checkpoint": {"interval": 0.05},
        "retries": {"first_delay": 0.01, "max_delay": 0.01},
        "http": {"enabled": False},
    }
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE a (id int PRIMARY KEY, v text)")
        with Running(document) as running:
            progress = running.pipeline.progress
            found: list[Held] = []
            for number in range(RECONNECTS):
                running.until(lambda: progress.state == "streaming" and connection.execute(END).fetchall())
                running.until(partial(more_than, number, progress))
                connection.execute("INSERT INTO a VALUES (%s, 'v')", [number])
                running.until(lambda: progress.state == "streaming")
                found.append(held())
            running.until(lambda: progress.events >= RECONNECTS)
    begin, end = found[WARM], found[-1]
    told = f"{begin} after {WARM}, {end} after {RECONNECTS}, at most {[max(one) for one in zip(*found, strict=True)]}"
    print(told)
    # A session that is about to end has its own for a moment longer.
    assert end.descriptors <= begin.descriptors + 4, told
    assert end.threads <= begin.threads + 4, told
    assert end.megabytes <= begin.megabytes + MEGABYTES, told
