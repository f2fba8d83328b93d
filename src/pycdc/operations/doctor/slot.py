"""The slot and the stored position: can the stream go on where it ended, and does the slot endanger the server."""

from __future__ import annotations

from collections.abc import Iterator

from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.metadata import ServerMetadata, SlotMetadata
from pycdc.connectors.postgres.start_check import StartAt, StartDecision
from pycdc.errors import PositionGap, PycdcError
from pycdc.interfaces import Checkpoint
from pycdc.operations.doctor.finding import Finding, FindingStatus, failed, from_error, ok, warning
from pycdc.operations.humanize import duration, size

SLOT = "source.postgres.slot"
_MUCH = 1024**3


def start_finding(
    config: CapturePipeline, checkpoint: Checkpoint | None, outcome: StartDecision | PycdcError
) -> Finding:
    """`outcome` is what comparing position, slot and server came to."""
    snapshot = config.source.postgres.snapshot
    if isinstance(outcome, PositionGap) and snapshot == "when_needed":
        return warning(f"{outcome.fact}: a new snapshot will be taken", path="source.postgres.snapshot")
    if isinstance(outcome, PycdcError):
        return from_error(outcome, SLOT)
    if outcome.start is StartAt.RESUME:
        return ok(f"streaming goes on at {outcome.lsn}", outcome.reason)
    first = "" if snapshot == "never" else ", after a snapshot"
    if outcome.start is StartAt.ADOPT:
        return ok(f"streaming begins at {outcome.lsn}{first}", outcome.reason)
    if checkpoint is not None and checkpoint.snapshot_done:
        return warning(f"streaming begins anew{first}", outcome.reason, path="offsets")
    return ok(f"slot {config.slot} will be created{first}", outcome.reason)


def slot_findings(slot: SlotMetadata | None, server: ServerMetadata) -> Iterator[Finding]:
    if slot is None:
        return
    if slot.active_pid is not None:
        yield ok(f"slot {slot.name} is being read", f"pid {slot.active_pid}")
    else:
        yield ok(f"slot {slot.name} is free", "nobody reads it now")
    if slot.retained_bytes is not None:
        yield _retained(slot, server)
    if slot.wal_status == "unreserved":
        yield failed(
            f"slot {slot.name} is about to be invalidated",
            "the WAL that it needs goes away with the next checkpoint",
            path=SLOT,
            fix="start the pipeline now, and raise max_slot_wal_keep_size",
        )


def setting_findings(server: ServerMetadata) -> Iterator[Finding]:
    """Check settings by which a server gives slots up, or lets no pipeline read them."""
    if server.idle_slot_timeout:
        waits = duration(server.idle_slot_timeout)
        yield warning(
            f"the server invalidates slots that nobody reads for {waits}",
            "idle_replication_slot_timeout: a pipeline that is stopped for longer has to start over",
            path=SLOT,
            fix="ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();",
        )
    if server.output_plugins is not None and not _allows_pgoutput(server.output_plugins):
        yield failed(
            "the server lets no slot use pgoutput",
            f"output_plugin_libraries is {server.output_plugins!r}",
            path=SLOT,
            fix="add pgoutput to output_plugin_libraries, and reload the configuration",
        )


def _allows_pgoutput(libraries: str) -> bool:
    names = {name.strip().strip('"').removeprefix("$libdir/") for name in libraries.split(",")}
    return not libraries.strip() or bool(names & {"pgoutput", "*"})


def _retained(slot: SlotMetadata, server: ServerMetadata) -> Finding:
    retained = slot.retained_bytes or 0
    limit = server.max_slot_wal_keep_size
    allowed = "max_slot_wal_keep_size is unlimited" if limit is None else f"of {size(limit)} allowed"
    title = f"slot {slot.name} holds back {size(retained)} of WAL"
    status = FindingStatus.OK
    if (limit and retained > limit / 2) or (retained > _MUCH and slot.active_pid is None):
        status = FindingStatus.WARNING
    fix = "start the pipeline, or remove the slot with `pycdc teardown`" if status is FindingStatus.WARNING else ""
    if limit is None and status is FindingStatus.OK:
        status, title = FindingStatus.WARNING, f"{title}, and may hold back as much as the disk has"
        fix = "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; -- what the disk can spare: beyond it the slot is lost"
    return Finding(status, title, allowed, SLOT if fix else "", fix)
