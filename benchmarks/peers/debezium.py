"""Debezium's Postgres connector, tuned as its documentation and Kafka's say."""

from __future__ import annotations

from psycopg.conninfo import conninfo_to_dict

from benchmarks.figures import note
from benchmarks.peers import jars
from benchmarks.peers.connect import HEAP, Connect, worker
from benchmarks.rig import Rig, Watermarks, wait_until
from benchmarks.workload import NARROW, prepare, write

NAME = f"Debezium {jars.DEBEZIUM}"
TUNED = {
    # The documentation: the queue must be larger than a batch; both larger than their defaults for throughput.
    "max.batch.size": "8192",
    "max.queue.size": "32768",
    "poll.interval.ms": "50",
    "producer.override.linger.ms": "2",
    "producer.override.batch.size": "1000000",
    "producer.override.buffer.memory": "67108864",
    "producer.override.compression.type": "lz4",
}
"""What pycdc's own producer does, and queues in proportion. acks=all and idempotence are Connect's defaults."""
QUICK = {**TUNED, "poll.interval.ms": "1", "producer.override.linger.ms": "0"}
"""For latency: its default looks every 500 ms."""
DEFAULTS: dict[str, str] = {}
WARM_ROWS = 200_000
_CONNECT = "4.3.0"


def postgres_source(
    rig: Rig,
    name: str,
    dsn: str,
    *,
    slot: str,
    publication: str = "bench",
    tables: str = r"public\..*",
    tuning: dict[str, str] = TUNED,
    snapshot: str = "no_data",
) -> Connect:
    """A worker that streams from a slot that is there. Topics have the prefix `name`."""
    parts = conninfo_to_dict(dsn)
    settings = {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "plugin.name": "pgoutput",
        "database.hostname": str(parts["host"]),
        "database.port": str(parts["port"]),
        "database.user": str(parts["user"]),
        "database.password": "none",
        "database.dbname": str(parts["dbname"]),
        "topic.prefix": name,
        "slot.name": slot,
        "publication.name": publication,
        "publication.autocreate.mode": "disabled",
        "snapshot.mode": snapshot,
        "table.include.list": tables,
        "status.update.interval.ms": "1000",
        **tuning,
    }
    return Connect(rig, name, settings, plugins=jars.source_plugins(), version=_CONNECT)


def described(tuning: dict[str, str] = TUNED) -> dict[str, str]:
    """The settings that are printed beside its figures."""
    return {"heap": HEAP, "converter": f"Confluent Avro {jars.CONVERTER}", **tuning}


def warm_up(rig: Rig) -> None:
    """Replay rows that nobody measures, once for each JVM: the first ones wait for its compilers."""
    shared = worker(rig, plugins=jars.source_plugins(), version=_CONNECT)
    if shared.warm or not rig.warm:
        return
    note(f"warming {NAME} up with {WARM_ROWS:,} rows")
    dsn, name = rig.database(), f"{rig.name}_warm"
    prepare(dsn, NARROW, [name])
    write(dsn, NARROW.insert, WARM_ROWS)
    marks = Watermarks(rig.kafka.bootstrap, [rig.kafka.create_topic(f"{name}.public.orders")])
    with postgres_source(rig, name, dsn, slot=name) as running:
        wait_until(running, lambda: marks.total() >= WARM_ROWS, "the warm-up", pause=0.05)
    marks.close()
    rig.postgres.drop_database(dsn)
    shared.warm = True
