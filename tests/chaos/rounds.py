"""The rounds: what a pipeline is at, and what others do meanwhile. Each yields what was wrong."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg

from pycdc.connectors.postgres.signals.messages import Signal, send
from pycdc.connectors.postgres.signals.signing import key_of
from tests.chaos import disturbances as do
from tests.chaos.disturbances import Step
from tests.chaos.pipelines import config_for
from tests.chaos.tables import Writers, execute
from tests.chaos.trial import Trial
from tests.reading import wait_for

ANY_DDL: list[Step] = [
    do.columns,
    do.many_small_alterations,
    do.migration,
    do.rewrite,
    do.indexes,
    do.truncate,
    do.identity,
    do.rename,
    do.drop,
    do.partitions,
    do.vacuum,
]


def first_snapshot(trial: Trial) -> None:
    """DDL while the first snapshot is read in ranges, by one, two or four."""
    trial.world.fill(4000)
    workers = trial.rng.choice([1, 2, 2, 4])
    trial.start(0.02, workers=workers, max_batch_bytes=trial.rng.choice([16384, 65536, 262144]))
    trial.reading()
    with trial.under(ANY_DDL):
        pass


def first_snapshot_of_workers(trial: Trial) -> None:
    """One small alteration after the other, of a table that several read."""
    trial.world.fill(6000)
    trial.start(0.02, workers=trial.rng.choice([2, 4]), max_batch_bytes=65536)
    trial.reading()
    with trial.under([do.many_small_alterations], count=2):
        pass


def chunks(trial: Trial) -> None:
    """DDL while tables are read in chunks."""
    trial.world.fill(6000)
    trial.start(0.002, snapshot_method="chunks", snapshot_chunk=trial.rng.choice([30, 100]))
    trial.reading()
    with trial.under(ANY_DDL, count=8):
        pass


def chunks_under_migrations(trial: Trial) -> None:
    """Several tables altered in one transaction while they are read in chunks."""
    trial.world.fill(5000)
    trial.start(0.002, snapshot_method="chunks", snapshot_chunk=50)
    trial.reading()
    with trial.under([do.migration, do.many_small_alterations], count=5):
        pass


def chunks_of_tables_that_go(trial: Trial) -> None:
    """DROP and RENAME take half a second, while the tables are read in chunks."""
    trial.world.fill(6000)
    trial.start(0.002, snapshot_method="chunks", snapshot_chunk=50)
    trial.reading()
    with trial.under([do.rename, do.drop], count=4):
        pass


def reconnects(trial: Trial) -> None:
    """Sessions of the pipeline are ended at any moment, snapshot and stream, under DDL."""
    trial.world.fill(3000)
    method = trial.rng.choice(["pinned", "chunks"])
    trial.start(0.01, workers=1, snapshot_method=method, snapshot_chunk=100, max_batch_bytes=65536)
    with trial.under(ANY_DDL, count=5, ending=4):
        pass


def publication(trial: Trial) -> None:
    """Tables go out of the publication and come back; or a part of them only."""
    trial.world.fill(2000)
    back = trial.rng.random() < 0.7
    steps: list[Step] = [do.republish, do.columns] if back else [do.narrow]
    drift = "resync" if back else "stop"
    trial.start(0.005, snapshot_method="chunks", snapshot_chunk=100, publication_drift=drift)
    trial.reading()
    with trial.under(steps, count=3):
        pass


def many_in_one_range(trial: Trial) -> None:
    """Ranges that hold more than a worker may return, of a partitioned table under a filter, which servers like to
    read by several processes; nobody disturbs."""
    parts, rows = 8, 6000
    filters = " AND ".join(f"(flags & {2**number + 1}) = 1" for number in range(1, 25))
    execute(trial.dsn, "CREATE TABLE finish (id int PRIMARY KEY, v int); CREATE SEQUENCE ids START 10000000")
    execute(trial.dsn, "ALTER TABLE finish ALTER id SET DEFAULT nextval('ids'), ALTER v SET DEFAULT 0")
    execute(trial.dsn, "CREATE TABLE a (id int, flags int, v int, PRIMARY KEY (id, flags)) PARTITION BY RANGE (id)")
    for number in range(parts):
        low, high = number * rows, (number + 1) * rows
        execute(trial.dsn, f"CREATE TABLE a_{number} PARTITION OF a FOR VALUES FROM ({low}) TO ({high})")
    execute(trial.dsn, f"INSERT INTO a SELECT i, 1, i FROM generate_series(0, {parts * rows - 1}) i; ANALYZE a")
    execute(
        trial.dsn,
        f"CREATE PUBLICATION pub FOR TABLE a WHERE ({filters}), finish WITH (publish_via_partition_root = true)",
    )
    trial.start(
        publication="pub",
        manage_publication=False,
        via_partition_root=True,
        workers=2,
        max_batch_bytes=4 * 1024 * 1024,
    )
    trial.quiet()


def takeover(trial: Trial) -> None:
    """A second instance waits for the slot, and goes on when the first is stopped at any moment."""
    trial.world.fill(2000)
    first = trial.start(0.02, snapshot_method=trial.rng.choice(["pinned", "chunks"]), snapshot_chunk=100)
    if trial.rng.random() < 0.5:
        trial.reading()
    else:
        first.until(lambda: first.progress.state == "streaming")
    with trial.under([do.columns, do.vacuum], count=3):
        trial.start()
        time.sleep(trial.rng.uniform(0.1, 1.5))
        trial.world.rewinds += 1
        trial.stop(first)


def another_reader(trial: Trial) -> None:
    """Somebody else reads the slot and confirms, while the pipeline is stopped or waits: nothing is lost in silence."""
    trial.world.fill(300)
    first = trial.start()
    first.until(lambda: first.progress.state == "streaming")
    time.sleep(0.5)
    trial.stop(first)
    trial.world.refused = True
    connect, psycopg_options = psycopg.connect(trial.dsn, autocommit=True), "'proto_version', '1'"
    started = trial.rng.random() < 0.7
    with connect as connection:
        if started:
            holder = _Reader(trial.dsn, f"{do.PUBLICATION}")
            trial.start()
            time.sleep(1.0)
        connection.execute("INSERT INTO other (filler) SELECT 'unseen' FROM generate_series(1, 10)")
        if started:
            time.sleep(0.5)
            holder.confirm_and_leave()
        else:
            query = f"SELECT count(*) FROM pg_logical_slot_get_binary_changes('pycdc_chaos', NULL, NULL, {psycopg_options}, 'publication_names', '{do.PUBLICATION}')"  # noqa: E501
            connection.execute(query.encode())
            trial.start()
    trial.quiet()


class _Reader:
    """Somebody who reads the slot by the protocol."""

    def __init__(self, dsn: str, publication: str) -> None:
        self._dsn = dsn
        self._connection = psycopg.connect(dsn, autocommit=True, replication="database")
        options = f"(proto_version '1', publication_names '{publication}')"
        self._connection.pgconn.exec_(f"START_REPLICATION SLOT pycdc_chaos LOGICAL 0/0 {options}".encode())

    def confirm_and_leave(self) -> None:
        end = execute(self._dsn, "SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn")[0][0]
        message = b"r" + int(end).to_bytes(8, "big") * 3 + (0).to_bytes(8, "big") + b"\0"
        pg = self._connection.pgconn
        wait_for(lambda: pg.put_copy_data(message) == 1)
        pg.flush()
        confirmed = "SELECT confirmed_flush_lsn - '0/0'::pg_lsn FROM pg_replication_slots"
        wait_for(lambda: max(row[0] for row in execute(self._dsn, confirmed)) >= end)
        self._connection.close()


def partitions_gone_before_they_are_read(trial: Trial) -> None:
    """Rows of a partition that is detached before the pipeline, which names the root only, reads them."""
    trial.world.fill(300)
    first = trial.start(tables=["public.root", "public.finish"])
    first.until(lambda: first.progress.state == "streaming")
    time.sleep(0.3)
    trial.stop(first)
    execute(trial.dsn, "INSERT INTO root (filler, part) SELECT 'late', i % 3 FROM generate_series(1, 9) i")
    execute(trial.dsn, "ALTER TABLE root DETACH PARTITION root_1")
    for name in ("keyed", "other", "keyless"):
        execute(trial.dsn, f"DROP TABLE {name}")
    trial.start()
    trial.quiet()


def commits_that_wait_for_a_standby(trial: Trial) -> None:
    """What is delivered before any snapshot sees it; then a reconnect, then chunks."""
    trial.world.fill(300)
    instance = trial.start()
    instance.until(lambda: instance.progress.state == "streaming")
    trial.server.configure(synchronous_standby_names="nobody")
    try:
        number = execute(trial.dsn, "SELECT min(id) FROM keyed")[0][0]
        with Writers(trial.world, 1, 0), psycopg.connect(trial.dsn, autocommit=True) as connection:
            connection.execute("SET application_name = 'waits'")
            pid = connection.info.backend_pid
            connection.pgconn.send_query(f"UPDATE keyed SET v = v + 1 WHERE id = {number}".encode())
            instance.until(lambda: any(e.id == number and e.op == "u" for e in trial.topic.events))
            time.sleep(0.3)
            if trial.rng.random() < 0.5:
                trial.world.rewinds += 1
                trial.stop(instance)
                instance = trial.start()
            else:
                trial.world.rewinds += 1
                execute(trial.dsn, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots")
                instance.until(lambda: instance.progress.reconnects > 0)
            instance.until(lambda: instance.progress.state == "streaming")
            trial.world.repeats["keyed"] += 1
            _ask_for_snapshot(trial)
            time.sleep(1.5)
            assert pid
            trial.server.configure(synchronous_standby_names="")
            while connection.pgconn.get_result() is not None:
                continue
    finally:
        trial.server.configure(synchronous_standby_names="")
    time.sleep(0.5)
    trial.quiet()


def _ask_for_snapshot(trial: Trial) -> None:
    config, stored = config_for(trial.dsn), trial.offsets.load()
    assert stored is not None
    send(trial.dsn, config.slot, key_of(config, stored.source), [Signal("snapshot", ("public.keyed",))])


def stops_behind_locks(trial: Trial) -> None:
    """Whatever the first start waits for, a stop is obeyed; and what it waited for goes on."""
    trial.world.fill(300)
    held = trial.rng.choice(
        [
            "LOCK TABLE keyed IN SHARE UPDATE EXCLUSIVE MODE",
            "LOCK TABLE keyed IN ACCESS EXCLUSIVE MODE",
            "INSERT INTO other DEFAULT VALUES",
        ]
    )
    with psycopg.connect(trial.dsn) as other:
        other.execute(held.encode())
        waiting = trial.start(snapshot_method=trial.rng.choice(["pinned", "chunks"]))
        time.sleep(trial.rng.uniform(0.5, 3.0))
        trial.stop(waiting)
        if waiting.error is not None:
            trial.wrong.append(f"ended: {waiting.error!r}")
    trial.start()
    trial.quiet()


KINDS: list[Callable[[Trial], None]] = [
    many_in_one_range,
    first_snapshot_of_workers,
    chunks_under_migrations,
    first_snapshot,
    chunks_of_tables_that_go,
    chunks,
    takeover,
    partitions_gone_before_they_are_read,
    another_reader,
    commits_that_wait_for_a_standby,
    reconnects,
    publication,
    stops_behind_locks,
]
