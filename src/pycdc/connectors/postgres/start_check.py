"""May the stream start here? Compares the stored position with the slot and the server. No I/O.

Postgres tells none of this by itself: an old start LSN is silently moved forward, a position from the future is
believed, and a slot made anew looks like the old one. Each mismatch is a PositionGap that says what to do.

Facts used: a position is acknowledged only after it was stored, so the slot is never ahead of the checkpoint unless
somebody else moved or recreated it. A recreated slot starts at its own consistent point, and is caught the same way.
That holds only of a checkpoint and a slot that were looked at after the slot was acquired: until then another reader
moves both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pycdc.connectors.postgres.catalog.metadata import ServerMetadata, SlotMetadata
from pycdc.errors import ConnectionLost, EnvironmentNotReady, OtherSource, PositionGap
from pycdc.interfaces import Checkpoint
from pycdc.model.change import Lsn


class StartAt(Enum):
    """How a pipeline starts.

    CREATE: neither checkpoint nor slot. ADOPT: a slot that nobody stored a position for, or whose snapshot did not
    finish; what it holds back is complete from `StartDecision.lsn` on, but rows from before it are not known to be
    delivered. RESUME: go on at `StartDecision.lsn`.
    """

    CREATE = "create"
    ADOPT = "adopt"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class StartDecision:
    start: StartAt
    lsn: Lsn
    reason: str


def source_identity(server: ServerMetadata, slot: str) -> dict[str, Any]:
    """Return what `Checkpoint.source` must hold for `check_start` to recognize the source."""
    return {
        "system": server.system_identifier,
        "timeline": server.timeline,
        "database": server.database,
        "database_oid": server.database_oid,
        "slot": slot,
    }


def check_start(
    checkpoint: Checkpoint | None,
    slot: SlotMetadata | None,
    server: ServerMetadata,
    slot_name: str,
    *,
    timeline_ends: Mapping[int, Lsn] | None = None,
) -> StartDecision:
    """Decide how to start. Raises PositionGap where going on would lose or invent rows.

    A slot that a standby has from its primary raises ConnectionLost: the standby may be promoted.
    `timeline_ends` (`Catalog.timeline_ends`) is asked for only where the timeline changed and the slot is a failover
    slot: without it a promotion is always a gap.
    """
    check_server(server)
    if checkpoint is None:
        return _without_checkpoint(slot, server, slot_name)
    _check_same_source(checkpoint, slot, server, slot_name, timeline_ends or {})
    if not checkpoint.snapshot_done:
        decision = _without_checkpoint(slot, server, slot_name)
        return StartDecision(decision.start, decision.lsn, "the snapshot did not finish")
    position = checkpoint.position.lsn
    if slot is None:
        raise PositionGap(
            f"slot {slot_name} is gone, and with it the changes since {position}",
            hint=_resnapshot("find out who dropped it"),
        )
    _check_usable(slot, server, position)
    _check_reachable(position, slot, server)
    return StartDecision(StartAt.RESUME, position, "checkpoint and slot agree")


def require_one_server(systemid: str, timeline: int, server: ServerMetadata) -> None:
    """Raise ConnectionLost where the stream is read from another server than the one that was asked.

    A dsn may name several, and each connection chooses anew.
    """
    same = systemid == server.system_identifier
    # A standby's timeline is the one of its last checkpoint, which may be late.
    if not same or (timeline != server.timeline and not server.in_recovery):
        raise ConnectionLost(
            f"the dsn leads to two servers: {systemid} on timeline {timeline}, and {server.system_identifier} on "
            f"{server.timeline}",
            hint="name target_session_attrs=read-write in the dsn, and stop a primary that was replaced",
        )


def can_be_read(slot: SlotMetadata, server: ServerMetadata) -> bool:
    """Return whether START_REPLICATION is worth a try; why not is for `check_start` to say."""
    try:
        check_server(server)
        _check_usable(slot, server, None)
    except (EnvironmentNotReady, ConnectionLost):
        return False
    return True


def check_server(server: ServerMetadata) -> None:
    """Raise EnvironmentNotReady where the server cannot decode at all."""
    if server.wal_level != "logical":
        raise EnvironmentNotReady(
            f"wal_level is {server.wal_level}", hint="ALTER SYSTEM SET wal_level = 'logical', then restart the server"
        )
    if server.in_recovery and server.version < 160_000:
        raise EnvironmentNotReady(
            "the server is a standby, and those decode only since Postgres 16", hint="connect to the primary"
        )


def _without_checkpoint(slot: SlotMetadata | None, server: ServerMetadata, slot_name: str) -> StartDecision:
    if slot is None:
        return StartDecision(StartAt.CREATE, Lsn(0), "neither checkpoint nor slot exist")
    _check_usable(slot, server, None)
    if slot.confirmed_flush is None:
        raise EnvironmentNotReady(f"slot {slot_name} is still being created", hint="start again when that is done")
    return StartDecision(StartAt.ADOPT, slot.confirmed_flush, "the slot exists, but no position was stored for it")


def _check_same_source(
    checkpoint: Checkpoint,
    slot: SlotMetadata | None,
    server: ServerMetadata,
    slot_name: str,
    timeline_ends: Mapping[int, Lsn],
) -> None:
    stored = checkpoint.source
    now = source_identity(server, slot_name)
    for key, what, cause in _IDENTITY:
        if key in stored and stored[key] != now[key]:
            raise OtherSource(
                f"the stored position belongs to {what} {stored[key]}, and this is {now[key]}",
                hint=_resnapshot(f"{cause}; correct the dsn if it points to the wrong place"),
            )
    if "timeline" in stored and stored["timeline"] != server.timeline:
        _check_promotion(int(stored["timeline"]), checkpoint, slot, server, timeline_ends)


_IDENTITY = (
    ("system", "database system", "the server was created anew, upgraded with pg_upgrade, or is another one"),
    ("database", "database", "the dsn or the stored position was changed"),
    ("database_oid", "the database with OID", "the database was dropped and restored under its old name"),
    ("slot", "slot", "the slot's name or the stored position was changed"),
)


def _check_promotion(
    old: int,
    checkpoint: Checkpoint,
    slot: SlotMetadata | None,
    server: ServerMetadata,
    timeline_ends: Mapping[int, Lsn],
) -> None:
    """Check a promotion: it is harmless only where the slot came along and all that was delivered is common history."""
    if server.timeline < old:
        raise OtherSource(
            f"the server is on timeline {server.timeline}, and the stored position on {old}: it is one that another "
            "was promoted in the place of",
            hint="stop it, and name the server that was promoted in the dsn; where this one was restored on purpose, "
            "start over: `pycdc teardown` and run again",
        )
    change = f"the server was promoted or restored (timeline {old} before, {server.timeline} now)"
    if slot is None or not (slot.failover and slot.synced):
        raise PositionGap(
            f"{change}, and the slot did not come along: rows may be missing, or were delivered that no longer exist",
            hint=_resnapshot("use failover slots (Postgres 17, `failover: true`) to avoid this"),
        )
    end, position = timeline_ends.get(old), checkpoint.position.lsn
    if checkpoint.chunk is not None:
        # Of a transaction that is delivered in part. Its commit is a record that begins there.
        position = Lsn(checkpoint.chunk.commit_lsn + 1)
    if end is None or position > end:
        until = f"which ended at {end}" if end is not None else "whose end is not known"
        raise PositionGap(
            f"{change}, and the stored position {position} lies beyond the old timeline, {until}: rows were delivered "
            "that no longer exist",
            hint=_resnapshot("list the slot's standby in synchronized_standby_slots to avoid this"),
        )


def _check_usable(slot: SlotMetadata, server: ServerMetadata, position: Lsn | None) -> None:
    if slot.plugin != "pgoutput" or slot.database is None:
        kind = f"plugin {slot.plugin}" if slot.plugin else "physical replication"
        raise EnvironmentNotReady(f"slot {slot.name} is for {kind}, not pgoutput", hint="choose another slot name")
    if slot.database != server.database:
        raise EnvironmentNotReady(
            f"slot {slot.name} belongs to database {slot.database}, and this is {server.database}",
            hint="choose another slot name, or correct the dsn",
        )
    if server.in_recovery and slot.synced:
        raise ConnectionLost(
            f"the server is a standby, and slot {slot.name} is a copy of its primary's, which nobody may read before "
            "it is promoted",
            hint="name all servers in the dsn, and target_session_attrs=read-write",
        )
    if slot.temporary:
        raise EnvironmentNotReady(
            f"slot {slot.name} is temporary and ends with its session", hint="choose another slot name"
        )
    if slot.invalidation is not None or slot.wal_status == "lost":
        since = f", and with it the changes since {position}" if position is not None else ""
        raise PositionGap(
            f"slot {slot.name} was invalidated by the server ({slot.invalidation or 'lost'}){since}",
            hint=_resnapshot(
                f"SELECT pg_drop_replication_slot('{slot.name}'); raise max_slot_wal_keep_size if WAL ran out"
            ),
        )


def _check_reachable(position: Lsn, slot: SlotMetadata, server: ServerMetadata) -> None:
    if position > server.current_lsn:
        raise PositionGap(
            f"the stored position {position} lies beyond the end of the server's WAL, {server.current_lsn}",
            hint=_resnapshot("the server was restored from an older backup, or the position is another server's"),
        )
    if slot.confirmed_flush is not None and slot.confirmed_flush > position:
        raise PositionGap(
            f"slot {slot.name} is ahead of the stored position: the changes in [{position}, {slot.confirmed_flush}) "
            "can no longer be read",
            hint=_resnapshot("find out who moved or recreated the slot, or which stored position is the right one"),
        )


def _resnapshot(first: str) -> str:
    return f"{first}; then start over: `pycdc teardown` and run again, or set `snapshot: when_needed`"
