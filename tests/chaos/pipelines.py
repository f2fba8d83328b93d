"""Instances of one pipeline, each on a thread, that write into one topic: a list of what was delivered, in order."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pycdc.config import validate_capture
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.connector import PostgresConnector
from pycdc.connectors.postgres.snapshot.parallel import Workers
from pycdc.interfaces import Checkpoint
from pycdc.model.change import Batch
from pycdc.observability.progress import Progress
from pycdc.offsets.memory import MemoryOffsetStore
from pycdc.pipeline import Loop
from pycdc.process_pool import ProcessPool
from pycdc.serialization.json_format import JsonFormat
from pycdc.serialization.serializer import Serializer
from pycdc.snapshot_worker import TablePlanner, read
from tests.reading import wait_for

STOP_SECONDS = 10.0
"""Five, on a machine that has time."""


@dataclass(frozen=True, slots=True)
class Event:
    """A record as a consumer reads it. `v` is None for a delete."""

    topic: str
    op: str
    id: int
    v: int | None


@dataclass
class Topic:
    """What was delivered, by whatever instance."""

    events: list[Event] = field(default_factory=list)

    def append(self, topic: str, value: bytes | None) -> None:
        if value is None:
            return
        document = json.loads(value)
        if document.get("op") not in ("r", "c", "u", "d"):
            return
        row = document["after"] if document["op"] != "d" else document["before"]
        v = row["v"] if document["op"] != "d" else None
        self.events.append(Event(topic.partition(".")[2], document["op"], row["id"], v))


class Sink:
    """Takes `delay` seconds for each batch, so that a snapshot lasts."""

    def __init__(self, config: CapturePipeline, offsets: MemoryOffsetStore, topic: Topic, delay: float) -> None:
        self._offsets = offsets
        self._topic = topic
        self._delay = delay
        self._serializer = Serializer(config, "db", JsonFormat(schemas=False), lambda table, column: None)

    def write(self, batch: Batch) -> None:
        for topic, records in self._serializer.serialize(batch):
            for record in records:
                self._topic.append(topic, record["value"])
        time.sleep(self._delay)

    def commit(self, checkpoint: Checkpoint) -> None:
        self._offsets.store(checkpoint)


def config_for(dsn: str, **source: Any) -> CapturePipeline:
    options = {
        "dsn": dsn,
        "publication_check": 0.3,
        "slot_timeout": 30,
        **source,
    }
    return validate_capture(
        {
            "name": "chaos",
            "source": {"postgres": options},
            "sink": {"null": {"format": "json"}},
            "retries": {"first_delay": 0.1, "max_delay": 0.5},
            "checkpoint": {"interval": 0.1},
        }
    )


class Instance:
    """Runs until it is stopped. `error` is what ended it."""

    def __init__(
        self,
        config: CapturePipeline,
        offsets: MemoryOffsetStore,
        topic: Topic,
        delay: float = 0.0,
        *,
        processes: bool = False,
    ) -> None:
        self.progress = Progress()
        self.error: BaseException | None = None
        count = config.source.postgres.workers
        executor: Callable[[], Executor] = partial(ProcessPool if processes else ThreadPoolExecutor, count)
        planner = TablePlanner(config, lambda topic, part, schema: 1, keeps=processes)
        workers = Workers(count, executor, planner, read) if count > 1 else None
        self._loop = Loop(
            partial(PostgresConnector, config, self.progress, workers),
            partial(Sink, config, offsets, topic, delay),
            offsets,
            config.checkpoint,
            config.retries,
            self.progress,
        )
        self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._loop.run()
        except BaseException as error:
            self.error = error

    def until(self, condition: Callable[[], Any], timeout: float = 180.0) -> None:
        """Wait until `condition` holds, or the instance ended."""
        wait_for(lambda: self.error is not None or condition(), timeout)

    def stop(self) -> bool:
        """Whether it ended in time."""
        self._loop.stop()
        self._thread.join(STOP_SECONDS)
        return not self._thread.is_alive()
