"""Whether the position can be stored where it never was before."""

from __future__ import annotations

from collections.abc import Iterator

from pycdc.build import build_offsets
from pycdc.config.pipeline import CapturePipeline
from pycdc.errors import PycdcError
from pycdc.operations.doctor.finding import Finding, from_error, ok


def offsets_findings(config: CapturePipeline) -> Iterator[Finding]:
    """Check that offsets can be stored. Nothing is made; stores that are there already were loaded from before."""
    store = build_offsets(config)
    try:
        try_out = getattr(store, "require_room", None)
        if try_out is not None:
            try_out()
            yield ok("the position can be stored")
    except PycdcError as error:
        yield from_error(error, "offsets")
    finally:
        store.close()
