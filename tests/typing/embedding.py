"""A program that embeds pycdc, as its author would write it: `mypy --strict` has nothing to say about it.

It is checked, not run. Each `type: ignore` is a mistake that the types must find: mypy tells where one is not needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, assert_type

import pycdc
from pycdc.testing import MemoryConnector, MemorySink


def every_change(dsn: str) -> None:
    for change in pycdc.capture(dsn, tables=["public.items"]):
        assert_type(change, pycdc.CapturedChange)
        assert_type(change.op, pycdc.Op)
        assert_type(change.table, pycdc.Table | None)
        assert_type(change.before, dict[str, Any] | None)
        assert_type(change.position, pycdc.Position)
        assert_type(change.commit_time, datetime)
        assert_type(change.run, pycdc.Run)
        if change.table is not None:
            columns: tuple[pycdc.Column, ...] = change.table.columns
            kinds: list[pycdc.PgType] = [column.type for column in columns]
            print(columns, kinds)
        change.ack()


def with_every_option(dsn: str, store: pycdc.OffsetStore) -> None:
    changes = pycdc.capture(
        dsn,
        ("public.*",),
        name="mine",
        snapshot="initial",
        offsets=store,
        ack="manual",
        idle=True,
        transforms=["my_functions:mask", mask, {"function": split, "tables": ["public.items"]}],
        rules=[{"tables": "public.users", "mask": {"email": 8}}],
        exclude_tables=["public.audit"],
        slot="mine",
        publication=None,
        publication_check=5.0,
        tables_added="ignore",
    )
    with closing(changes):
        for change in changes:
            if change is not None:
                assert_type(change, pycdc.CapturedChange)


def mistakes(dsn: str) -> None:
    pycdc.capture(dsn, snapshot="sometimes")  # type: ignore[call-overload]
    pycdc.capture(dsn, no_such_option=1)  # type: ignore[call-overload]
    pycdc.capture(dsn, workers=2)  # type: ignore[call-overload]
    pycdc.capture(dsn, publication_check="5")  # type: ignore[call-overload]
    pycdc.capture(dsn, transforms=[len])  # type: ignore[list-item]
    pycdc.Pipeline(7)  # type: ignore[arg-type]
    not_a_sink: pycdc.Sink = Positions()  # type: ignore[assignment]
    print(not_a_sink)


def pipelines(path: Path, document: Mapping[str, Any], config: pycdc.PipelineConfig) -> None:
    for given in (path, document, config, str(path)):
        pipeline = pycdc.Pipeline(given)
        request: str = pipeline.snapshot("public.items", where="id > 7")
        pipeline.run()
        pipeline.stop()
        assert_type(pipeline.config, pycdc.CapturePipeline | pycdc.ApplyPipeline)
        print(request, progress_of(pipeline.progress))


def asked(pipeline: pycdc.Pipeline) -> None:
    state = pipeline.status()
    if isinstance(state, pycdc.CaptureState):
        slot: pycdc.SlotMetadata | None = state.slot
        lag: pycdc.ReplicationLag | None = state.lag
        server: pycdc.ServerMetadata = state.server
        print(slot, lag, server, state.checkpoint, state.problem)
    else:
        assert_type(state, pycdc.ApplyState)
        members: list[pycdc.GroupMember] = state.members
        partitions: list[pycdc.PartitionState] = state.places
        print(members, [one.span for one in partitions], state.failures)
    measured = pipeline.lag(5.0, probe=True)
    assert_type(measured, pycdc.LagMeasurement)
    delays: Mapping[str, pycdc.DelaySummary] = measured.delays
    findings: list[pycdc.Finding] = pipeline.doctor()
    print(delays, [finding.fix for finding in findings if finding.status is pycdc.FindingStatus.FAILED])


def of_ones_own(store: pycdc.OffsetStore) -> None:
    source = MemoryConnector.of_rows("public.items", [{"id": 1}])
    with pycdc.Pipeline({"name": "own"}, source=source, sink=MemorySink(), offsets=store) as pipeline:
        assert_type(pipeline, pycdc.Pipeline)
        pipeline.run()
    pycdc.Pipeline({"name": "own"}, source=MemorySink())  # type: ignore[arg-type]
    pycdc.Pipeline({"name": "own"}, sink=Positions())  # type: ignore[arg-type]


def progress_of(progress: pycdc.Progress) -> str:
    lag: float | None = progress.lag_seconds
    position: pycdc.Position | pycdc.PartitionOffsets | None = progress.position
    tables: list[pycdc.TableSnapshot] = progress.snapshot
    places: dict[pycdc.Partition, pycdc.PartitionPlace] = progress.partitions
    return f"{progress.state} {progress.events} {lag} {position} {tables} {places}"


def mask(change: pycdc.DecodedChange) -> pycdc.DecodedChange | None:
    if change.op is pycdc.Op.READ:
        return None
    for row in change.rows:
        if row.get("note") is not pycdc.UNCHANGED:
            row["note"] = "…"
    return change


def split(change: pycdc.DecodedChange) -> Iterator[pycdc.DecodedChange]:
    yield change
    yield change.copy(topic="elsewhere")


def row_of(change: pycdc.DecodedChange) -> pycdc.Row | None:
    return change.after


def decide(conflict: pycdc.Conflict) -> str:
    assert_type(conflict.kind, pycdc.ConflictKind)
    return (
        "apply_remote" if conflict.current_time is None or conflict.event_time > conflict.current_time else "keep_local"
    )


a_transform: pycdc.Transform = mask
another: pycdc.Transform = split
a_row_function: pycdc.RowFunction = row_of


class Audit:
    """A sink of one's own is two methods."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def write(self, batch: pycdc.Batch) -> None:
        for change in batch:
            self._file.write(f"{change.position} {change.op} {change.table} {change.after}\n")
        for run in batch.runs:
            transaction: pycdc.Transaction = run.transaction
            message: pycdc.LogicalMessage | None = run.message
            routing: pycdc.Routing | None = run.routing
            print(transaction, message, routing)

    def commit(self, checkpoint: pycdc.Checkpoint) -> None:
        lsn: pycdc.Lsn = checkpoint.position.lsn
        self._file.write(f"{lsn}\n")

    def close(self) -> None:
        self._file.close()


class Positions:
    """A store of one's own is four methods."""

    def __init__(self) -> None:
        self._stored: pycdc.Checkpoint | None = None

    def load(self) -> pycdc.Checkpoint | None:
        return self._stored

    def store(self, checkpoint: pycdc.Checkpoint) -> None:
        self._stored = checkpoint

    def clear(self) -> None:
        self._stored = None

    def close(self) -> None: ...


def doubles() -> None:
    source = MemoryConnector.of_rows("public.items", [{"id": 1}, {"id": 2}], per_batch=2, idle=True)
    sink = MemorySink(faults={"commit": [None, pycdc.DeliveryError("the broker is away")]})
    connector: pycdc.Connector = source
    sinks: list[pycdc.Sink] = [sink, Audit(Path("changes.log"))]
    durable: list[pycdc.Change] = sink.durable
    print(connector, sinks, durable)


def errors(dsn: str) -> None:
    try:
        with_every_option(dsn, Positions())
    except pycdc.PositionGap as gap:
        print(gap.code, gap.fact, gap.hint)
    except pycdc.PycdcError as error:
        exit_code: int = error.exit_code
        retry: bool = error.retry
        print(exit_code, retry)
