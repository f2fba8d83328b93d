"""Tells a webhook when rows of a table are parked, and when none is any more."""

from __future__ import annotations

import threading
from typing import Any, Final

from pycdc.clients.webhook import post
from pycdc.config.pipeline import CapturePipeline
from pycdc.observability.progress import Progress
from pycdc.operations.humanize import plural

_SECONDS: Final = 5.0


class ParkedMonitor:
    """A thread from entering to leaving the context; none where no webhook is configured."""

    def __init__(self, config: CapturePipeline, progress: Progress, *, interval: float = _SECONDS) -> None:
        self._name = config.name
        self._webhook = None if config.parking is None else config.parking.webhook
        self._progress = progress
        self._interval = interval
        self._told: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pycdc-parked-watch", daemon=True)

    def __enter__(self) -> ParkedMonitor:
        if self._webhook is not None:
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        # Not joined for long: it may be waiting for the webhook.
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            self._look()

    def _look(self) -> None:
        """Send what has changed; what the webhook did not take is sent the next time."""
        assert self._webhook is not None
        counts = {table: found.rows for table, found in self._progress.parked_now.copy().items()}
        for table in sorted(counts.keys() ^ self._told):
            if post(self._webhook.get_secret_value(), self._document(table, counts.get(table, 0))):
                self._told ^= {table}

    def _document(self, table: str, rows: int) -> dict[str, Any]:
        said = f"{plural(rows, 'row')} of {table} parked" if rows else f"no row of {table} is parked any more"
        return {"pipeline": self._name, "table": table, "parked": rows, "text": f"pipeline {self._name}: {said}"}
