"""The stream against real servers: what is delivered, what is acknowledged, and what a broken connection becomes."""

from __future__ import annotations

import itertools
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from pycdc.clients.walsender_commands import start_replication
from pycdc.config.postgres_source import PostgresSourceConfig
from pycdc.config.runtime import RetriesConfig
from pycdc.connectors.postgres.replication import pgoutput
from pycdc.connectors.postgres.replication.stream import ReplicationStream, backoff
from pycdc.errors import ConnectionLost, EnvironmentNotReady, PositionGap, SlotActive
from pycdc.model.change import NOWHERE, Lsn
from tests.proxy import Proxy
from tests.services.availability import Unavailable
from tests.services.postgres import PostgresServer

HEADER = 25


@pytest.fixture
def source(database: str) -> Iterator[psycopg.Connection[Any]]:
    """A session on a database with a table, a publication and a slot."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)")
        connection.execute("CREATE TABLE other (id int)")
        connection.execute("CREATE PUBLICATION shop FOR TABLE orders")
        yield connection


@pytest.fixture
def slot(source: psycopg.Connection[Any]) -> str:
    name = f"{source.info.dbname}_slot"
    source.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [name])
    return name


def stream_of(
    dsn: str, slot: str, publication: str = "shop", *, streaming: bool = False, **settings: Any
) -> ReplicationStream:
    options = PostgresSourceConfig(dsn=SecretStr(dsn), **settings)
    return ReplicationStream(dsn, slot=slot, publications=[publication], options=options, streaming=streaming)


@contextmanager
def opened(dsn: str, slot: str, start: Lsn = NOWHERE, **settings: Any) -> Iterator[ReplicationStream]:
    with stream_of(dsn, slot, **settings) as stream:
        stream.open(start)
        yield stream


def until(condition: Callable[[], Any], *, seconds: float = 180.0, every: Callable[[], object] | None = None) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        (every or (lambda: time.sleep(0.02)))()
    return result


def read_until(
    stream: ReplicationStream, enough: Callable[[list[bytes]], Any], *, seconds: float = 180.0
) -> list[bytes]:
    frames: list[bytes] = []
    until(lambda: enough(frames), seconds=seconds, every=lambda: frames.extend(stream.read(4096, 1 << 22, 0.2)))
    return frames


def inserts(frames: list[bytes]) -> list[bytes]:
    return [frame for frame in frames if frame[HEADER] == pgoutput.INSERT]


def commits(frames: list[bytes]) -> list[pgoutput.Commit]:
    decoded = (pgoutput.decode(frame, HEADER) for frame in frames if frame[HEADER] == pgoutput.COMMIT)
    return [message for message in decoded if isinstance(message, pgoutput.Commit)]


def one(connection: psycopg.Connection[Any], query: str, *parameters: Any) -> Any:
    row = connection.execute(query, parameters).fetchone()
    assert row is not None
    return row[0]


def confirmed_flush(connection: psycopg.Connection[Any], slot: str) -> Lsn:
    query = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s"
    return Lsn.parse(one(connection, query, slot))


def walsender(connection: psycopg.Connection[Any], slot: str) -> int | None:
    pid: int | None = one(connection, "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", slot)
    return pid


# -- reading


def test_frames_come_whole_and_in_order(source: psycopg.Connection[Any], database: str, slot: str) -> None:
    source.execute("INSERT INTO orders SELECT n, 'note ' || n FROM generate_series(1, 5000) n")
    with opened(database, slot) as stream:
        frames = read_until(stream, commits)
    rows = [pgoutput.decode(frame, HEADER) for frame in inserts(frames)]
    assert [row.new[0] for row in rows if isinstance(row, pgoutput.Insert)] == [b"%d" % n for n in range(1, 5001)]
    assert {frame[0] for frame in frames} == {ord("w")}
    assert [chr(frame[HEADER]) for frame in frames if frame[HEADER] != pgoutput.INSERT] == ["B", "R", "C"]


def test_the_bounds_of_a_read_hold(source: psycopg.Connection[Any], database: str, slot: str) -> None:
    source.execute("INSERT INTO orders SELECT n, repeat('x', 1000) FROM generate_series(1, 500) n")
    counts: list[int] = []
    with opened(database, slot) as stream:
        while not counts or sum(counts) < 503:
            counts.append(len(stream.read(7, 1 << 20, 0.2)))
    assert max(counts) == 7
    frames: list[bytes] = []
    with opened(database, slot) as stream:
        while not commits(frames):
            read = stream.read(4096, 5000, 0.2)
            assert sum(map(len, read[:-1])) < 5000
            frames += read
    assert len(inserts(frames)) == 500


def test_a_row_of_megabytes_among_small_ones_arrives(source: psycopg.Connection[Any], database: str, slot: str) -> None:
    source.execute("INSERT INTO orders VALUES (1, 'a'), (2, repeat('x', 9000000)), (3, 'b')")
    with opened(database, slot) as stream:
        frames = inserts(read_until(stream, commits))
    assert [len(frame) > 9_000_000 for frame in frames] == [False, True, False]


def test_a_read_with_nothing_to_read_returns_after_its_timeout(
    source: psycopg.Connection[Any], database: str, slot: str
) -> None:
    with opened(database, slot) as stream:
        until(lambda: not stream.read(10, 1000, 0.0))
        began = time.monotonic()
        assert stream.read(10, 1000, 0.3) == []
        assert 0.29 <= time.monotonic() - began < 2.0


def test_a_single_row_is_not_held_back(source: psycopg.Connection[Any], database: str, slot: str) -> None:
    """Gathering bytes in the kernel while many come must not delay the few that come later."""
    source.execute("INSERT INTO orders SELECT n, repeat('x', 200) FROM generate_series(1, 50000) n")
    with opened(database, slot) as stream:
        read_until(stream, commits)
        delays = []
        for n in range(60_000, 60_020):
            source.execute("INSERT INTO orders VALUES (%s, 'y')", [n])
            written = time.monotonic()
            read_until(stream, commits)
            delays.append(time.monotonic() - written)
    assert sorted(delays)[10] < 0.1


def test_names_need_no_care(source: psycopg.Connection[Any], database: str, slot: str) -> None:
    tables = ['a"b', "a'b", "select", "emoji 🐘", "back\\slash", "a,b"]
    for table in tables:
        source.execute(sql.SQL("CREATE TABLE {} (id int PRIMARY KEY)").format(sql.Identifier(table)))
        source.execute(sql.SQL("CREATE PUBLICATION {0} FOR TABLE {0}").format(sql.Identifier(table)))
    for table in tables:
        source.execute(sql.SQL("INSERT INTO {} VALUES (1)").format(sql.Identifier(table)))
    options = PostgresSourceConfig(dsn=SecretStr(database))
    with ReplicationStream(database, slot=slot, publications=tables, options=options) as stream:
        stream.open(NOWHERE)
        frames = read_until(stream, lambda frames: len(inserts(frames)) == len(tables))
    relations = [pgoutput.decode(frame, HEADER) for frame in frames if frame[HEADER] == pgoutput.RELATION]
    assert [relation.name for relation in relations if isinstance(relation, pgoutput.Relation)] == tables


def test_logical_messages_come_always_because_marks_and_signals_are_messages(
    source: psycopg.Connection[Any], database: str, slot: str
) -> None:
    source.execute("SELECT pg_logical_emit_message(true, 'outbox', 'hello')")
    source.execute("INSERT INTO orders VALUES (1, '')")
    with opened(database, slot, messages=True) as stream:
        assert pgoutput.MESSAGE in {frame[HEADER] for frame in read_until(stream, inserts)}
    with opened(database, slot, messages=False, skip_origins=[]) as stream:
        assert pgoutput.MESSAGE in {frame[HEADER] for frame in read_until(stream, inserts)}


def test_a_transaction_in_progress_is_streamed_where_it_is_asked_for(
    source: psycopg.Connection[Any], database: str, slot: str
) -> None:
    with opened(f"{database} options='-c logical_decoding_work_mem=64kB'", slot, streaming=True) as stream:
        source.execute("INSERT INTO orders SELECT n, repeat('x', 100) FROM generate_series(1, 5000) n")
        letters = {
            frame[HEADER]
            for frame in read_until(stream, lambda frames: any(f[HEADER] == pgoutput.STREAM_COMMIT for f in frames))
        }
    assert pgoutput.STREAM_START in letters


@pytest.mark.pg("tls")
def test_an_encrypted_stream_delivers_everything(
    source: psycopg.Connection[Any], postgres: PostgresServer, database: str, slot: str
) -> None:
    """poll() does not see what the TLS library has decrypted already; nothing may get stuck there."""
    if shutil.which("openssl") is None:
        raise Unavailable("openssl needed for a certificate")
    certificate = "openssl req -new -x509 -nodes -days 2 -subj /CN=localhost -keyout server.key -out server.crt"
    source.execute(f"COPY (SELECT) TO PROGRAM '{certificate} 2>/dev/null && chmod 600 server.key'")
    postgres.configure(ssl="on")
    source.execute("INSERT INTO orders SELECT n, repeat('x', n % 700) FROM generate_series(1, 30000) n")
    with opened(f"{database} sslmode=require", slot) as stream:
        began = time.monotonic()
        assert len(inserts(read_until(stream, commits))) == 30_000
        assert time.monotonic() - began < 10
        source.execute("INSERT INTO orders VALUES (0, 'last')")
        assert len(inserts(read_until(stream, commits))) == 1


@pytest.mark.parametrize("hostile", ["role", "options"])
def test_values_are_written_alike_whatever_role_and_dsn_set(
    source: psycopg.Connection[Any], database: str, slot: str, hostile: str
) -> None:
    settings = {
        "datestyle": "German",
        "intervalstyle": "iso_8601",
        "timezone": "Asia/Tokyo",
        "extra_float_digits": "-5",
    }
    dsn = database
    if hostile == "role":
        role = f"{source.info.dbname}_role"
        source.execute(sql.SQL("CREATE ROLE {} SUPERUSER LOGIN").format(sql.Identifier(role)))
        for name, value in settings.items():
            source.execute(
                sql.SQL("ALTER ROLE {} SET {} = {}").format(sql.Identifier(role), sql.Identifier(name), value)
            )
        dsn = f"{database} user={role}"
    else:
        dsn = f"{database} options='{' '.join(f'-c {name}={value}' for name, value in settings.items())}'"
    source.execute("CREATE TABLE times (t timestamptz, i interval, f float8, b bytea)")
    source.execute("ALTER PUBLICATION shop ADD TABLE times")
    source.execute("INSERT INTO times VALUES ('2024-05-06 07:08:09+00', '1 day 2 hours', 0.1, '\\xff')")
    try:
        with opened(dsn, slot) as stream:
            row = pgoutput.decode(inserts(read_until(stream, inserts))[0], HEADER)
    finally:
        if hostile == "role":
            until(lambda: walsender(source, slot) is None)
            source.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
    assert isinstance(row, pgoutput.Insert)
    assert row.new == [b"2024-05-06 07:08:09+00", b"1 day 02:00:00", b"0.1", b"\\xff"]


# -- positions


def test_what_is_confirmed_is_not_sent_again(source: psycopg.Connection[Any], database: str, slot: str) -> None:
    for n in range(4):
        source.execute("INSERT INTO orders VALUES (%s, 'x')", [n])
    with opened(database, slot) as stream:
        ends = [commit.end_lsn for commit in commits(read_until(stream, lambda frames: len(commits(frames)) == 4))]
        stream.confirm(Lsn(ends[1]))
    assert confirmed_flush(source, slot) == ends[1]
    with opened(database, slot) as stream:
        frames = read_until(stream, lambda frames: len(commits(frames)) == 2)
    assert [commit.end_lsn for commit in commits(frames)] == ends[2:]


def test_a_position_beyond_what_was_received_is_never_acknowledged(
    source: psycopg.Connection[Any], database: str, slot: str
) -> None:
    source.execute("INSERT INTO orders VALUES (1, 'x')")
    with opened(database, slot) as stream:
        stream.confirm(Lsn(1 << 40))
        assert stream.confirmed == NOWHERE
        read_until(stream, commits)
        stream.confirm(Lsn(1 << 40))
        assert stream.confirmed == stream.received
        assert stream.received <= Lsn.parse(one(source, "SELECT pg_current_wal_lsn()::text"))
    source.execute("INSERT INTO orders VALUES (2, 'y')")
    with opened(database, slot) as stream:
        assert len(inserts(read_until(stream, commits))) == 1


def test_the_acknowledged_position_never_moves_back(source: psycopg.Connection[Any], database: str, slot: str) -> None:
    source.execute("INSERT INTO orders VALUES (1, 'x')")
    with opened(database, slot) as stream:
        end = Lsn(commits(read_until(stream, commits))[0].end_lsn)
        stream.confirm(end)
        stream.confirm(Lsn(end - 100))
        assert stream.confirmed == end


def test_a_confirmed_position_reaches_the_server_without_reading(
    source: psycopg.Connection[Any], database: str, slot: str
) -> None:
    source.execute("INSERT INTO orders VALUES (1, 'x')")
    with opened(database, slot) as stream:
        end = commits(read_until(stream, commits))[0].end_lsn
        stream.confirm(Lsn(end))
        until(lambda: confirmed_flush(source, slot) == end, seconds=5)


def test_an_idle_slot_advances_while_another_table_is_written(
    source: psycopg.Connection[Any], database: str, slot: str
) -> None:
    with opened(database, slot) as stream:
        source.execute("INSERT INTO other SELECT generate_series(1, 10000)")
        written = Lsn.parse(one(source, "SELECT pg_current_wal_lsn()::text"))
        until(lambda: (stream.idle_position or 0) >= written, every=lambda: stream.read(4096, 1 << 20, 0.1))
        assert stream.idle_position is not None
        stream.confirm(stream.idle_position)
        until(lambda: confirmed_flush(source, slot) >= written)


def test_rows_withdraw_the_idle_position(source: psycopg.Connection[Any], database: str, slot: str) -> None:
    with opened(database, slot) as stream:
        until(lambda: stream.idle_position, every=lambda: stream.read(4096, 1 << 20, 0.1))
        source.execute("INSERT INTO orders VALUES (1, 'x')")
        frames = until(lambda: stream.read(1, 1 << 20, 0.1))
        assert frames[0][HEADER] == pgoutput.BEGIN
        assert stream.idle_position is None


def test_received_covers_a_commit_that_is_followed_by_older_rows(
    source: psycopg.Connection[Any], database: str, slot: str
) -> None:
    """A transaction that wrote first and commits last has rows before the commit of the one in between."""
    with psycopg.connect(database) as first:
        first.execute("INSERT INTO orders VALUES (1, 'early')")
        source.execute("INSERT INTO orders VALUES (2, 'between')")
        with opened(database, slot) as stream:
            frames = read_until(stream, commits)
            first.commit()
            frames += read_until(stream, lambda more: len(inserts(more)) == 1)
            assert stream.received >= commits(frames)[0].end_lsn


# -- staying alive


@pytest.mark.pg("newest")
@pytest.mark.slow
def test_a_sink_that_blocks_for_four_times_the_wal_sender_timeout_keeps_its_connection(
    source: psycopg.Connection[Any], database: str, slot: str
) -> None:
    with opened(f"{database} options='-c wal_sender_timeout=2s'", slot, status_interval=30) as stream:
        source.execute("INSERT INTO orders SELECT n, repeat('x', 500) FROM generate_series(1, 60000) n")
        first = until(lambda: stream.read(10, 1 << 20, 0.2))
        pid = walsender(source, slot)
        # More is on its way than the socket buffers hold: the walsender itself is blocked, too.
        threading.Event().wait(8)
        rows = inserts(first + read_until(stream, commits))
        assert len(rows) == 60_000
        assert walsender(source, slot) == pid


def test_a_reader_that_only_confirms_stays_connected(source: psycopg.Connection[Any], database: str, slot: str) -> None:
    with opened(f"{database} options='-c wal_sender_timeout=1s'", slot, status_interval=30) as stream:
        pid = walsender(source, slot)
        deadline = time.monotonic() + 3.5
        until(lambda: time.monotonic() > deadline)
        source.execute("INSERT INTO orders VALUES (1, 'x')")
        assert inserts(read_until(stream, commits))
        assert walsender(source, slot) == pid


def test_a_terminated_walsender_is_a_lost_connection(source: psycopg.Connection[Any], database: str, slot: str) -> None:
    with opened(database, slot) as stream:
        source.execute("SELECT pg_terminate_backend(%s)", [walsender(source, slot)])
        with pytest.raises(ConnectionLost, match="57P01"):
            until(lambda: False, every=lambda: stream.read(10, 1000, 0.2))
        with pytest.raises(ConnectionLost):
            stream.read(10, 1000, 0.2)


def test_a_loss_while_nobody_reads_surfaces_in_the_next_read(
    source: psycopg.Connection[Any], database: str, slot: str
) -> None:
    with opened(database, slot, status_interval=0.05) as stream:
        source.execute("SELECT pg_terminate_backend(%s)", [walsender(source, slot)])
        until(lambda: walsender(source, slot) is None)
        with pytest.raises(ConnectionLost):
            until(lambda: False, every=lambda: stream.read(10, 1000, 0.2))


def test_a_read_that_a_signal_interrupts_is_not_continued(
    source: psycopg.Connection[Any], database: str, slot: str
) -> None:
    """The frames that it had are gone, and reading on would skip them."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with opened(database, slot) as stream:
        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            with pytest.raises(KeyboardInterrupt):
                until(lambda: False, every=lambda: stream.read(10, 1000, 0.5))
        finally:
            signal.signal(signal.SIGALRM, before)
        with pytest.raises(ConnectionLost, match="interrupted"):
            stream.read(10, 1000, 0.0)


