"""The loop: read a batch, write it, store the position when due. And what happens after a fault that may pass."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Generic

from pycdc.checkpoint import Checkpointer
from pycdc.clients.postgres import stopped_by
from pycdc.config.runtime import CheckpointConfig, RetriesConfig
from pycdc.engine_interfaces import BatchSink, BatchSource, BatchT, CheckpointLoader, CheckpointT
from pycdc.errors import (
    ConnectionLost,
    ProtocolError,
    ProtocolViolation,
    PycdcError,
    RegistryLost,
    SinkFenced,
    Undelivered,
)
from pycdc.interfaces import Exclusive, ReconnectableSource
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress

log = get_logger()

_STOP_GRACE = 2.0
"""Seconds that a stopped pipeline still reads on to reach a commit."""
_VIOLATIONS = 5
"""How often the same violation of the protocol may be the network's fault."""
_SLICE = 0.5
"""Seconds that a source waits without asking whether the pipeline was stopped."""


class _SinkFault(Exception):
    """An error of the sink, or of what goes with it: the source is as good as before. `made`: the sink was there."""

    def __init__(self, error: PycdcError, *, made: bool = True) -> None:
        self.error = error
        self.made = made


@contextmanager
def _by_the_sink(*, made: bool = True) -> Iterator[None]:
    try:
        yield
    except PycdcError as error:
        raise _SinkFault(error, made=made) from None


@dataclass(slots=True)
class _Faults:
    """The faults that followed each other, since `stored` positions were.

    `lasts` until the newest is over; `left` is the one that keeps something from being delivered meanwhile.
    """

    stored: int = 0
    count: int = 0
    violations: Counter[str] = field(default_factory=Counter)
    since: float = field(default_factory=time.monotonic)
    lasts: bool = False
    over_at: float = -inf
    left: PycdcError | None = None


