"""What `pycdc doctor` asks about conflicts. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.config.postgres_sink import ConflictRule, PostgresSinkConfig
from pycdc.errors import ConfigError
from pycdc.model.origin import pipeline_of_origin
from pycdc.sinks.postgres.conflicts.policy import detection, imported, mismatches
from pycdc.sinks.postgres.conflicts.setup import tracks_commits
from pycdc.sinks.postgres.replication_origin import origin_granted
from pycdc.sinks.postgres.target_tables import TargetTable

_ORIGIN_FUNCTIONS = ("create(text)", "oid(text)", "session_setup(text)", "xact_reset()")


@dataclass(frozen=True, slots=True)
class ConflictInspection:
    """`wrong`: routes by number, facts and remedies. `by_origin`: tables whose conflicts are seen by the last writer.

    `lacking` is what that needs and is not there, with what mends it; None where all is there. `crowded`: there may be
    no replication origin left for the pipeline's sessions.
    """

    wrong: tuple[tuple[int, str, str], ...]
    by_origin: tuple[str, ...]
    lacking: tuple[str, str] | None
    crowded: tuple[str, str] | None = None


def inspect_conflicts(
    connection: Connection, settings: PostgresSinkConfig, pipeline: str, tables: Mapping[str, TargetTable]
) -> ConflictInspection:
    """Inspect the rules. `tables` are by their names in the routes; those that do not exist are left out."""
    lacking = _lacking(connection)
    wrong, by_origin = [], []
    for orders, table in _by_table(settings, tables):
        rule = settings.routes[orders[0]].conflict
        if detection(rule or ConflictRule(), by_origin=True) == "origin":
            by_origin.append(str(table))
        routes = [settings.routes[order] for order in orders]
        found = [*mismatches(routes, orders, table, by_origin=lacking is None), *_not_imported(rule)]
        wrong += [(orders[0], fact, remedy) for fact, remedy in found]
    return ConflictInspection(tuple(wrong), tuple(by_origin), lacking, _crowded(connection, pipeline))


def _by_table(
    settings: PostgresSinkConfig, tables: Mapping[str, TargetTable]
) -> Iterator[tuple[list[int], TargetTable]]:
    orders: dict[str, list[int]] = {}
    for order, route in enumerate(settings.routes):
        if route.table in tables:
            orders.setdefault(str(tables[route.table]), []).append(order)
    for each in orders.values():
        yield each, tables[settings.routes[each[0]].table]


def _not_imported(rule: ConflictRule | None) -> Iterator[tuple[str, str]]:
    try:
        imported(None if rule is None else rule.function)
    except ConfigError as error:
        yield error.fact, error.hint


def _crowded(connection: Connection, pipeline: str) -> tuple[str, str] | None:
    """Each origin that is used has a place in memory, and keeps it."""
    setting = "max_active_replication_origins" if connection.info.server_version >= 180_000 else "max_replication_slots"
    row = connection.execute("SELECT current_setting(%s)::integer", (setting,)).fetchone()
    most = 0 if row is None else row[0]
    names = [name for (name,) in connection.execute("SELECT roname FROM pg_replication_origin")]
    others = [name for name in names if pipeline_of_origin(name) != pipeline]
    if len(others) < most or len(names) > len(others):
        return None
    return (
        f"there are {len(others)} replication origins, and {setting} is {most}: the pipeline's sessions may get none, "
        "and then conflicts are not seen by a row's last writer",
        f"raise {setting} (it needs a restart), or drop origins that nobody uses: SELECT pg_replication_origin_drop(…)",
    )


def _lacking(connection: Connection) -> tuple[str, str] | None:
    if not tracks_commits(connection):
        return (
            "track_commit_timestamp is off",
            "ALTER SYSTEM SET track_commit_timestamp = on; -- and restart the server",
        )
    if not origin_granted(connection):
        role = sql.Identifier(connection.info.user).as_string(connection)
        functions = ", ".join(f"pg_replication_origin_{name}" for name in _ORIGIN_FUNCTIONS)
        return (
            f"role {connection.info.user} may set no replication origin",
            f"GRANT EXECUTE ON FUNCTION {functions} TO {role};",
        )
    return None
