"""Whether the slot would come along where a standby is promoted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from psycopg import conninfo

from pycdc.clients.postgres import place
from pycdc.clients.postgres_sqlstate import each_host
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import ServerMetadata, SlotMetadata
from pycdc.connectors.postgres.failover_check import SINCE, failover_problems
from pycdc.errors import PycdcError
from pycdc.operations.doctor.finding import Finding, failed, ok, warning
from pycdc.printable import lines

FAILOVER: Final = "source.postgres.failover"
_AT_STANDBY: Final = lines(
    "-- at the standby, whose primary_slot_name is to be set, and primary_conninfo with a dbname:",
    "ALTER SYSTEM SET sync_replication_slots = on;",
    "ALTER SYSTEM SET hot_standby_feedback = on;",
    "SELECT pg_reload_conf();",
)


def failover_findings(catalog: Catalog, slot: SlotMetadata | None, server: ServerMetadata) -> Iterator[Finding]:
    """Check the primary's side."""
    problems = list(failover_problems(slot, server, catalog.standby_slots()))
    for one in problems:
        yield (failed if one.blocks else warning)(one.fact, one.detail, path=FAILOVER, fix=one.remedy)
    if slot is not None and not problems:
        yield ok(f"slot {slot.name} comes along to standbys that sync slots, and sends nothing that they lack")


def standby_findings(dsn: str, slot: str) -> Iterator[Finding]:
    """Look at each standby that the dsn names beside others."""
    hosts = list(each_host(conninfo.conninfo_to_dict(dsn)))
    for parameters in hosts if len(hosts) > 1 else ():
        one = conninfo.make_conninfo(**{**parameters, "target_session_attrs": "any"})
        catalog = Catalog(one)
        try:
            if (server := catalog.server()).in_recovery and server.version >= SINCE:
                yield standby_finding(f"the standby{place(one)}", slot, catalog.slot(slot))
        except PycdcError as error:
            yield warning(f"the server{place(one)} cannot be asked for the slot", error.fact, path=FAILOVER)
        finally:
            catalog.close()


def standby_finding(standby: str, name: str, slot: SlotMetadata | None) -> Finding:
    if slot is None:
        return warning(
            f"{standby} has no slot {name}",
            "were it promoted, the pipeline would have to start over",
            path=FAILOVER,
            fix=_AT_STANDBY,
        )
    if not slot.synced:
        return warning(
            f"{standby} has a slot {name} of its own",
            "the primary's cannot come along",
            path=FAILOVER,
            fix=f"there: SELECT pg_drop_replication_slot('{name}');",
        )
    if slot.temporary or slot.invalidation is not None:
        return warning(
            f"{standby} cannot take slot {name} over yet",
            slot.invalidation or "it has not got all the WAL that the slot needs, or the primary is idle",
            path=FAILOVER,
            fix="wait, and ask again; pg_replication_slots and the log there tell more",
        )
    return ok(f"{standby} has slot {name}, and may be promoted")
