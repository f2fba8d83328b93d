"""Commands in the walsender's own grammar, which knows no parameters and no E'' strings; and what one is doing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import psycopg
from psycopg import conninfo

from pycdc.clients.postgres_errors import source_error
from pycdc.clients.postgres_sessions import connect_to_source
from pycdc.errors import PycdcError
from pycdc.model.change import Lsn

_WORKING: Final = """SELECT FROM pg_stat_activity
WHERE pid = %s AND state = 'active' AND wait_event_type IS DISTINCT FROM 'Activity'
    AND wait_event_type IS DISTINCT FROM 'Client'"""
_SECONDS: Final = 3


def is_working(dsn: str, pid: int) -> bool:
    """Return whether the walsender is busy, and waits neither for WAL nor for its reader; False without an answer.

    Then its silence has a reason.
    """
    try:
        with connect_to_source(conninfo.make_conninfo(dsn, connect_timeout=_SECONDS), seconds=_SECONDS) as connection:
            return connection.execute(_WORKING, (pid,)).fetchone() is not None
    except (psycopg.Error, PycdcError):
        return False


def enable_failover(dsn: str, slot: str) -> None:
    """Make a slot that nobody reads one that comes along to standbys (Postgres 17). Raises PycdcError."""
    connection = connect_to_source(dsn, replication=True, seconds=_SECONDS)
    try:
        connection.execute(f"ALTER_REPLICATION_SLOT {_identifier(slot)} (FAILOVER true)".encode())
    except psycopg.Error as error:
        raise source_error(error) from None
    finally:
        connection.close()


def start_replication(
    slot: str,
    start: Lsn,
    publications: Sequence[str],
    *,
    messages: bool = True,
    streaming: bool = False,
    two_phase: bool = False,
) -> str:
    """START_REPLICATION for pgoutput, of servers from Postgres 14 on; `two_phase` from 15 on."""
    options = {
        "proto_version": "3" if two_phase else "2" if streaming else "1",
        "publication_names": ",".join(map(_identifier, publications)),
    }
    if messages:
        options["messages"] = "true"
    if streaming:
        options["streaming"] = "on"
    if two_phase:
        options["two_phase"] = "on"
    listed = ", ".join(f"{name} {_string(value)}" for name, value in options.items())
    return f"START_REPLICATION SLOT {_identifier(slot)} LOGICAL {start} ({listed})"


def create_slot(name: str, *, version: int, export: bool, failover: bool = False, temporary: bool = False) -> str:
    """CREATE_REPLICATION_SLOT for pgoutput; `version` is server_version_num."""
    command = f"CREATE_REPLICATION_SLOT {_identifier(name)}{' TEMPORARY' if temporary else ''} LOGICAL pgoutput"
    if version < 150_000:
        return f"{command} {'EXPORT' if export else 'NOEXPORT'}_SNAPSHOT"
    options = f"SNAPSHOT '{'export' if export else 'nothing'}'"
    return f"{command} ({options}, FAILOVER true)" if failover else f"{command} ({options})"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _string(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
