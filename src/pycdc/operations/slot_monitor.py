"""Looks at the slot from outside, so that WAL piling up is seen even while the pipeline is stuck."""

from __future__ import annotations

import threading
import time

from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.errors import PycdcError
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress
from pycdc.operations.wal_guard import WalGuard

log = get_logger()

_SECONDS = 5.0
_SECONDS_UNTIL_FOUND = 0.5


class SlotMonitor:
    """A thread with a connection of its own, from entering to leaving the context."""

    def __init__(self, config: CapturePipeline, progress: Progress, *, interval: float = _SECONDS) -> None:
        self._config = config
        self._guard = WalGuard(config)
        self._progress = progress
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pycdc-slot-watch", daemon=True)

    def __enter__(self) -> SlotMonitor:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        # Not joined for long: it may be waiting for a server that is away, and holds nothing that must be kept.
        self._stop.set()
        self._thread.join(1.0)

    def _watch(self) -> None:
        with Catalog(self._config.source.postgres.dsn.get_secret_value()) as catalog:
            while not self._stop.is_set():
                found = self._look(catalog)
                self._stop.wait(self._interval if found else min(self._interval, _SECONDS_UNTIL_FOUND))

    def _look(self, catalog: Catalog) -> bool:
        progress = self._progress
        try:
            slot = catalog.slot(self._config.slot)
            progress.lag.measured(catalog.wal_end())
            wal = None if slot is None else self._guard.look(catalog, slot, time.monotonic())
        except PycdcError as error:
            log.debug("the slot could not be looked at", fact=error.fact)
            slot = wal = None
        progress.slot_retained = None if slot is None else slot.retained_bytes
        progress.slot_state = None if slot is None else slot.invalidation or slot.wal_status
        progress.slot_safe = None if slot is None else slot.safe_wal_size
        progress.slot_full_in = None if wal is None else wal.full_in
        progress.xmin_ages = (
            {} if wal is None or wal.xmin_holder is None else {wal.xmin_holder.kind: wal.xmin_holder.age}
        )
        progress.over_wal_budget = wal is not None and wal.level == "over" and not wal.dropped
        return slot is not None
