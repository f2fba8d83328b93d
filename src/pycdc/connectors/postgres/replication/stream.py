"""The replication stream: the only module that touches its socket.

Invariants
- A lock owns the socket. The reading thread holds it within `read`; while that thread is elsewhere (a sink that blocks
  for a minute), a daemon thread takes it to send status, and never reads.
- The flush position reported is the one last given to `confirm`, never beyond what was received: Postgres believes an
  acknowledgement from the future and throws the data away.
- Status goes out on a timer, at least three times within the server's wal_sender_timeout.
- `get_copy_data(1)` only: with 0 the C implementation blocks and keeps the GIL.
"""

from __future__ import annotations

import random
import select
import threading
import time
from collections.abc import Iterator, Sequence
from math import ceil
from struct import Struct
from types import TracebackType
from typing import Final

import psycopg
from psycopg import sql
from psycopg.pq import ExecStatus

from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_errors import ErrorMeaning, source_error
from pycdc.clients.postgres_sessions import READING_SECONDS, connect_to_source, leave_text_raw
from pycdc.clients.walsender_commands import is_working, start_replication
from pycdc.config.postgres_source import PostgresSourceConfig
from pycdc.config.runtime import RetriesConfig
from pycdc.connectors.postgres.replication.receive_watermark import GATHER_POLL_MS, ReceiveWatermark
from pycdc.errors import ConnectionLost, EnvironmentNotReady, PositionGap, ProtocolError, PycdcError, SlotActive
from pycdc.model.change import Lsn
from pycdc.observability.logger import get_logger

log = get_logger()

XLOG_DATA: Final = ord("w")
KEEPALIVE: Final = ord("k")
_keepalive = Struct(">BQqB").unpack
_status = Struct(">cQQQqB").pack
_POSTGRES_EPOCH: Final = 946_684_800

_TLS_POLL_MS: Final = 20
_CONFIRM_SPACING: Final = 0.1
_DRAIN_SECONDS: Final = 1.0
_KEEPER_PAUSE: Final = 0.05
_ENDED: Final = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)
"""Of a socket whose peer sends nothing more, whatever is still to be read."""


def backoff(retries: RetriesConfig) -> Iterator[float]:
    """Endless delays in seconds: doubling from `first_delay` to `max_delay`, each drawn from its upper half."""
    delay = retries.first_delay
    while True:
        yield delay * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, keeps no secret
        delay = min(delay * 2, retries.max_delay)


_SPILLS: Final = (
    "if pg_stat_replication_slots.spill_txns grows, set source.postgres.streaming, or let the role have more "
    "logical_decoding_work_mem: ALTER ROLE … SET"
)
_GAP_HINT: Final = "compare pg_replication_slots with the configuration; drop a lost slot and take a new snapshot"
_AT_START: Final = {
    "42704": ErrorMeaning(PositionGap, "if it was dropped, what it held back is gone: take a new snapshot"),
    "55000": ErrorMeaning(PositionGap, _GAP_HINT),
}
_TOO_LATE_HINT: Final = (
    "a publication must be older than the WAL read through it, so creating it again does not help: "
    "create it, drop the slot and take a new snapshot"
)
_IN_STREAM: Final = {
    "42704": ErrorMeaning(PositionGap, _TOO_LATE_HINT),
    "55000": ErrorMeaning(PositionGap, _GAP_HINT),
}
_IN_PROGRESS: Final = {
    # Of what is still going on, the server may not find what a savepoint altered, whether or not that is rolled back.
    "XX000": ErrorMeaning(ConnectionLost, "it is a fault of the server's: look for a newer minor version of it")
}


