"""Whether the position can be stored where it never was before, and is safe there."""

from __future__ import annotations

from collections.abc import Iterator

from pycdc.build.offsets import build_offsets
from pycdc.config.pipeline import CapturePipeline
from pycdc.errors import PycdcError
from pycdc.offsets.kafka import KafkaOffsetStore
from pycdc.operations.doctor.durability import POSITION, durability_findings
from pycdc.operations.doctor.finding import Finding, from_error, ok


def offsets_findings(config: CapturePipeline, *, stored: bool) -> Iterator[Finding]:
    """Check that offsets can be stored, unless some are `stored` already. Nothing is made."""
    store = build_offsets(config)
    try:
        try_out = getattr(store, "require_room", None)
        if try_out is not None and not stored:
            try_out()
            yield ok("the position can be stored")
        if isinstance(store, KafkaOffsetStore) and (durability := store.durability()) is not None:
            yield from durability_findings(store.topic, durability, POSITION)
    except PycdcError as error:
        yield from_error(error, "offsets")
    finally:
        store.close()