@pytest.mark.parametrize("fault", ["close_connections", "reset_connections"])
def test_a_cut_connection_is_lost(
    source: psycopg.Connection[Any],
    postgres: PostgresServer,
    postgres_proxy: Proxy,
    slot: str,
    fault: str,
) -> None:
    with opened(postgres.dsn(source.info.dbname, port=postgres_proxy.port), slot) as stream:
        stream.read(10, 1000, 0.1)
        getattr(postgres_proxy, fault)()
        with pytest.raises(ConnectionLost):
            until(lambda: False, every=lambda: stream.read(10, 1000, 0.2))


def test_a_silent_peer_is_lost_after_the_silence_timeout(
    source: psycopg.Connection[Any], postgres: PostgresServer, postgres_proxy: Proxy, slot: str
) -> None:
    dsn = postgres.dsn(source.info.dbname, port=postgres_proxy.port)
    with opened(dsn, slot, silence_timeout=2.0) as stream:
        stream.read(10, 1000, 0.1)
        postgres_proxy.blackhole()
        began = time.monotonic()
        with pytest.raises(ConnectionLost, match="sent nothing"):
            until(lambda: False, every=lambda: stream.read(10, 1000, 0.2))
        assert 1.0 < time.monotonic() - began < 8.0


def test_a_quiet_server_that_answers_is_not_lost(source: psycopg.Connection[Any], database: str, slot: str) -> None:
    with opened(f"{database} options='-c wal_sender_timeout=0'", slot, silence_timeout=1.0) as stream:
        deadline = time.monotonic() + 3
        until(lambda: time.monotonic() > deadline, every=lambda: stream.read(10, 1000, 0.2))