class ReplicationStream:
    """One connection that reads one slot. Opened once, closed once; reconnecting takes a new object.

    `streaming` asks for transactions while they are in progress (protocol 2), `two_phase` for those that are prepared
    (protocol 3).
    `cannot_stream` is set when a transaction cannot be had before its commit: then a stream without `streaming` has it.
    `systemid`, `timeline`, `database` and `server_version` are known after `open`. `last_message_at` is
    time.monotonic() of the last bytes from the server, `received` the furthest LSN that came, `server_wal_end` how far
    the walsender says it has read the WAL. `raw_text`: see `leave_text_raw`.
    """

    def __init__(
        self,
        dsn: str,
        *,
        slot: str,
        publications: Sequence[str],
        options: PostgresSourceConfig,
        retries: RetriesConfig | None = None,
        streaming: bool = False,
        two_phase: bool = False,
        raw_text: bool = False,
        stopping: threading.Event | None = None,
    ) -> None:
        self._dsn = dsn
        self._streaming = streaming
        self._two_phase = two_phase
        self.cannot_stream = False
        self._slot = slot
        self._publications = tuple(publications)
        self._options = options
        self._retries = retries or RetriesConfig()
        self._raw_text = raw_text
        self._stopping = stopping
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._keeper: threading.Thread | None = None
        self._failure: PycdcError | None = None
        self._reported = False
        self._flushed = 0
        self._status_at = 0.0
        self._status_due = 0.0
        self._asked_at = 0.0
        self._interval = options.status_interval
        self._receive_watermark: ReceiveWatermark | None = None
        self._idle: Lsn | None = None
        self._idle_after = -1
        self._skipped = ""
        self.received = Lsn(0)
        self.server_wal_end = Lsn(0)
        self.last_message_at = 0.0
        self.systemid = ""
        self.timeline = 0
        self.database = ""
        self.server_version = 0

    # -- opening and closing

    def open(self, start: Lsn, wait: float | None = None) -> None:
        """Connect and start at `start`; wait up to `wait` seconds (`slot_timeout`) for a session that has the slot.

        From here on nobody else moves the slot, whether or not it is read. Postgres silently begins at the slot's
        confirmed_flush_lsn where that is further: only what is compared with `start_check.check_start` afterwards makes
        this safe. Raises SlotActive, PositionGap, EnvironmentNotReady, ConnectionLost.
        """
        # A server that clears away a million files of an earlier decoding takes minutes to start.
        self._connection = connection = connect_to_source(
            self._dsn, replication=True, seconds=READING_SECONDS, stopping=self._stopping
        )
        try:
            self._identify(connection)
            if self._raw_text:
                leave_text_raw(connection)
            connection.add_notice_handler(self._on_notice)
            self._start(connection, start, self._options.slot_timeout if wait is None else wait)
        except psycopg.Error as error:
            self.close()
            raise source_error(error, _AT_START) from None
        except PycdcError:
            self.close()
            raise
        self._pg = connection.pgconn
        self._poll = select.poll()
        self._poll.register(self._pg.socket, select.POLLIN | _ENDED)
        self._encrypted = bool(self._pg.ssl_in_use or self._pg.used_gssapi)
        self._receive_watermark = ReceiveWatermark.of(self._pg.socket)
        self.last_message_at = time.monotonic()
        self._send_status(self.last_message_at)
        self._keeper = threading.Thread(target=self._keep, name="pycdc-status", daemon=True)
        self._keeper.start()

    def _identify(self, connection: Connection) -> None:
        row = connection.execute("IDENTIFY_SYSTEM").fetchone()
        assert row is not None
        self.systemid, self.timeline, self.database = str(row[0]), int(row[1]), str(row[3])
        self.server_version = connection.info.server_version
        row = connection.execute("SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'").fetchone()
        timeout = int(row[0]) / 1000 if row else 0.0
        # A quarter of the silence leaves the server time to answer before the connection counts as dead.
        limits = [self._options.status_interval, self._options.silence_timeout / 4]
        self._interval = min([*limits, timeout / 3] if timeout else limits)

    def _start(self, connection: Connection, start: Lsn, wait: float) -> None:
        if self._two_phase and self.server_version < 150_000:
            raise EnvironmentNotReady(
                "the server does not know two_phase, which is there since Postgres 15",
                hint="leave out source.postgres.two_phase: prepared transactions are delivered at their commit anyway",
            )
        command = start_replication(
            self._slot, start, self._publications, streaming=self._streaming, two_phase=self._two_phase
        )
        deadline = time.monotonic() + wait
        for delay in backoff(self._retries):
            try:
                cursor = connection.execute(command.encode())
            except psycopg.errors.ObjectInUse:
                pid = self._active_pid(connection)
                if time.monotonic() + delay >= deadline:
                    raise self._slot_active(pid) from None
                if self._closing.wait(delay):
                    raise ConnectionLost("closed while waiting for the slot") from None
                continue
            if cursor.pgresult is None or cursor.pgresult.status != ExecStatus.COPY_BOTH:
                raise ConnectionLost("the server did not start the stream")
            return

    def _active_pid(self, connection: Connection) -> int | None:
        query = sql.SQL("SELECT active_pid FROM pg_replication_slots WHERE slot_name = {}").format(self._slot)
        row = connection.execute(query).fetchone()
        return row[0] if row else None

    def _slot_active(self, pid: int | None) -> SlotActive:
        return SlotActive(
            f"slot {self._slot} is read by another session, pid {pid}",
            hint=f"stop the other pipeline; if nothing runs there any more: SELECT pg_terminate_backend({pid})",
        )

    def close(self) -> None:
        """Send the last confirmed position, end the stream and disconnect. Idempotent."""
        self._closing.set()
        if self._keeper is not None and self._keeper is not threading.current_thread():
            self._keeper.join()
            self._keeper = None
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is None:
                return
            streaming = connection.pgconn.status == psycopg.pq.ConnStatus.OK and self._status_at > 0
            try:
                if streaming and self._failure is None:
                    self._end(time.monotonic() + _DRAIN_SECONDS)
            except psycopg.Error as error:
                # The slot keeps what was confirmed before; nothing is lost by an end that the server did not hear.
                log.debug("stream did not end cleanly", slot=self._slot, error=type(error).__name__)
            finally:
                if self._receive_watermark is not None:
                    self._receive_watermark.close()
                connection.close()
                self._failure = self._failure or ConnectionLost("the stream was closed")

    def _end(self, deadline: float) -> None:
        # Waiting for the server's end of copy means that the slot is free when this returns.
        pg = self._pg
        if self._receive_watermark is not None:
            self._receive_watermark.rest()
        self._send_status(time.monotonic())
        pg.put_copy_end()
        pg.flush()
        copying = True
        while (left := deadline - time.monotonic()) > 0:
            if copying:
                size, _ = pg.get_copy_data(1)
                copying, waits = size >= 0, size == 0
            else:
                # A result that is not there yet is waited for without a limit, and the server may be half open.
                waits = bool(pg.is_busy())
                if not waits and pg.get_result() is None:
                    return
            if waits and (self._poll.poll(ceil(left * 1000)) or self._encrypted):
                pg.consume_input()

    def __enter__(self) -> ReplicationStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def require_open(self) -> None:
        """Raise ConnectionLost if the server has ended the connection, also where `read` did not notice that yet.

        This is for those who rely on the slot without reading, because it may be somebody else's by now.
        """
        if self._failure is None and any(events & _ENDED for _, events in self._poll.poll(0)):
            self._failure = ConnectionLost("the server ended the replication stream before it was read")
        if self._failure is not None and not self._reported:
            raise self._failure_reported(self._failure)

    def _failure_reported(self, failure: PycdcError) -> PycdcError:
        self._reported = True
        return failure

    # -- reading

    def read(self, max_messages: int, max_bytes: int, timeout: float) -> list[bytes]:
        """Whole XLogData messages in order: 'w', 24 bytes of header, payload. Empty when nothing came in `timeout`.

        Returns as soon as something was read and nothing more is there, and never more than the two bounds (the last
        message may exceed `max_bytes`). Keepalives are answered here. Raises what ended the stream, once what came
        before it has been returned.
        """
        with self._lock:
            if self._failure is not None:
                raise self._failure_reported(self._failure)
            frames: list[bytes] = []
            self._idle_after = -1
            try:
                self._fill(frames, max_messages, max_bytes, timeout)
            except psycopg.Error as error:
                self._failure = self._lost(error)
            except PycdcError as error:
                self._failure = error
            except BaseException:
                # A signal handler raised, and the frames read so far are gone: going on would skip them.
                self._failure = ConnectionLost("a read was interrupted")
                raise
            if self._skipped:
                self._failure = PositionGap(f"the server skips changes: {self._skipped}", hint=_TOO_LATE_HINT)
                raise self._failure_reported(self._failure)
            if frames:
                # Bytes compare as their big-endian LSNs do. The last frame need not have the highest: transactions
                # come in the order of their commits, and rows of the later may lie before the commit of the earlier.
                self.received = max(self.received, Lsn.from_bytes(max(frames)[1:9], "big"))
                if self._idle_after != len(frames):
                    self._idle = None
            elif self._failure is not None:
                raise self._failure_reported(self._failure)
            return frames

    def _fill(self, frames: list[bytes], max_messages: int, max_bytes: int, timeout: float) -> None:
        get, consume, append = self._pg.get_copy_data, self._pg.consume_input, frames.append
        now = time.monotonic()
        deadline = now + timeout
        if now >= self._status_due:
            self._send_status(now)
        space = max_bytes
        while True:
            before = space
            for _ in range(max_messages - len(frames)):
                length, data = get(1)
                if length <= 0:
                    break
                frame = bytes(data)
                space -= length
                if frame[0] == XLOG_DATA:
                    append(frame)
                    if space <= 0:
                        break
                else:
                    self._on_keepalive(frame, len(frames))
            else:
                break
            if length < 0:
                raise self._ended()
            if space <= 0:
                break
            if space == before and (frames or not self._await_bytes(deadline)):
                break
            # Even after messages were read: the kernel may hold more by now, and asking it costs less than a poll.
            consume()
        self._after_read(max_bytes - space)

    def _after_read(self, size: int) -> None:
        now = time.monotonic()
        if size:
            self.last_message_at = now
        if self._receive_watermark is not None:
            self._receive_watermark.arrived(size, now)
        if now >= self._status_due:
            self._send_status(now)

    def _on_keepalive(self, message: bytes, frames: int) -> None:
        if message[0] != KEEPALIVE:
            raise ProtocolError(f"message type {message[0]:#04x} in the replication stream")
        _, wal_end, _, reply_requested = _keepalive(message)
        self.server_wal_end = Lsn(max(self.server_wal_end, wal_end))
        self.received = Lsn(max(self.received, wal_end))
        self._idle, self._idle_after = Lsn(wal_end), frames
        if reply_requested:
            self._status_due = 0.0

    def _on_notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        # Postgres 18 leaves the rows of a missing publication out with a warning, where earlier ones stop.
        if diagnostic.source_function == "LoadPublications":
            self._skipped = diagnostic.message_primary or "a publication is missing"

    def _ended(self) -> PycdcError:
        result = self._pg.get_result()
        if result is not None and result.status == ExecStatus.FATAL_ERROR:
            return self._lost(psycopg.errors.error_from_result(result))
        return ConnectionLost("the server ended the replication stream")

    def _lost(self, error: psycopg.Error) -> PycdcError:
        if not self._streaming:
            return source_error(error, _IN_STREAM)
        self.cannot_stream = error.sqlstate in _IN_PROGRESS
        return source_error(error, _IN_STREAM | _IN_PROGRESS)

    def _await_bytes(self, deadline: float) -> bool:
        """Wait until there may be bytes to consume, minding the timers; False at the deadline."""
        poll = self._poll.poll
        while True:
            now = time.monotonic()
            if now >= self._status_due:
                self._send_status(now)
            if self._receive_watermark is not None and self._receive_watermark.lowat > 1:
                if not poll(GATHER_POLL_MS):
                    self._receive_watermark.rest()
                return True
            left = min(deadline, self._status_due) - now
            milliseconds = ceil(left * 1000) if left > 0 else 0
            if poll(min(milliseconds, _TLS_POLL_MS) if self._encrypted else milliseconds):
                self.last_message_at = time.monotonic()
                return True
            now = time.monotonic()
            self._check_silence(now)
            if now >= deadline:
                return False
            if self._encrypted:
                return True  # the TLS library may hold bytes that poll() cannot see

    @property
    def high_throughput(self) -> bool:
        """Whether changes come in faster than each could be dealt with alone."""
        return self._receive_watermark is not None and self._receive_watermark.high_throughput

    # -- positions and status

    @property
    def idle_position(self) -> Lsn | None:
        """The WAL end of the newest keepalive if no XLogData came after it. Safe to confirm if nothing is in flight."""
        return self._idle

    @property
    def confirmed(self) -> Lsn:
        """The flush position that is reported; 0 until the first `confirm`."""
        return Lsn(self._flushed)

    def confirm(self, lsn: Lsn) -> None:
        """Report `lsn` as flushed: at once if the last status is 100 ms old, else with the next.

        Never moves back, and never beyond `received`. May be called from any thread.
        """
        position = min(lsn, self.received)
        if position <= self._flushed:
            return
        self._flushed = position
        self._status_due = min(self._status_due, self._status_at + _CONFIRM_SPACING)
        self._send_if_due()

    def _send_if_due(self) -> bool:
        """Send status unless another thread owns the socket, which then minds the timer itself."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            now = time.monotonic()
            if now >= self._status_due and self._failure is None and self._connection is not None:
                self._send_status(now)
        except psycopg.Error as error:
            self._failure = source_error(error, _IN_STREAM)
        finally:
            self._lock.release()
        return True

    def _keep(self) -> None:
        while not self._closing.wait(max(self._status_due - time.monotonic(), _KEEPER_PAUSE)):
            if not self._send_if_due() and self._closing.wait(self._interval / 4):
                return

    def _send_status(self, now: float) -> None:
        """Never waits: a full send buffer means that the server has status messages enough to read."""
        silent = now - self.last_message_at >= self._options.silence_timeout / 2
        ask = silent and self._asked_at <= self.last_message_at
        clock = int((time.time() - _POSTGRES_EPOCH) * 1e6)
        message = _status(b"r", self.received, self._flushed, self._flushed, clock, ask)
        if self._pg.put_copy_data(message) == 0:
            self._status_due = now + _KEEPER_PAUSE
            return
        self._pg.flush()
        self._status_at, self._status_due = now, now + self._interval
        if ask:
            self._asked_at = now

    def _check_silence(self, now: float) -> None:
        """Judge the silence when nothing can be read. It counts only once the server was asked to answer."""
        limit = self._options.silence_timeout
        if self._asked_at <= self.last_message_at or now - self._asked_at < limit / 2:
            return
        silent = now - self.last_message_at
        # While it sorts a large transaction it neither sends nor answers, and another session would begin that anew.
        if self._connection is not None and is_working(self._dsn, self._connection.info.backend_pid):
            log.warning("the server decodes a large transaction", slot=self._slot, silent=round(silent), hint=_SPILLS)
            self._asked_at = time.monotonic()
            return
        raise ConnectionLost(
            f"the server sent nothing for {silent:.0f} s, not even the answer asked for", hint="check the network"
        )
