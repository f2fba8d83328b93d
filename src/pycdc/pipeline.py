"""The loop: read a batch, write it, store the position when due. And what happens after a fault that may pass."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic

from pycdc.checkpoint import Checkpointer
from pycdc.config import CheckpointRule, Retries
from pycdc.errors import ConnectionLost, PycdcError
from pycdc.interfaces import B, C, Source, Stored, Target
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress

log = get_logger()

_STOP_GRACE = 2.0
"""Seconds that a stopped pipeline still reads on to reach a commit."""


class Loop(Generic[B, C]):
    """One source, one sink, one offset store, run until the source ends, `stop` is called or an error is final.

    Source and sink are made anew after each fault: an error forgets what was in flight, and reading starts again at
    the stored checkpoint. That is the rewind that at-least-once delivery rests on. `stopping` is set by `stop`; a sink
    may watch it to give up waiting for brokers that do not answer.
    """

    def __init__(
        self,
        source: Callable[[], Source[B, C]],
        sink: Callable[[], Target[B, C]],
        offsets: Stored[C],
        checkpoint: CheckpointRule,
        retries: Retries,
        progress: Progress | None = None,
        stopping: threading.Event | None = None,
    ) -> None:
        self._make_source = source
        self._make_sink = sink
        self._offsets = offsets
        self._rule = checkpoint
        self._retries = retries
        self._stop = stopping or threading.Event()
        self.progress = progress or Progress()

    def stop(self) -> None:
        """Ask `run` to deliver what was read, store the position and return. Thread- and signal-safe."""
        self._stop.set()

    def run(self) -> None:
        """Block until the end. Raises PycdcError where going on could lose data or is pointless."""
        attempt, since = 0, time.monotonic()
        try:
            while not self._stop.is_set():
                events = self.progress.events
                try:
                    self._run_once()
                    return
                except PycdcError as exc:
                    if not exc.retry:
                        self.progress.last_error = exc.fact
                        raise
                    if self.progress.events > events:
                        attempt, since = 0, time.monotonic()
                    self._wait_to_retry(exc, attempt, since)
                    attempt += 1
        finally:
            self.progress.state = "stopped"
            self._offsets.close()

    def _wait_to_retry(self, exc: PycdcError, attempt: int, since: float) -> None:
        waited = time.monotonic() - since
        self.progress.last_error = exc.fact
        self.progress.reconnects += 1
        if self._retries.give_up_after and waited >= self._retries.give_up_after:
            raise exc
        delay = min(self._retries.max_delay, self._retries.first_delay * 2 ** min(attempt, 16))
        delay *= random.uniform(0.5, 1.0)  # noqa: S311  (jitter, not a secret)
        self.progress.state = "retrying"
        log.warning("rewinding to the stored position", error=exc.code, fact=exc.fact, retry_in=round(delay, 2))
        self._stop.wait(delay)

    def _run_once(self) -> None:
        source = self._make_source()
        try:
            sink = self._make_sink()
            try:
                self._loop(source, sink)
            finally:
                close = getattr(sink, "close", None)
                if close is not None:
                    close()
        finally:
            source.close()

    def _loop(self, source: Source[B, C], sink: Target[B, C]) -> None:
        checkpointer: Checkpointer[B, C] = Checkpointer(self._rule)
        try:
            for batch in self._until_stopped(source.batches(self._offsets.load())):
                if batch is None:
                    self.progress.last_delivery = time.monotonic()
                else:
                    sink.write(batch)
                    checkpointer.written(batch)
                    self.progress.delivered(batch)
                if checkpointer.due():
                    self._store(checkpointer, source, sink)
        except ConnectionLost:
            self._store_before_rewinding(checkpointer, source, sink)
            raise
        self.progress.state = "stopping"
        self._store(checkpointer, source, sink)

    def _store_before_rewinding(
        self, checkpointer: Checkpointer[B, C], source: Source[B, C], sink: Target[B, C]
    ) -> None:
        """Keep what a sound sink took, which saves the next run from repeating it; a broken one has nothing to keep."""
        try:
            self._store(checkpointer, source, sink)
        except PycdcError as exc:
            log.debug("the last batches will be repeated", error=exc.code, fact=exc.fact)

    def _until_stopped(self, batches: Iterator[B | None]) -> Iterator[B | None]:
        """Batches until `stop` was called, and then to the end of the transaction at hand, so that none is repeated;
        a long one is left unfinished after a moment, and comes again as a whole."""
        deadline = float("inf")
        for batch in batches:
            yield batch
            if not self._stop.is_set():
                continue
            deadline = min(deadline, time.monotonic() + _STOP_GRACE)
            if batch is None or batch.whole or time.monotonic() > deadline:
                return

    def _store(self, checkpointer: Checkpointer[B, C], source: Source[B, C], sink: Target[B, C]) -> None:
        stored = checkpointer.store(source, sink)
        if stored is not None:
            self.progress.position = stored.position
            self.progress.checkpoints += 1
            log.debug("stored the position", position=str(stored.position))