def test_a_fast_shutdown_is_not_held_up(
    source: psycopg.Connection[Any], postgres: PostgresServer, database: str, slot: str
) -> None:
    with opened(database, slot) as stream:
        ended: list[Exception] = []

        def read_on() -> None:
            try:
                while True:
                    stream.read(4096, 1 << 20, 0.1)
                    if stream.idle_position is not None:
                        stream.confirm(stream.idle_position)
            except ConnectionLost as error:
                ended.append(error)

        reader = threading.Thread(target=read_on)
        reader.start()
        postgres.stop("fast", timeout=20)
        reader.join(120)
        assert ended


# -- starting


def test_the_source_is_identified(source: psycopg.Connection[Any], database: str, slot: str) -> None:
    with opened(database, slot) as stream:
        assert stream.systemid == str(one(source, "SELECT system_identifier FROM pg_control_system()"))
        assert (stream.timeline, stream.database) == (1, source.info.dbname)
        assert stream.server_version == source.info.server_version


def test_a_slot_in_use_is_reported_with_the_pid_of_its_reader(
    source: psycopg.Connection[Any], database: str, slot: str
) -> None:
    with opened(database, slot), stream_of(database, slot, slot_timeout=0.5) as second:
        with pytest.raises(SlotActive) as caught:
            second.open(NOWHERE)
        assert f"pid {walsender(source, slot)}" in caught.value.fact
        assert "pg_terminate_backend" in caught.value.hint


