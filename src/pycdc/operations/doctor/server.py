"""The Postgres server, and what the role may do with it."""

from __future__ import annotations

from collections.abc import Iterator

from pycdc.clients.quoting import quoted
from pycdc.connectors.postgres.catalog.metadata import ServerMetadata, SlotMetadata
from pycdc.connectors.postgres.catalog.privileges import RoleMetadata
from pycdc.errors import PycdcError
from pycdc.operations.doctor.finding import Finding, failed, ok, warning
from pycdc.operations.humanize import duration
from pycdc.printable import lines

DSN = "source.postgres.dsn"
_NEWEST_TESTED = 18
_MAX_SKEW = 1.0


def server_findings(server: ServerMetadata) -> Iterator[Finding]:
    major = server.version // 10_000
    where = f"database {server.database}, role {server.role}"
    if major > _NEWEST_TESTED:
        yield warning(f"Postgres {major} is newer than what pycdc was tested with", where, path=DSN)
    else:
        yield ok(f"Postgres {major}.{server.version % 10_000} answers", where)
    if server.wal_level == "logical":
        yield ok("wal_level is logical")
    else:
        yield failed(
            f"wal_level is {server.wal_level}, and must be logical",
            path=DSN,
            fix=lines("ALTER SYSTEM SET wal_level = 'logical';", "-- then restart the server"),
        )
    if server.in_recovery and major < 16:
        yield failed("the server is a standby", "those decode only since Postgres 16", path=DSN, fix="use the primary")
    elif server.in_recovery:
        yield warning("the server is a standby", "publications are made on the primary", path=DSN)
    if server.encoding == "SQL_ASCII":
        yield warning(
            "the database has no encoding (SQL_ASCII)",
            "text that is not UTF-8 is treated as values.encoding_errors says",
            path="values.encoding_errors",
        )
    else:
        yield ok(f"the encoding is {server.encoding}")


def headroom_findings(server: ServerMetadata, role: RoleMetadata, slot: SlotMetadata | None) -> Iterator[Finding]:
    """Our own slot and walsender count as there for us."""
    free = server.max_replication_slots - server.used_replication_slots
    if slot is not None or free > 0:
        yield ok("there are replication slots", f"{free} of {server.max_replication_slots} free")
    else:
        yield failed(
            f"all {server.max_replication_slots} replication slots are in use",
            path="source.postgres.slot",
            fix=lines(
                f"ALTER SYSTEM SET max_replication_slots = {server.max_replication_slots + 5};",
                "-- then restart the server; or drop a slot that nobody needs (pg_replication_slots lists them)",
            ),
        )
    free = server.max_wal_senders - role.used_wal_senders
    if (slot is not None and slot.active_pid is not None) or free > 0:
        yield ok("there are WAL senders", f"{free} of {server.max_wal_senders} free")
    else:
        yield failed(
            f"all {server.max_wal_senders} WAL senders are in use",
            path=DSN,
            fix=lines(
                f"ALTER SYSTEM SET max_wal_senders = {server.max_wal_senders + 5};", "-- then restart the server"
            ),
        )


def replication_finding(role: RoleMetadata, refusal: PycdcError | None) -> Finding:
    if refusal is None:
        return ok(f"role {role.name} may replicate")
    fix = refusal.hint
    if "REPLICATION" in fix:
        name = quoted(role.name)
        fix = lines(f"ALTER ROLE {name} REPLICATION;", f"-- on Amazon RDS: GRANT rds_replication TO {name};")
    return failed(f"role {role.name} cannot open a replication connection", refusal.fact, path=DSN, fix=fix)


def clock_finding(ahead: float) -> Finding:
    """`ahead` is in seconds; lag is the difference of two machines' clocks."""
    if abs(ahead) <= _MAX_SKEW:
        return ok("the clocks agree", f"within {duration(abs(ahead))}")
    direction = "ahead of" if ahead > 0 else "behind"
    return warning(
        f"the server's clock is {duration(abs(ahead))} {direction} this machine's",
        "lag in seconds will be wrong by that",
        fix="synchronise both clocks (NTP)",
    )
