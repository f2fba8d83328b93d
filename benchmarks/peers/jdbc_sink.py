"""Debezium's JDBC sink: from a topic into a table."""

from __future__ import annotations

from psycopg.conninfo import conninfo_to_dict

from benchmarks.peers import jars
from benchmarks.peers.connect import HEAP, Connect
from benchmarks.rig import Rig

NAME = f"Debezium JDBC sink {jars.JDBC_SINK}"
TUNED = {
    "insert.mode": "upsert",
    "primary.key.mode": "record_key",
    "delete.enabled": "true",
    "schema.evolution": "none",
    "batch.size": "2000",
    "use.reduction.buffer": "true",
    "consumer.override.max.poll.records": "2000",
    "consumer.override.fetch.min.bytes": "1",
}
"""Batches of 2,000 with the reduction buffer, which its documentation recommends for throughput."""


def jdbc_sink(rig: Rig, name: str, topic: str, dsn: str, *, table: str, tuning: dict[str, str] = TUNED) -> Connect:
    """A worker that reads `topic` from its beginning into `table`."""
    parts = conninfo_to_dict(dsn)
    settings = {
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "topics": topic,
        # Rewriting makes one statement of a batch's rows: the driver's own advice.
        "connection.url": f"jdbc:postgresql://{parts['host']}:{parts['port']}/{parts['dbname']}"
        "?reWriteBatchedInserts=true",
        "connection.username": str(parts["user"]),
        "connection.password": "none",
        "collection.name.format": table,
        "consumer.override.auto.offset.reset": "earliest",
        **tuning,
    }
    return Connect(rig, name, settings, plugins=jars.sink_plugins(), version="4.1.1")


def described(tuning: dict[str, str] = TUNED) -> dict[str, str]:
    return {"heap": HEAP, "converter": f"Confluent Avro {jars.CONVERTER}", **tuning}