def test_a_slot_that_becomes_free_in_time_is_taken_over(
    source: psycopg.Connection[Any], database: str, slot: str
) -> None:
    first = stream_of(database, slot)
    first.open(NOWHERE)
    with stream_of(database, slot, slot_timeout=20) as second:
        closer = threading.Timer(0.5, first.close)
        closer.start()
        second.open(NOWHERE)
        closer.join()
        assert walsender(source, slot) is not None


def test_a_closed_stream_leaves_its_slot_at_once(source: psycopg.Connection[Any], database: str, slot: str) -> None:
    for _ in range(5):
        with opened(database, slot, slot_timeout=0):
            pass
    assert walsender(source, slot) is None


def test_closing_twice_or_unopened_is_harmless(source: psycopg.Connection[Any], database: str, slot: str) -> None:
    stream = stream_of(database, slot)
    stream.close()
    with opened(database, slot) as stream:
        stream.close()
        stream.close()
        with pytest.raises(ConnectionLost, match="closed"):
            stream.read(1, 1, 0)


def test_a_stream_that_is_far_behind_closes_promptly(source: psycopg.Connection[Any], database: str, slot: str) -> None:
    source.execute("INSERT INTO orders SELECT n, repeat('x', 500) FROM generate_series(1, 50000) n")
    with opened(database, slot) as stream:
        until(lambda: stream.read(10, 1 << 20, 0.2))
        began = time.monotonic()
        stream.close()
        assert time.monotonic() - began < 5


