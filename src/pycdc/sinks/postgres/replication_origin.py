"""A replication origin for the session, where the role may have one. The logical message marks transactions anyway."""

from __future__ import annotations

from typing import Final

import psycopg

from pycdc.clients.postgres import Connection
from pycdc.model.origin import origin_name
from pycdc.observability.logger import get_logger

log = get_logger()

_WORKERS: Final = 32
"""Processes of one pipeline that may have an origin; further ones do without."""
_GRANTED: Final = """SELECT count(*) FILTER (WHERE has_function_privilege(oid, 'execute')) = count(*)
FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
    AND proname IN ('pg_replication_origin_create', 'pg_replication_origin_oid',
        'pg_replication_origin_session_setup', 'pg_replication_origin_xact_reset')"""
_CREATE: Final = "SELECT pg_replication_origin_create(%s) WHERE pg_replication_origin_oid(%s) IS NULL"
_SET_UP: Final = "SELECT pg_replication_origin_session_setup(%s)"


def origin_granted(connection: Connection) -> bool:
    """Return whether the role may set up origins."""
    row = connection.execute(_GRANTED).fetchone()
    connection.commit()
    return row is not None and bool(row[0])


def set_up_origin(connection: Connection, pipeline: str) -> str | None:
    """Give the session the first origin of the pipeline that nobody uses; its name, or None without the right to it."""
    for worker in range(_WORKERS if origin_granted(connection) else 0):
        name = origin_name(pipeline, worker)
        try:
            connection.execute(_CREATE, (name, name))
            connection.commit()
            connection.execute(_SET_UP, (name,))
            connection.commit()
        except psycopg.errors.ObjectInUse:
            connection.rollback()
        except psycopg.errors.UniqueViolation:
            connection.rollback()  # another process made it in this moment, and will use it
        except psycopg.errors.Error as error:
            connection.rollback()
            log.warning(
                "the session gets no replication origin: conflicts are not seen by a row's last writer",
                sqlstate=error.sqlstate,
                remedy="raise max_replication_slots (max_active_replication_origins since Postgres 18), which needs a "
                "restart, or drop replication origins and slots that nobody uses",
            )
            return None
        else:
            return name
    return None
