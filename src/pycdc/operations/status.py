"""Where a capture is, asked from outside: its stored position, its slot, its lag."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import ReplicationLag, ServerMetadata, SlotMetadata
from pycdc.errors import PycdcError
from pycdc.interfaces import Checkpoint
from pycdc.operations.humanize import number
from pycdc.operations.stored_position import compared, shown, stored_position


@dataclass(frozen=True, slots=True)
class CaptureState:
    """`problem` is why the pipeline would refuse to go on."""

    server: ServerMetadata
    slot: SlotMetadata | None
    lag: ReplicationLag | None
    checkpoint: Checkpoint | None
    problem: PycdcError | None


def inspect(config: CapturePipeline) -> CaptureState:
    """Ask server and offset store. Raises PycdcError where one does not answer."""
    with Catalog(config.source.postgres.dsn.get_secret_value()) as catalog:
        server, slot = catalog.server(), catalog.slot(config.slot)
        lag = catalog.replication_lag(config.slot)
        checkpoint = stored_position(config)
        outcome = compared(config, catalog, server, slot, checkpoint)
    return CaptureState(server, slot, lag, checkpoint, outcome if isinstance(outcome, PycdcError) else None)


def as_dict(config: CapturePipeline, found: CaptureState) -> dict[str, Any]:
    slot, lag, checkpoint = found.slot, found.lag, found.checkpoint
    return {
        "name": config.name,
        "running": slot is not None and slot.active_pid is not None,
        "pid": None if slot is None else slot.active_pid,
        "position": None if checkpoint is None else shown(checkpoint.position),
        "snapshot": _snapshot(config, checkpoint),
        "slot": None
        if slot is None
        else {
            "name": slot.name,
            "confirmed": _text(slot.confirmed_flush),
            "restart": _text(slot.restart_lsn),
            "wal_status": slot.wal_status,
            "invalidation": slot.invalidation,
            "retained_bytes": slot.retained_bytes,
        },
        "server_lsn": str(found.server.current_lsn),
        "lag_bytes": None if lag is None else lag.bytes,
        "problem": None if found.problem is None else {"fact": found.problem.fact, "hint": found.problem.hint},
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _snapshot(config: CapturePipeline, checkpoint: Checkpoint | None) -> str:
    if checkpoint is not None and checkpoint.snapshot:
        return _still_to_read(checkpoint)
    if config.source.postgres.snapshot == "never":
        return "none wanted"
    if checkpoint is None:
        return "not done"
    return "done" if checkpoint.snapshot_done else "not finished"


def _still_to_read(checkpoint: Checkpoint | None) -> str:
    tables = still_to_read(checkpoint)
    rest = f", {len(tables) - 1} more behind it" if len(tables) > 1 else ""
    rows = f"{number(tables[0]['rows'])} rows of {tables[0]['table']} read{rest}"
    return f"paused: {rows}" if paused(checkpoint) else rows


def paused(checkpoint: Checkpoint | None) -> bool:
    return checkpoint is not None and bool(checkpoint.snapshot.get("paused"))


def still_to_read(
    checkpoint: Checkpoint | None, estimates: dict[tuple[str, str], int | None] | None = None
) -> list[dict[str, Any]]:
    """Return the tables of a snapshot under way, never their keys; `estimates` are the planner's row counts."""
    tasks = [] if checkpoint is None else checkpoint.snapshot.get("tables", [])
    return [
        {
            "table": ".".join(task["table"]),
            "rows": task.get("rows", 0),
            "estimated": (estimates or {}).get(tuple(task["table"])),
            "request": task.get("request"),
            "waits": "since" in task,
        }
        for task in tasks
    ]
