"""Postgres for tests: a server that logical replication can read, in as many versions as there are."""

from __future__ import annotations

import itertools
import signal
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from .availability import ServerFailed, Unavailable
from .installations import Installation, reachable
from .process import Control, ServerProcess, free_port, run, temporary_folder, unprivileged_account, wait_until_ready

VARIABLE = "PYCDC_TEST_POSTGRES"
START_SECONDS = 60.0
DATA = "data"
STANDBY = "standby"
"""The slot of a physical standby, at its primary."""

SETTINGS = {
    "wal_level": "logical",
    "max_wal_senders": "64",
    "max_replication_slots": "64",
    "max_connections": "200",
    "max_prepared_transactions": "20",
    "track_commit_timestamp": "on",
    # The machine does not lose its power in a test; a server that is killed keeps what the kernel has.
    "fsync": "off",
    "full_page_writes": "off",
    # What is written lies in memory, as the files do.
    "max_wal_size": "256MB",
    # In the data folder, so that a server that was killed leaves nothing in /dev/shm.
    "dynamic_shared_memory_type": "mmap",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "timezone": "UTC",
}

STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class PostgresServer:
    """A Postgres that somebody else runs: databases can be made in it, but it cannot be stopped or configured."""

    def __init__(self, conninfo: str, version: str, *, contrib: bool) -> None:
        self._conninfo = conninfo
        self.version = version
        self.contrib = contrib
        self._names = (f"t{uuid.uuid4().hex[:6]}_{number}" for number in itertools.count(1))
        self._origins: dict[str, set[str]] = {}

    def __repr__(self) -> str:
        return f"<Postgres {self.version}>"

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, for a proxy."""
        parts = conninfo_to_dict(self._conninfo)
        return str(parts.get("host", "127.0.0.1")), int(parts.get("port") or 5432)

    def dsn(self, dbname: str = "postgres", **parameters: Any) -> str:
        """A connection string, with what else libpq takes: ``dsn("shop", port=proxy.port, user="reader")``."""
        return make_conninfo(self._conninfo, dbname=dbname, **parameters)

    def psql(self, query: str, parameters: Sequence[Any] | None = None, *, dbname: str = "postgres") -> list[Any]:
        """The rows of ``query``, run outside a transaction; none for a command. Several go without parameters only."""
        with self._connection(dbname) as connection:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

    def create_database(self, copied: str | None = None) -> str:
        """Make a database with a name of its own; its DSN. ``drop_database`` takes either.

        `copied` is the DSN of one that it is a copy of, which nobody is connected to.
        """
        name = next(self._names)
        template = "template1" if copied is None else str(conninfo_to_dict(copied)["dbname"])
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        if self.major >= 15:  # by files, of which none is written to the WAL: a fifth less CPU for each test
            create += sql.SQL(" STRATEGY file_copy")
        with self._connection() as connection:
            self._origins[name] = _origin_names(connection)
            connection.execute(create)
        return self.dsn(name)

    def drop_database(self, dsn_or_name: str) -> None:
        """Drop a database with all that holds on to it.

        That is its connections, walsenders, slots, prepared transactions and subscriptions, and the replication origins
        that were made since.
        """
        name = database_name(dsn_or_name) if "=" in dsn_or_name else dsn_or_name
        with self._connection() as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchall():
                return
            self._forget_prepared_and_subscriptions(connection, name)
            # A client that reconnects for ever must not come back in between.
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
            _drop_slots(connection, name)
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
            origins = _origin_names(connection)
            for origin in origins - self._origins.pop(name, origins):
                connection.execute("SELECT pg_replication_origin_drop(%s)", [origin])

    def _forget_prepared_and_subscriptions(self, connection: psycopg.Connection[Any], name: str) -> None:
        for (gid,) in connection.execute("SELECT gid FROM pg_prepared_xacts WHERE database = %s", [name]).fetchall():
            self._run(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)), dbname=name)
        subscriptions = (
            "SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE datname = %s"
        )
        for (subscription,) in connection.execute(subscriptions, [name]).fetchall():
            quoted = sql.Identifier(subscription)
            for command in ("DISABLE", "SET (slot_name = NONE)"):
                self._run(sql.SQL("ALTER SUBSCRIPTION {} " + command).format(quoted), dbname=name)
            self._run(sql.SQL("DROP SUBSCRIPTION {}").format(quoted), dbname=name)

    def _run(self, command: sql.Composed, *, dbname: str = "postgres") -> None:
        with self._connection(dbname) as connection:
            connection.execute(command)

    def _connection(self, dbname: str = "postgres") -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn(dbname), autocommit=True)

    # What only our own server can do.

    def stop(self, mode: str = "fast", *, timeout: float = 30.0) -> None:
        raise self._not_ours()

    def start(self) -> None:
        raise self._not_ours()

    def kill(self) -> None:
        raise self._not_ours()

    def restart_immediate(self) -> None:
        raise self._not_ours()

    def configure(self, **settings: str | int | None) -> None:
        raise self._not_ours()

    def log_text(self) -> str:
        raise self._not_ours()

    def heal(self) -> None:
        """Nothing to heal: a server that is not ours was not touched."""

    def close(self) -> None:
        """Nothing to close."""

    def _not_ours(self) -> Unavailable:
        return Unavailable(f"the Postgres of {VARIABLE} is not ours to stop or configure")


class Postgres(PostgresServer):
    """A Postgres of our own, as a process or in a container."""

    def __init__(
        self, control: Control, *, port: int, version: str, contrib: bool, socket_folder: Path | None = None
    ) -> None:
        super().__init__(make_conninfo(host="127.0.0.1", port=port, user="postgres"), version, contrib=contrib)
        self.control = control
        self.port = port
        self.socket_folder = socket_folder
        """Where the Unix socket is: ``dsn("shop", host=postgres.socket_folder)``. ``None`` in a container."""
        self._configured = False

    def start(self) -> None:
        """Start and wait until it answers.

        A server that was killed leaves backends, and another may start only when these have seen it and ended.
        """
        deadline = time.monotonic() + START_SECONDS
        while True:
            self.control.start()
            try:
                wait_until_ready(self.control, self._answers, name=repr(self), timeout=START_SECONDS)
                return
            except ServerFailed as failure:
                if "shared memory block" not in str(failure) or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def stop(self, mode: str = "fast", *, timeout: float = 30.0) -> None:
        """Stop as ``pg_ctl stop -m smart|fast|immediate`` does; ``TimeoutError`` after ``timeout`` seconds."""
        self.control.signal(STOP_SIGNALS[mode])
        self.control.wait(timeout)

    def kill(self) -> None:
        """SIGKILL to the postmaster: the backends see it and end."""
        self.control.signal(signal.SIGKILL)
        self.control.wait(10)

    def restart_immediate(self) -> None:
        """As after a crash: without a checkpoint, with recovery."""
        self.stop("immediate")
        self.start()

    def configure(self, **settings: str | int | None) -> None:
        """``ALTER SYSTEM SET``, then reload, or restart if a setting needs it. ``None`` resets. ``heal`` undoes it."""
        for name, value in settings.items():
            change = sql.SQL("RESET {}") if value is None else sql.SQL("SET {} = {}")
            parts = [sql.Identifier(name)] if value is None else [sql.Identifier(name), sql.Literal(value)]
            self._run(sql.SQL("ALTER SYSTEM ") + change.format(*parts))
        self._configured = True
        self._reload()

    def log_text(self) -> str:
        return self.control.log_text()

    def heal(self) -> None:
        """Running again and configured as at first, whatever a test did."""
        if not self.control.running or not self._answers():
            self.control.signal(signal.SIGCONT)
            self.start()
        if self._configured:
            self.psql("ALTER SYSTEM RESET ALL")
            self._reload()
            self._configured = False

    def close(self) -> None:
        # Immediate: nobody will ask for the data again, and a fast stop waits for walsenders.
        self.control.signal(signal.SIGQUIT)
        self.control.close()

    def _reload(self) -> None:
        loaded = self.psql("SELECT pg_conf_load_time()")
        self.psql("SELECT pg_reload_conf()")
        wait_until_ready(
            self.control, lambda: self.psql("SELECT pg_conf_load_time()") != loaded, name="reload", timeout=10
        )
        if self.psql("SELECT 1 FROM pg_settings WHERE pending_restart"):
            self.stop()
            self.start()

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.dsn(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def _origin_names(connection: psycopg.Connection[Any]) -> set[str]:
    return {name for (name,) in connection.execute("SELECT roname FROM pg_replication_origin")}


def _drop_slots(connection: psycopg.Connection[Any], database: str, timeout: float = 20.0) -> None:
    of_database = "SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = %s"
    deadline = time.monotonic() + timeout
    while slots := connection.execute(of_database, [database]).fetchall():
        for slot, pid in slots:
            if pid is not None:
                connection.execute("SELECT pg_terminate_backend(%s)", [pid])
                continue
            try:
                connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])
            except (psycopg.errors.ObjectInUse, psycopg.errors.UndefinedObject):
                continue  # taken, or gone, since it was listed
        if time.monotonic() > deadline:
            raise ServerFailed(f"slots of {database} are still in use: {', '.join(slot for slot, _ in slots)}")
        time.sleep(0.02)


def database_name(dsn: str) -> str:
    """The name in the DSN that ``create_database`` gave."""
    return str(conninfo_to_dict(dsn)["dbname"])


def launch_installed(installation: Installation) -> Postgres:
    """``initdb`` in a folder of its own and start. As root, another user runs it: Postgres refuses to run as root."""
    account = unprivileged_account()
    programs = reachable(installation, account)
    folder = temporary_folder("postgres", account)
    initdb = [str(programs / "initdb"), "-D", str(folder / DATA), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
    code, output = run([*initdb, "--no-locale", "--no-sync"], cwd=folder, timeout=120, account=account)
    if code != 0:
        raise ServerFailed(f"initdb of Postgres {installation.version} failed:\n{output}")
    return _launch(installation, folder, free_port(), SETTINGS)


def launch_standby(primary: Postgres, installation: Installation, place: socket.socket, **settings: str) -> Postgres:
    """Start a physical standby of ``primary``, by a base backup. It reads the slot `STANDBY`, which this makes.

    ``place`` holds its port until it is started.
    """
    account = unprivileged_account()
    programs = reachable(installation, account)
    folder = temporary_folder("standby", account)
    backup = [str(programs / "pg_basebackup"), "-D", str(folder / DATA), "-d", primary.dsn()]
    backup += ["--create-slot", "--slot", STANDBY, "--write-recovery-conf", "--checkpoint", "fast", "--no-sync"]
    code, output = run(backup, cwd=folder, timeout=120, account=account)
    if code != 0:
        raise ServerFailed(f"pg_basebackup of Postgres {installation.version} failed:\n{output}")
    port = place.getsockname()[1]
    place.close()
    return _launch(installation, folder, port, settings)


def _launch(installation: Installation, folder: Path, port: int, settings: Mapping[str, str]) -> Postgres:
    """Start what is in the folder, with settings of its own behind those that it has."""
    account = unprivileged_account()
    own = {"port": str(port), "listen_addresses": "127.0.0.1", "unix_socket_directories": str(folder)}
    with (folder / DATA / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in {**settings, **own}.items())
    control = ServerProcess(
        [str(reachable(installation, account) / "postgres"), "-D", str(folder / DATA)],
        log=folder / "postgres.log",
        cwd=folder,
        account=account,
        end_signal=signal.SIGQUIT,
    )
    return started(
        Postgres(control, port=port, version=installation.version, contrib=installation.contrib, socket_folder=folder)
    )


def started(server: Postgres) -> Postgres:
    """Start it, and leave nothing behind if that fails."""
    try:
        server.start()
    except BaseException:
        server.close()
        raise
    return server
