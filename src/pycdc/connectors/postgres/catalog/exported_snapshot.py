"""A snapshot of the source that outlives the session that made it."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

import psycopg
from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_errors import source_error
from pycdc.errors import ConnectionLost
from pycdc.model.change import Lsn


@dataclass(frozen=True, slots=True)
class CreatedSlot:
    """Every transaction that commits after `consistent_point` is decoded, none before."""

    name: str
    consistent_point: Lsn


class ExportedSnapshot:
    """The rows as they were at a slot's consistent point, for other sessions to import by `name` until `close`.

    The walsender's own export dies with the next command on its connection, so that connection cannot be kept alive
    through a long snapshot; an ordinary transaction takes the snapshot over, and `ping` keeps it alive.
    """

    def __init__(self, slot: CreatedSlot, name: str, holder: Connection) -> None:
        self.slot = slot
        self.name = name
        self._holder = holder

    def ping(self) -> None:
        """Keep firewalls from forgetting the connection. Raises ConnectionLost where the snapshot is gone."""
        try:
            self._holder.execute("SELECT 1")
        except psycopg.Error as error:
            self.close()
            raise ConnectionLost(
                f"the exported snapshot is gone: {source_error(error).fact}", hint="take the snapshot again"
            ) from None

    def close(self) -> None:
        self._holder.close()

    def __enter__(self) -> ExportedSnapshot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def take_over(holder: Connection, exported: str) -> str:
    """Begin a transaction in an exported snapshot; return the name under which it exports that again.

    Raises psycopg.Error.
    """
    holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    holder.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(exported))
    row = holder.execute("SELECT pg_export_snapshot()").fetchone()
    assert row is not None
    return str(row[0])
