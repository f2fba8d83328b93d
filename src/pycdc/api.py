"""Embedding: `Pipeline` runs a configuration, `capture` iterates over changes. Each imports what it alone needs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack, overload

from pycdc.build.loop import OwnObjects, build_loop, require_functions
from pycdc.config import load, validate, validate_capture
from pycdc.config.pipeline import ApplyPipeline, PipelineConfig, require_capture
from pycdc.errors import ConfigError
from pycdc.interfaces import Checkpoint, Connector, Exclusive, OffsetStore, Sink
from pycdc.model.change import Batch, Change, Lsn, Position, Run
from pycdc.observability.progress import Progress
from pycdc.transforms.change import Transform
from pycdc.transforms.functions import path_of

if TYPE_CHECKING:
    from pycdc.operations.apply_status import ApplyState
    from pycdc.operations.doctor.finding import Finding
    from pycdc.operations.lag.delays import LagMeasurement
    from pycdc.operations.status import CaptureState

_SLICE = 0.5
"""Seconds between looks at a slot that another session reads."""


class CaptureOptions(TypedDict, total=False):
    """Options of ``source.postgres`` that `capture` takes by keyword. docs/configuration.md says what each means."""

    exclude_tables: Sequence[str]
    slot: str | None
    publication: str | None
    manage_publication: bool
    via_partition_root: bool
    snapshot_method: Literal["pinned", "chunks"]
    snapshot_chunk: int
    skip_origins: Sequence[str]
    skip_scope: Literal["transaction", "tables"]
    messages: bool
    streaming: bool
    two_phase: bool
    spool_memory: int
    spool_folder: str | None
    status_interval: float
    silence_timeout: float
    slot_timeout: float
    failover: bool
    max_batch_changes: int
    max_batch_bytes: int
    publication_check: float
    tables_added: Literal["follow", "ignore"]
    publication_drift: Literal["stop", "resync"]


class Pipeline:
    """One pipeline: `config` is a `PipelineConfig`, a mapping of the YAML's shape, or the path of a file.

    `run` blocks until `stop` is called from another thread or a signal handler, the source ends, or an error is final
    (a PycdcError). An async host runs ``await asyncio.to_thread(pipeline.run)``. Before `run`, nothing is connected.

    A capture takes objects in the place of what its configuration names:

    source   a `Connector`; the configuration may then leave out `source`
    sink     a `Sink`, used again after a fault; the configuration may then leave out `sink`. Rules and transforms of
             the configuration apply before it. Its `close` is called where it exists, when `run` ends
    offsets  an `OffsetStore`. Default: what the configuration says; beside a `sink` of one's own, memory

    As a context manager it is stopped at the end, and a `run` of another thread is waited for.
    """

    config: PipelineConfig
    progress: Progress
    """What the pipeline has done and where it is; written by `run`, may be read from any thread."""

    def __init__(
        self,
        config: PipelineConfig | Mapping[str, Any] | str | Path,
        *,
        source: Connector | None = None,
        sink: Sink | None = None,
        offsets: OffsetStore | None = None,
    ) -> None:
        self._own = OwnObjects(source, sink, offsets)
        self.config = _config(config, self._own)
        if any(self._own) and isinstance(self.config, ApplyPipeline):
            raise ConfigError(
                f"pipeline {self.config.name} reads from Kafka, where its source and sink belong together",
                hint="leave out source, sink and offsets; they are for pipelines that capture",
            )
        require_functions(self.config)
        self.progress = Progress()
        self._stopping = threading.Event()
        self._running = threading.Lock()

    def run(self) -> None:
        """Block until `stop` is called or the source ends. Raises PycdcError where trying again does not help.

        After a `stop`, another `run` returns at once.
        """
        with self._running:
            try:
                build_loop(self.config, self.progress, self._stopping, self._own).run()
            finally:
                close = getattr(self._own.sink, "close", None)
                if close is not None:
                    close()

    def stop(self) -> None:
        """Deliver what was read, store the position, then let `run` return."""
        self._stopping.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        with self._running:
            pass  # whoever runs has ended

    def snapshot(self, *tables: str, where: str | None = None) -> str:
        """Read captured tables again, or those of their rows that fulfil the SQL condition `where`; the stream goes on.

        Returns the request's id. Works from any thread and any process: the request travels by the database's WAL, and
        waits there for a pipeline that does not run. Raises PycdcError.
        """
        from pycdc.build.offsets import stored_source
        from pycdc.connectors.postgres.signals.messages import Signal, ask

        self._require_servers()
        captures = require_capture(self.config)
        signal = Signal("snapshot", tables, where)
        ask(captures, signal, stored_source(captures))
        return signal.id

    def status(self) -> CaptureState | ApplyState:
        """Return where the pipeline is, as the servers tell, whoever runs it: see `pycdc status`. Raises PycdcError."""
        from pycdc.operations import apply_status, status

        self._require_servers()
        if isinstance(self.config, ApplyPipeline):
            return apply_status.inspect(self.config)
        return status.inspect(self.config)

    def lag(self, seconds: float = 10.0, *, probe: bool = False) -> LagMeasurement:
        """Measure for so many seconds how late the pipeline is, whoever runs it: see `pycdc lag`. Raises PycdcError.

        `probe`: commit logical messages and time their way, which needs no other traffic; of captures only.
        """
        from pycdc.operations.lag.capture import measure_capture
        from pycdc.operations.lag.reverse import measure_reverse

        self._require_servers()
        if not isinstance(self.config, ApplyPipeline):
            return measure_capture(self.config, seconds=seconds, probe=probe)
        if probe:
            raise ConfigError(
                f"pipeline {self.config.name} reads from Kafka, and is measured by its own traffic",
                hint="leave probe out",
            )
        return measure_reverse(self.config, seconds=seconds)

    def doctor(self) -> list[Finding]:
        """Return what `pycdc doctor` finds: all that the pipeline needs of the servers, checked. Changes nothing."""
        from pycdc.operations.doctor.diagnosis import diagnose

        self._require_servers()
        return list(diagnose(self.config))

    def _require_servers(self) -> None:
        if self._own.source is not None:
            raise ConfigError(
                f"the source of pipeline {self.config.name} is an object of this program: there is no server to ask",
                hint="leave out `source`, so that the configuration's is used",
            )


def _config(config: PipelineConfig | Mapping[str, Any] | str | Path, own: OwnObjects) -> PipelineConfig:
    if isinstance(config, PipelineConfig):
        return config
    if isinstance(config, str | Path):
        return load(config)
    absent: dict[str, Any] = {}
    if own.source is not None:
        absent["source"] = {"postgres": {"dsn": ""}}
    if own.sink is not None:
        absent["sink"] = {"null": {}}
    return validate({**absent, **config})


class CapturedChange(Change):
    """A change that can be acknowledged."""

    __slots__ = ("_capture", "_serial")

    def __init__(self, run: Run, frame: bytes, index: int, capture: _Acknowledgements, serial: int) -> None:
        super().__init__(run, frame, index)
        self._capture = capture
        self._serial = serial

    def ack(self) -> None:
        """Acknowledge this change and all before it. The slot moves once a whole transaction is acknowledged."""
        self._capture.acknowledge(self._serial)


class _Acknowledgements:
    """Which transactions are acknowledged to their end, and so may be stored."""

    def __init__(self, source: Connector, offsets: OffsetStore) -> None:
        self._source = source
        self._offsets = offsets
        self._open: deque[tuple[int, Checkpoint]] = deque()
        self._acknowledged = 0

    def expect(self, last_serial: int, checkpoint: Checkpoint) -> None:
        self._open.append((last_serial, checkpoint))
        self.acknowledge(self._acknowledged)

    def acknowledge(self, serial: int) -> None:
        self._acknowledged = max(self._acknowledged, serial)
        done: Checkpoint | None = None
        while self._open and self._open[0][0] <= self._acknowledged:
            done = self._open.popleft()[1]
        if done is not None:
            self._offsets.store(done)
            self._source.acknowledge(done)


Captured = Generator[CapturedChange, None, None]
CapturedOrIdle = Generator[CapturedChange | None, None, None]
_Transforms = Sequence[str | Transform | Mapping[str, Any]]


@overload
def capture(
    dsn: str,
    tables: Sequence[str] = ...,
    *,
    name: str = ...,
    snapshot: Literal["initial", "never", "only"] = ...,
    offsets: str | Path | OffsetStore | None = ...,
    ack: Literal["auto", "manual"] = ...,
    idle: Literal[False] = ...,
    transforms: _Transforms = ...,
    rules: Sequence[Mapping[str, Any]] = ...,
    **source: Unpack[CaptureOptions],
) -> Captured: ...
@overload
def capture(
    dsn: str,
    tables: Sequence[str] = ...,
    *,
    name: str = ...,
    snapshot: Literal["initial", "never", "only"] = ...,
    offsets: str | Path | OffsetStore | None = ...,
    ack: Literal["auto", "manual"] = ...,
    idle: bool,
    transforms: _Transforms = ...,
    rules: Sequence[Mapping[str, Any]] = ...,
    **source: Unpack[CaptureOptions],
) -> CapturedOrIdle: ...


def capture(
    dsn: str,
    tables: Sequence[str] = ("*.*",),
    *,
    name: str = "capture",
    snapshot: Literal["initial", "never", "only"] = "never",
    offsets: str | Path | OffsetStore | None = None,
    ack: Literal["auto", "manual"] = "auto",
    idle: bool = False,
    transforms: _Transforms = (),
    rules: Sequence[Mapping[str, Any]] = (),
    **source: Unpack[CaptureOptions],
) -> CapturedOrIdle:
    """Iterate over the changes of `tables`, in commit order, forever.

    dsn       libpq connection string of a role with REPLICATION
    name      slot and publication are called ``pycdc_{name}``; they are made if missing, and stay
    snapshot  ``never``: changes since the slot was made; ``initial``: the rows there are, then changes
    offsets   where the position is stored: a file's path or a store; None leaves it to the slot, which is enough
              where a change may be seen again after a crash
    ack       ``auto``: a change is dealt with when the next one is asked for; ``manual``: when ``change.ack()`` says so
    idle      also yield None a few times a second while nothing happens, so that a loop can do something else
    transforms  functions, or as in a configuration: ``module:function``, or a mapping with options
    rules     as in a configuration: what is masked, left out or renamed; they see what transforms made
    source    further options of ``source.postgres``, see `CaptureOptions`

    Raises PycdcError; a lost connection too (ConnectionLost), after which `capture` can be called again.
    """
    from pycdc.build.capture import build_source
    from pycdc.rows.ruled import RuledRows
    from pycdc.transforms.capture import CaptureTransforms

    entries, functions = _functions(transforms)
    config = validate_capture(
        {
            "name": name,
            "source": {"postgres": {"dsn": dsn, "tables": list(tables), "snapshot": snapshot, **source}},
            "sink": {"console": {}},
            "transforms": entries,
            "rules": list(rules),
        }
    )
    progress = Progress()
    transformed = CaptureTransforms(config, progress, functions) if transforms else None
    ruled = RuledRows(config)

    def prepare(batch: Batch) -> Batch:
        return ruled.batch(batch if transformed is None else transformed.batch(batch))

    store = _store(offsets)
    connector = build_source(config, progress)
    try:
        yield from _captured(connector, store, prepare, manual=ack == "manual", idle=idle)
    finally:
        connector.close()
        store.close()


def _functions(transforms: _Transforms) -> tuple[list[dict[str, Any]], dict[int, Transform]]:
    """Return the entries as a configuration has them, and the functions that were given as such, by their entry."""
    entries: list[dict[str, Any]] = [
        dict(entry) if isinstance(entry, Mapping) else {"function": entry} for entry in transforms
    ]
    given: dict[int, Transform] = {
        number: entry["function"] for number, entry in enumerate(entries) if callable(entry.get("function"))
    }
    for number, function in given.items():
        entries[number]["function"] = path_of(function)
    return entries, given


def _store(offsets: str | Path | OffsetStore | None) -> OffsetStore:
    if offsets is None:
        from pycdc.offsets.memory import MemoryOffsetStore

        return MemoryOffsetStore()
    from pycdc.offsets.file import FileOffsetStore

    return FileOffsetStore(offsets) if isinstance(offsets, str | Path) else offsets


def _captured(
    connector: Connector, store: OffsetStore, prepare: Callable[[Batch], Batch], *, manual: bool, idle: bool
) -> CapturedOrIdle:
    acknowledgements = _Acknowledgements(connector, store)
    try:
        while isinstance(connector, Exclusive) and not connector.acquire(_SLICE):
            if idle:
                yield None
        stored = store.load()
        serial, left = 0, {} if stored is None else stored.snapshot
        for batch in connector.batches(stored):
            if batch is None:
                if idle:
                    yield None
                continue
            batch = prepare(batch)
            for last, checkpoint in _ends(batch, serial, connector, left):
                acknowledgements.expect(last, checkpoint)
            left = batch.snapshot if batch.position is not None else left
            for run in batch.runs:
                for offset, frame in enumerate(run.frames):
                    serial += 1
                    yield CapturedChange(run, frame, run.index + offset, acknowledgements, serial)
            if not manual:
                acknowledgements.acknowledge(serial)
    except GeneratorExit:
        # Storing each change's position would cost more than the change; where the caller leaves it is known exactly.
        if not manual:
            acknowledgements.acknowledge(serial - 1)
        raise


def _ends(batch: Batch, serial: int, connector: Connector, left: dict[str, Any]) -> Iterator[tuple[int, Checkpoint]]:
    """Yield the last change of each transaction that ends in the batch, and the checkpoint behind it.

    `serial` is the number of the last change before the batch, `left` what was to be read by then.
    """
    stored: Position | None = None
    for run, following in zip_longest(batch.runs, batch.runs[1:]):
        serial += len(run.frames)
        end = run.transaction.end_lsn
        if end and following is not None and following.transaction is not run.transaction:
            stored = Position(Lsn(end))
            yield (
                serial,
                connector.checkpoint(
                    Batch(position=stored, last_commit=stored.lsn, snapshot=left, unseen=batch.unseen)
                ),
            )
    if batch.position is not None and batch.position != stored:
        yield serial, connector.checkpoint(batch)
