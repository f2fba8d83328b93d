"""Roles that only the group's pipelines needed. What a role owns, and sessions of it, keep it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg import sql

from pycdc.operations.cutover.sides import Side
from pycdc.operations.decommission.remnant import OnProgress, Remnant

_THERE: Final = "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s) ORDER BY 1"
_OBSTACLE: Final = """SELECT CASE
    WHEN rolname = session_user THEN 'this command connects as it'
    WHEN EXISTS (SELECT FROM pg_stat_activity WHERE usename = rolname) THEN 'sessions of it are open'
    WHEN EXISTS (SELECT FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = r.oid
        AND deptype = 'o') THEN 'it owns something: REASSIGN OWNED BY it'
    END FROM pg_roles r WHERE rolname = %s"""


class RoleRemnants:
    """`roles` are those of each side. Two databases of one server share their roles."""

    name = "roles"

    def __init__(self, sides: Sequence[tuple[Side, list[str]]]) -> None:
        self._sides = sides
        self._reasons: dict[str, str] = {}

    def kept(self) -> list[Remnant]:
        return []

    def present(self) -> list[Remnant]:
        names = {name for side, roles in self._sides for (name,) in side.connection.execute(_THERE, (roles,))}
        return [Remnant("role", name, self._reasons.get(name, "")) for name in sorted(names)]

    def remove(self, on_progress: OnProgress) -> None:
        for statement in (
            "DROP OWNED BY {}",
            "DROP ROLE {}",
        ):  # what they were granted in both, before either is dropped
            for side, roles in self._sides:
                for (role,) in side.connection.execute(_THERE, (roles,)).fetchall():
                    if self._run(side.connection, statement, role) and statement.startswith("DROP ROLE"):
                        on_progress(f"dropped role {role}")

    def _run(self, connection: psycopg.Connection[Any], statement: str, role: str) -> bool:
        """Return whether it was done; if not, remember why."""
        row = connection.execute(_OBSTACLE, (role,)).fetchone()
        reason = None if row is None else row[0]
        if reason is None:
            try:
                connection.execute(sql.SQL(statement).format(sql.Identifier(role)))
            except psycopg.errors.InsufficientPrivilege:
                reason = f"this command's role may not drop it: a superuser can DROP OWNED BY {role}, DROP ROLE {role}"
            except psycopg.errors.DependentObjectsStillExist as error:
                reason = f"{error.diag.message_primary}: {error.diag.message_detail}"
        if reason is not None:
            self._reasons[role] = reason
        return reason is None
