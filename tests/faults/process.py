"""A pipeline in a process of its own to which something happens at a chosen point.

    python -m tests.faults.process CONFIG.json [POINT COUNT [kill | exception | hang]]

At the COUNT-th passage of POINT the process sends itself SIGKILL: no handler runs, nothing is flushed. Or an exception
is raised there that nobody expects, or the call comes back only after HANG_SECONDS.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pycdc
from pycdc.clients.schema_registry import SchemaRegistry
from pycdc.connectors.kafka.connector import KafkaConnector
from pycdc.connectors.kafka.signal_topic import SignalTopic
from pycdc.connectors.postgres.catalog.slots_and_publications import Admin
from pycdc.connectors.postgres.connector import PostgresConnector
from pycdc.connectors.postgres.replication.stream import ReplicationStream
from pycdc.connectors.postgres.signals import messages as signals
from pycdc.connectors.postgres.snapshot.backlog import Backlog
from pycdc.connectors.postgres.snapshot.chunk_opener import ChunkOpener
from pycdc.connectors.postgres.snapshot.chunk_reader import ChunkReader
from pycdc.offsets.kafka import KafkaOffsetStore
from pycdc.parking.sink import ParkingSink
from pycdc.serialization.serializer import Serializer
from pycdc.sinks.kafka.producer import KafkaPublisher, KafkaSink
from pycdc.sinks.kafka.transactional import TransactionalKafkaSink
from pycdc.sinks.postgres.columnar_apply import ColumnarWriter
from pycdc.sinks.postgres.sagas import saga_timeouts
from pycdc.sinks.postgres.sagas.saga_timeouts import SagaTimeouts
from pycdc.sinks.postgres.sagas.saga_tracker import SagaTracker
from pycdc.sinks.postgres.sink import PostgresSink

BEFORE, AFTER = "before", "after"
READY = "a signal ends this process in order from here on"
REACHED = "the point is reached"
HANG_SECONDS = 3.0
POINTS: dict[str, tuple[Any, str, str]] = {
    "before the slot is made": (Admin, "create_slot_with_snapshot", BEFORE),
    "after the slot is made": (Admin, "create_slot_with_snapshot", AFTER),
    "while a snapshot is written": (KafkaPublisher, "write", AFTER),
    "before the stream starts": (ReplicationStream, "open", BEFORE),
    "after frames were read": (ReplicationStream, "read", AFTER),
    "before a batch is serialised": (Serializer, "serialize", BEFORE),
    "after a batch was serialised": (Serializer, "serialize", AFTER),
    "after a batch was written": (KafkaPublisher, "write", AFTER),
    "before a checkpoint": (KafkaSink, "commit", BEFORE),
    "after the flush, before the position": (KafkaOffsetStore, "store", BEFORE),
    "after the position, before the acknowledgement": (KafkaOffsetStore, "store", AFTER),
    "after the acknowledgement": (PostgresConnector, "acknowledge", AFTER),
}

TRANSACTION_POINTS: dict[str, tuple[Any, str, str]] = {
    "before older instances are fenced": (TransactionalKafkaSink, "fence", BEFORE),
    "after they were fenced": (TransactionalKafkaSink, "fence", AFTER),
    "before a Kafka transaction begins": (TransactionalKafkaSink, "_begin", BEFORE),
    "before its position is written": (KafkaOffsetStore, "record", BEFORE),
    "after the position, before the end": (TransactionalKafkaSink, "_end", BEFORE),
    "after the end, before the acknowledgement": (TransactionalKafkaSink, "_end", AFTER),
}
"""What only exactly-once delivery passes; it passes no position that is stored for itself."""

SNAPSHOT_POINTS: dict[str, tuple[Any, str, str]] = {
    "while pinned rows are written": (KafkaPublisher, "write", AFTER),
    "before a chunk is marked": (ChunkReader, "mark", BEFORE),
    "after a chunk is marked": (ChunkReader, "mark", AFTER),
    "after a chunk was read": (ChunkOpener, "_read_chunk", AFTER),
    "before the backlog moves": (Backlog, "advance", BEFORE),
    "after the backlog moved": (Backlog, "advance", AFTER),
    "before progress is stored": (KafkaOffsetStore, "store", BEFORE),
    "after progress was stored": (KafkaOffsetStore, "store", AFTER),
}

SIGNAL_POINTS: dict[str, tuple[Any, str, str]] = {
    "before a signal is passed on": (signals, "pass_on", BEFORE),
    "after a signal was passed on": (SignalTopic, "_hear", AFTER),
    "after its offset was committed": (SignalTopic, "_commit", AFTER),
}

REVERSE_POINTS: dict[str, tuple[Any, str, str]] = {
    "before the rows are written": (PostgresSink, "_run", BEFORE),
    "after the rows, before the commit": (PostgresSink, "_run", AFTER),
    "after the commit, before the group knows": (PostgresSink, "commit", AFTER),
    "after the group knows": (KafkaConnector, "acknowledge", AFTER),
}

PARKING_POINTS: dict[str, tuple[Any, str, str]] = {
    "after a batch of a table with parked rows": (ParkingSink, "write", AFTER),
    "after parked rows were tried again": (ParkingSink, "_handle", AFTER),
}

COLUMNAR_POINTS: dict[str, tuple[Any, str, str]] = {
    "after columnar rows, before the commit": (ColumnarWriter, "_done", AFTER),
    "after a columnar commit": (ColumnarWriter, "write", AFTER),
}

SAGA_POINTS: dict[str, tuple[Any, str, str]] = {
    "before sagas are counted": (SagaTracker, "track", BEFORE),
    "after sagas were counted, before the commit": (SagaTracker, "track", AFTER),
    "after the commit of sagas": (PostgresSink, "commit", AFTER),
    "after a command was written, before its commit": (saga_timeouts, "command", AFTER),
    "after the commit of commands": (SagaTimeouts, "_time_out", AFTER),
}

START_POINTS: dict[str, tuple[Any, str, str]] = {
    "before the position is read": (KafkaOffsetStore, "load", BEFORE),
    "after the position was read": (KafkaOffsetStore, "load", AFTER),
    "before the slot is taken": (PostgresConnector, "acquire", BEFORE),
    "after the slot was taken": (PostgresConnector, "acquire", AFTER),
    "after the stream was opened": (ReplicationStream, "open", AFTER),
    "before the publication is looked at": (PostgresConnector, "_look", BEFORE),
}

DELIVERY_POINTS: dict[str, tuple[Any, str, str]] = {
    "before a batch is written": (KafkaPublisher, "write", BEFORE),
    "before a flush": (KafkaPublisher, "_flush", BEFORE),
    "after a flush": (KafkaPublisher, "_flush", AFTER),
    "before a status update": (ReplicationStream, "_send_status", BEFORE),
    "after a status update": (ReplicationStream, "_send_status", AFTER),
}

REGISTRY_POINTS: dict[str, tuple[Any, str, str]] = {
    "before a schema is registered": (SchemaRegistry, "_ask", BEFORE),
    "after a schema was registered": (SchemaRegistry, "_ask", AFTER),
}


def happen(action: str) -> None:
    print(REACHED, flush=True)
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "exception":
        raise RuntimeError("nobody expects this exception")
    else:
        time.sleep(HANG_SECONDS)


def arm(point: str, count: int, action: str = "kill") -> None:
    points = POINTS | TRANSACTION_POINTS | SNAPSHOT_POINTS | SIGNAL_POINTS | REVERSE_POINTS | COLUMNAR_POINTS
    points |= SAGA_POINTS | PARKING_POINTS | START_POINTS | DELIVERY_POINTS | REGISTRY_POINTS
    owner, name, when = points[point]
    original: Callable[..., Any] = getattr(owner, name)
    passed = 0

    @functools.wraps(original)
    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal passed
        passed += 1
        mine = passed == count  # another thread may pass meanwhile
        if mine and when == BEFORE:
            happen(action)
        result = original(*args, **kwargs)
        if mine and when == AFTER:
            happen(action)
        return result

    setattr(owner, name, dying)


def main() -> None:
    if len(sys.argv) > 2:
        arm(sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
    logging.basicConfig(level=logging.INFO)
    pipeline = pycdc.Pipeline(json.loads(Path(sys.argv[1]).read_text()))
    signal.signal(signal.SIGTERM, lambda signum, frame: pipeline.stop())
    print(READY, flush=True)
    pipeline.run()


if __name__ == "__main__":
    main()