class Loop(Generic[BatchT, CheckpointT]):
    """One source, one sink, one offset store, run until the source ends, `stop` is called or an error is final.

    Source and sink are made anew after each fault: an error forgets what was in flight, and reading starts again at the
    stored checkpoint. That is the rewind that at-least-once delivery rests on. A `ReconnectableSource` stays while its
    sink is made anew, and rewinds. `stopping` is set by `stop`; a sink may watch it to give up waiting for brokers that
    do not answer. `stands_by`: once another instance took over, this one waits for its end.
    """

    def __init__(
        self,
        source: Callable[[], BatchSource[BatchT, CheckpointT]],
        sink: Callable[[], BatchSink[BatchT, CheckpointT]],
        offsets: CheckpointLoader[CheckpointT],
        checkpoint: CheckpointConfig,
        retries: RetriesConfig,
        progress: Progress | None = None,
        stopping: threading.Event | None = None,
        *,
        stands_by: bool = False,
    ) -> None:
        self._make_source = source
        self._make_sink = sink
        self._offsets = offsets
        self._rule = checkpoint
        self._retries = retries
        self._stop = stopping or threading.Event()
        self._stands_by = stands_by
        self._faults = _Faults()
        self.progress = progress or Progress()

    def stop(self) -> None:
        """Ask `run` to deliver what was read, store the position and return. Thread- and signal-safe."""
        self._stop.set()

    def run(self) -> None:
        """Block until the end. Raises PycdcError where going on could lose data or is pointless."""
        with stopped_by(self._stop):
            self._run()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._run_once()
                    break
                except _SinkFault as fault:
                    self._let_pass(fault.error, self._stop.wait, of_sink=fault.made)
                except PycdcError as exc:
                    # What is decoded waits for its schema before the sink has it.
                    self._let_pass(exc, self._stop.wait, of_sink=isinstance(exc, RegistryLost))
            if self._faults.left is not None and self.progress.checkpoints == self._faults.stored:
                raise Undelivered(
                    f"stopped while something was not delivered yet: {self._faults.left.fact}",
                    hint="start it again once the sink is there: it goes on at the stored position",
                )
        finally:
            self.progress.state = "stopped"
            self._offsets.close()

    def _let_pass(self, exc: PycdcError, wait: Callable[[float], object], *, of_sink: bool) -> None:
        """Wait a while after a fault, longer after each. Raises it where it cannot pass, or has lasted too long."""
        self.progress.last_error = exc.fact
        overtaken = self._stands_by and isinstance(exc, SinkFenced)
        if not exc.retry and not overtaken:
            raise exc
        faults = self._faults
        calm = not faults.lasts and time.monotonic() - faults.over_at > self._retries.max_delay
        if calm or self.progress.checkpoints > faults.stored:
            faults = self._faults = _Faults(self.progress.checkpoints)
        faults.lasts = True
        # What an instance that was overtaken did not deliver, the other one does.
        faults.left = exc if of_sink and not overtaken else faults.left
        self.progress.interrupted()
        if isinstance(exc, ProtocolViolation):
            self._limit(exc, faults)
        if self._retries.give_up_after and time.monotonic() - faults.since >= self._retries.give_up_after:
            raise exc
        delay = min(self._retries.max_delay, self._retries.first_delay * 2 ** min(faults.count, 16))
        delay *= random.uniform(0.5, 1.0)  # noqa: S311  (jitter, not a secret)
        faults.count += 1
        log.warning(
            "rewinding to the stored position", error=exc.code, fact=exc.fact, hint=exc.hint, retry_in=round(delay, 2)
        )
        wait(delay)

    def _limit(self, exc: ProtocolViolation, faults: _Faults) -> None:
        """Raise ProtocolError for a violation that comes again before anything is delivered: it always will."""
        faults.violations[exc.fact] += 1
        if faults.violations[exc.fact] >= _VIOLATIONS:
            raise ProtocolError(
                f"{exc.fact}: {_VIOLATIONS} times, going on from position {self.progress.position}", hint=exc.hint
            )

    def _went_well(self, *, delivered: bool) -> None:
        """Take note that the source is read again. After a fault of the sink that proves little at first."""
        faults = self._faults
        if delivered or faults.left is None:
            faults.lasts, faults.left, faults.over_at = False, None, time.monotonic()
            log.info("goes on after a fault", attempts=faults.count, seconds=round(faults.over_at - faults.since, 1))

    def _run_once(self) -> None:
        """Until the end, or a fault after which the source must be made anew."""
        source = self._make_source()
        batches: Iterator[BatchT | None] | None = None
        try:
            while batches is None or not self._stop.is_set():
                try:
                    with self._sink() as sink:
                        batches = self._rewound(source, batches)
                        self._loop(source, batches, sink)
                    return
                except _SinkFault as fault:
                    if batches is None or not isinstance(source, ReconnectableSource):
                        raise
                    self._let_pass(fault.error, partial(self._wait_with, source), of_sink=True)
            if self._faults.left is not None and self._sink_answers():
                self._faults.left = None
        finally:
            source.close()

    def _sink_answers(self) -> bool:
        """Whether a `ReconnectableSource`'s sink is there by now, as the pipeline stops: then nothing is in doubt."""
        try:
            with self._sink():
                return True
        except _SinkFault:
            return False

    @contextmanager
    def _sink(self) -> Iterator[BatchSink[BatchT, CheckpointT]]:
        with _by_the_sink(made=False):
            sink = self._make_sink()
        try:
            yield sink
        finally:
            close = getattr(sink, "close", None)
            if close is not None:
                close()

    def _rewound(
        self, source: BatchSource[BatchT, CheckpointT], batches: Iterator[BatchT | None] | None
    ) -> Iterator[BatchT | None]:
        """From the stored position on: by the source's first iterator, or the same once more."""
        if batches is None:
            return self._acquired(source)
        assert isinstance(source, ReconnectableSource)
        with _by_the_sink():
            source.rewind()
        return batches

    def _acquired(self, source: BatchSource[BatchT, CheckpointT]) -> Iterator[BatchT | None]:
        """Yield the source's batches; none where the pipeline is stopped while somebody else has the source."""
        while isinstance(source, Exclusive) and not source.acquire(_SLICE):
            if self._stop.is_set():
                return iter(())
        return source.batches(self._offsets.load())

    def _wait_with(self, source: ReconnectableSource, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._stop.is_set() and (left := deadline - time.monotonic()) > 0:
            source.wait(min(_SLICE, left))

    def _loop(
        self,
        source: BatchSource[BatchT, CheckpointT],
        batches: Iterator[BatchT | None],
        sink: BatchSink[BatchT, CheckpointT],
    ) -> None:
        transactional = getattr(sink, "uncommitted", None) is not None
        checkpointer: Checkpointer[BatchT, CheckpointT] = Checkpointer(self._rule, transactional=transactional)
        idle = getattr(sink, "idle", None)
        try:
            for batch in self._until_stopped(batches):
                with self._at_the_sink():
                    if batch is None:
                        if idle is not None:
                            idle()
                        self.progress.last_delivery = time.monotonic()
                    else:
                        sink.write(batch)
                        checkpointer.written(batch)
                    caught_up = batch is None or batch.flush_now
                    at_once = transactional and caught_up and getattr(sink, "uncommitted", False)
                    stored = checkpointer.due(at_once=at_once) and self._store(checkpointer, source, sink)
                if self._faults.lasts and (batch is not None or self.progress.state != "retrying"):
                    self._went_well(delivered=stored or (batch is None and idle is not None))
                if batch is not None:
                    self.progress.delivered(batch)
        except ConnectionLost:
            if not transactional:
                # Of a Kafka transaction nothing was seen yet: it is given up, and comes again.
                self._store_before_rewinding(checkpointer, source, sink)
            raise
        self.progress.state = "stopping"
        with self._at_the_sink():
            self._store(checkpointer, source, sink)

    @contextmanager
    def _at_the_sink(self) -> Iterator[None]:
        """Nobody reads the source meanwhile, so that its silence says nothing."""
        self.progress.in_sink_since = time.monotonic()
        try:
            with _by_the_sink():
                yield
        finally:
            self.progress.in_sink_since = None

    def _store_before_rewinding(
        self,
        checkpointer: Checkpointer[BatchT, CheckpointT],
        source: BatchSource[BatchT, CheckpointT],
        sink: BatchSink[BatchT, CheckpointT],
    ) -> None:
        """Keep what a sound sink took, which saves the next run from repeating it; a broken one has nothing to keep.

        The source may have another reader by now: what that one stored is looked at first, and never gone behind.
        """
        if not checkpointer.pending:
            return
        try:
            self._offsets.load()
            self._store(checkpointer, source, sink)
        except PycdcError as exc:
            log.debug("the last batches will be repeated", error=exc.code, fact=exc.fact)

    def _until_stopped(self, batches: Iterator[BatchT | None]) -> Iterator[BatchT | None]:
        """Yield batches until `stop` was called, and then to the end of the transaction at hand: none is repeated.

        A long one is left unfinished after a moment, and comes again as a whole.
        """
        deadline = float("inf")
        for batch in batches:
            yield batch
            if not self._stop.is_set():
                continue
            deadline = min(deadline, time.monotonic() + _STOP_GRACE)
            if batch is None or batch.ends_at_commit or time.monotonic() > deadline:
                return

    def _store(
        self,
        checkpointer: Checkpointer[BatchT, CheckpointT],
        source: BatchSource[BatchT, CheckpointT],
        sink: BatchSink[BatchT, CheckpointT],
    ) -> bool:
        """Whether there was a position to store."""
        stored = checkpointer.store(source, sink)
        if stored is None:
            return False
        self.progress.position = stored.position
        self.progress.checkpoints += 1
        log.debug("stored the position", position=str(stored.position))
        return True