def test_a_missing_slot_is_a_gap(source: psycopg.Connection[Any], database: str) -> None:
    with pytest.raises(PositionGap, match="does not exist") as caught, opened(database, "no_such_slot"):
        pass
    assert "snapshot" in caught.value.hint


def test_a_publication_made_too_late_is_a_gap_that_is_explained(
    source: psycopg.Connection[Any], database: str, slot: str
) -> None:
    """Postgres 18 only warns, and goes on with what was written after it."""
    source.execute("INSERT INTO orders VALUES (1, 'x')")
    source.execute("CREATE PUBLICATION late FOR TABLE orders")
    source.execute("INSERT INTO orders VALUES (2, 'y')")
    with stream_of(database, slot, "late") as stream:
        stream.open(NOWHERE)
        frames: list[bytes] = []
        with pytest.raises(PositionGap) as caught:
            until(lambda: False, every=lambda: frames.extend(stream.read(10, 1000, 0.2)))
    assert inserts(frames) == []
    assert "late" in caught.value.fact
    assert "creating it again does not help" in caught.value.hint


def test_a_role_that_may_not_replicate_is_told_so(source: psycopg.Connection[Any], database: str, slot: str) -> None:
    role = f"{source.info.dbname}_plain"
    source.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    try:
        with pytest.raises(EnvironmentNotReady) as caught, opened(f"{database} user={role}", slot):
            pass
        assert "REPLICATION" in caught.value.hint
    finally:
        source.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def test_a_server_that_is_down_is_a_lost_connection(
    source: psycopg.Connection[Any], postgres: PostgresServer, postgres_proxy: Proxy, slot: str
) -> None:
    postgres_proxy.refuse()
    with (
        pytest.raises(ConnectionLost),
        opened(postgres.dsn(source.info.dbname, port=postgres_proxy.port), slot),
    ):
        pass


def test_the_start_replication_quotes_names_twice() -> None:
    command = start_replication('my"slot', Lsn.parse("16/B374D848"), ['a"b', "c'd"], messages=False)
    assert command == (
        'START_REPLICATION SLOT "my""slot" LOGICAL 16/B374D848 '
        "(proto_version '1', publication_names '\"a\"\"b\",\"c''d\"')"
    )


def test_delays_double_up_to_the_greatest_and_are_spread() -> None:
    delays = [list(itertools.islice(backoff(RetriesConfig(first_delay=1, max_delay=8)), 6)) for _ in range(200)]
    for bound, column in zip([1, 2, 4, 8, 8, 8], zip(*delays, strict=True), strict=True):
        assert bound / 2 <= min(column) < max(column) <= bound
