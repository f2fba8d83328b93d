"""What a sink's rules for conflicts need of its session and server, asked once."""

from __future__ import annotations

from collections.abc import Mapping

from pycdc.clients.postgres import Connection
from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.sinks.postgres.conflicts.conflict_table import ConflictTable
from pycdc.sinks.postgres.conflicts.policy import policies
from pycdc.sinks.postgres.conflicts.resolver import ConflictResolver
from pycdc.sinks.postgres.conflicts.write_times import WriteTimes
from pycdc.sinks.postgres.target_tables import TargetTable


def set_up_conflicts(
    connection: Connection,
    settings: PostgresSinkConfig,
    pipeline: str,
    tables: Mapping[str, TargetTable],
    origin: str | None,
) -> ConflictResolver:
    """Make the resolver of a sink. `origin` is the session's. Raises PycdcError where a rule cannot be kept."""
    by_origin = origin is not None and tracks_commits(connection)
    journal = ConflictTable(pipeline, settings.bookkeeping, settings.conflicts)
    times = WriteTimes(pipeline, settings.bookkeeping, settings.conflicts.seconds)
    rules = policies(settings, tables, by_origin=by_origin)
    return ConflictResolver(pipeline, rules, journal.since(connection), journal, times)


def tracks_commits(connection: Connection) -> bool:
    """Return whether the server knows who wrote a row last."""
    row = connection.execute("SELECT current_setting('track_commit_timestamp')").fetchone()
    connection.commit()
    return row is not None and row[0] == "on"
