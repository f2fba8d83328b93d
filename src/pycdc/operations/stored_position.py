"""The stored position, and how it compares with slot and server."""

from __future__ import annotations

from pycdc.build.offsets import build_offsets
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import ServerMetadata, SlotMetadata
from pycdc.connectors.postgres.start_check import StartDecision, check_start
from pycdc.errors import PycdcError
from pycdc.interfaces import Checkpoint
from pycdc.model.change import NOWHERE, Position
from pycdc.model.event import PartitionOffsets


def stored_position(config: CapturePipeline) -> Checkpoint | None:
    """Return what the offset store holds. Raises PycdcError."""
    offsets = build_offsets(config)
    try:
        return offsets.load()
    finally:
        offsets.close()


def shown(position: Position | PartitionOffsets | None) -> str | None:
    """Return a position for people, None where there is none yet: a snapshot that has begun stores 0/0."""
    if position is None or (isinstance(position, Position) and position.lsn == NOWHERE):
        return None
    return str(position)


def compared(
    config: CapturePipeline,
    catalog: Catalog,
    server: ServerMetadata,
    slot: SlotMetadata | None,
    checkpoint: Checkpoint | None,
) -> StartDecision | PycdcError:
    """Return how a pipeline would start now, or why it would refuse to."""
    try:
        moved = checkpoint is not None and checkpoint.source.get("timeline", server.timeline) != server.timeline
        ends = catalog.timeline_ends() if moved and slot is not None and slot.failover else None
        return check_start(checkpoint, slot, server, config.slot, timeline_ends=ends)
    except PycdcError as error:
        return error
