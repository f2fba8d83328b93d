"""How late changes are while a snapshot is read in chunks, as `pycdc snapshot` does: the stream goes on in between."""

from __future__ import annotations

import threading

import psycopg

from benchmarks.arrivals import Arrivals
from benchmarks.percentiles import Samples
from benchmarks.pipelines import Pipeline, capture
from benchmarks.rig import Rig, Watermarks, execute

TABLE = "CREATE TABLE IF NOT EXISTS ticks (id bigserial PRIMARY KEY, note text NOT NULL)"
_PAUSE = 0.01


def lag(rig: Rig, dsn: str, rows: int, run: int) -> Samples:
    """Seconds from commit to consumer of rows that are written one by one, until `rows` of `orders` were read."""
    execute(dsn, TABLE)
    name = f"{rig.name}_meanwhile_{run}"
    orders, ticks = (rig.kafka.create_topic(f"{name}.public.{table}") for table in ("orders", "ticks"))
    marks, samples, end = Watermarks(rig.kafka.bootstrap, [orders]), Samples(), threading.Event()
    arrivals = Arrivals(rig.kafka.bootstrap, rig.registry.url, ticks)
    writer = threading.Thread(target=_write, args=(dsn, end))
    source = {"snapshot": "initial", "snapshot_method": "chunks"}
    try:
        with Pipeline(rig, capture(rig, name, dsn, slot=name, source=source)) as running:
            writer.start()
            while (read := marks.total()) < rows:
                running.check()
                arrivals.read(samples if read > 0 else None)
    finally:
        end.set()
        writer.join()
        arrivals.close()
        marks.close()
    execute(dsn, f"SELECT pg_drop_replication_slot('{name}')")
    return samples


def _write(dsn: str, end: threading.Event) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        while not end.wait(_PAUSE):
            connection.execute("INSERT INTO ticks (note) VALUES ('a row of some length')")
