"""The old tables themselves, and the fence around both systems' tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from pycdc.clients.postgres_sessions import READING_SECONDS, connect_to_source
from pycdc.errors import EnvironmentNotReady
from pycdc.operations.cutover import fence
from pycdc.operations.cutover.sides import Side
from pycdc.operations.decommission.archive import Archived, archive
from pycdc.operations.decommission.remnant import OnProgress, Remnant

_LOCK_SECONDS: Final = 10.0
_THERE: Final = "SELECT to_regclass(%s) IS NOT NULL"


class TableRemnants:
    """The old system's tables. They are archived and dropped in one transaction, with their triggers."""

    name = "tables"

    def __init__(self, old: Side, folder: Path | None, archived: Callable[[Archived], None]) -> None:
        self._old = old
        self._folder = folder
        self._archived = archived

    def kept(self) -> list[Remnant]:
        return []

    def present(self) -> list[Remnant]:
        return [Remnant("table", ".".join(table)) for table in self._there()]

    def remove(self, on_progress: OnProgress) -> None:
        tables = self._there()
        if not tables:
            return
        with (
            connect_to_source(self._old.dsn, seconds=READING_SECONDS) as connection,
            fence.locked(connection, tables, _LOCK_SECONDS, "ACCESS EXCLUSIVE"),
        ):
            if self._folder is not None:
                for table in tables:
                    found = archive(connection, table, self._folder)
                    self._archived(found)
                    on_progress(f"archived {found.rows} rows of {found.table}: {found.file}")
            names = sql.SQL(", ").join(sql.Identifier(*table) for table in tables)
            try:
                connection.execute(sql.SQL("DROP TABLE {}").format(names))
            except psycopg.errors.DependentObjectsStillExist as error:
                raise EnvironmentNotReady(
                    f"something depends on the tables: {error.diag.message_detail}", hint="drop it, and try again"
                ) from None
        on_progress(f"dropped {', '.join('.'.join(table) for table in tables)}")

    def _there(self) -> list[tuple[str, str]]:
        return [table for table in self._old.tables if _exists(self._old.connection, table)]


class FenceRemnants:
    """Triggers of the fence on the new system's tables, and its function on both sides once no trigger calls it."""

    name = "fence"

    def __init__(self, old: Side, new: Side) -> None:
        self._old, self._new = old, new

    def kept(self) -> list[Remnant]:
        if self.present():
            return []
        sides = [side for side in (self._old, self._new) if fence.installed(side.connection)]
        return [Remnant("function", _function(side), "other groups use it") for side in sides]

    def present(self) -> list[Remnant]:
        found = [
            Remnant("trigger", f"{kind} on {'.'.join(table)}")
            for table in self._new.tables
            for kind in fence.present(self._new.connection, table)
        ]
        for side in (self._old, self._new):
            if fence.installed(side.connection) and not fence.needed(side.connection):
                found.append(Remnant("function", _function(side)))
        return found

    def remove(self, on_progress: OnProgress) -> None:
        fence.remove(self._new.connection, self._new.tables, _LOCK_SECONDS)
        for side in (self._old, self._new):
            fence.uninstall(side.connection)
            on_progress(f"removed the fence of the {side.name} database")


def _exists(connection: psycopg.Connection[Any], table: tuple[str, str]) -> bool:
    return connection.execute(_THERE, (sql.Identifier(*table).as_string(connection),)).fetchone() == (True,)


def _function(side: Side) -> str:
    return f"pycdc_cutover.refuse() of the {side.name} database"
