"""Remove what a capture left on the servers. Topics and schemas stay: others read them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

from pycdc.build.offsets import build_offsets
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.privileges import SourceInspection
from pycdc.connectors.postgres.catalog.slots_and_publications import Admin, drop_publication_sql
from pycdc.errors import EnvironmentNotReady, PycdcError, SlotActive

_END_SECONDS = 15.0

_PAUSE = 0.1


def remove(config: CapturePipeline, *, force: bool = False) -> Iterator[str]:
    """Do it; tell what was done. Raises SlotActive where the slot is read and `force` is not given."""
    dsn = config.source.postgres.dsn.get_secret_value()
    with Catalog(dsn) as catalog:
        slot, publication = catalog.slot(config.slot), catalog.publication(config.publication)
        # The slot first: without its publication it could never be read again, and would hold back WAL.
        if slot is None:
            yield f"slot {config.slot} did not exist"
        else:
            _drop_slot(dsn, catalog, config.slot, force=force)
            yield f"dropped slot {config.slot}"
    if publication is None:
        yield f"publication {config.publication} did not exist"
    elif not config.source.postgres.manage_publication:
        yield f"kept publication {config.publication}: manage_publication is off"
    elif not publication.owned:
        yield f"kept publication {config.publication}: its owner {publication.owner} can run " + drop_publication_sql(
            config.publication
        )
    else:
        Admin(dsn).drop_publication(config.publication)
        yield f"dropped publication {config.publication}"
    yield _forget(config)


def _drop_slot(dsn: str, catalog: Catalog, name: str, *, force: bool) -> None:
    try:
        Admin(dsn).drop_slot(name)
        return
    except SlotActive as active:
        if not force:
            raise EnvironmentNotReady(
                f"slot {name} is being read: {active.fact}",
                hint="stop the pipeline first; give --force if it is gone and its session hangs",
            ) from None
    drop_slot_by_force(dsn, catalog, name)


def drop_slot_by_force(dsn: str, catalog: Catalog, name: str) -> None:
    """End the slot's reader, and drop the slot before the reader comes back. Raises PycdcError."""
    deadline = time.monotonic() + _END_SECONDS
    while True:
        slot = catalog.slot(name)
        if slot is not None and slot.active_pid is not None:
            SourceInspection(dsn).end(slot.active_pid)
        try:
            Admin(dsn).drop_slot(name)
            return
        except SlotActive:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)


def _forget(config: CapturePipeline) -> str:
    try:
        with closing(build_offsets(config)) as offsets:
            if offsets.load() is None:
                return "no position was stored"
            offsets.clear()
    except PycdcError as error:
        raise type(error)(f"the stored position was not removed: {error.fact}", hint=error.hint) from None
    return "removed the stored position"
