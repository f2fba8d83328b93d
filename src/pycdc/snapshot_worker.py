"""What a worker does with a range of a table: read it, encode it as the pipeline would, and hand back the records.

A worker may be a thread, a process or a machine of a cluster. It needs this package, the modules of the transforms,
and the database; schema ids come with the plan, and the registry is asked only for what transforms and outboxes make
of a row that could not be foreseen.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

from pycdc.config.kafka import KafkaSinkConfig, RegistryConfig
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.metadata import CopySource
from pycdc.connectors.postgres.snapshot.block_ranges import BlockRange
from pycdc.connectors.postgres.snapshot.copy_reader import HeldLocks, SnapshotReader
from pycdc.connectors.postgres.snapshot.lock_yield import mark_of
from pycdc.connectors.postgres.snapshot.parallel import Chunk, Task, TopicRecords, packed
from pycdc.model.change import Batch, Op, Run, Table, Transaction
from pycdc.observability.progress import Progress
from pycdc.rows.images import Images
from pycdc.rows.schema import Schema, avro_text
from pycdc.serialization.avro_format import AvroFormat, AvroPart, RegisterId, registered
from pycdc.serialization.json_format import JsonFormat
from pycdc.serialization.record_format import RecordFormat
from pycdc.serialization.serializer import Serializer

Ids = dict[tuple[str, str, str], int]
"""Schema ids by topic, ``key`` or ``value``, and the schema's text."""

_ROWS: Final = 4096
_INDEX: Final = 1 << 12
"""More rows than a block holds: numbers rows of one snapshot that are read apart, in their order."""


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """All that a worker must know of a table, which is still like `held`.

    `keeps`: its connection is its own until it ends with the snapshot.
    """

    config: CapturePipeline
    database: str
    table: Table
    source: CopySource
    held: HeldLocks
    moment: Transaction
    ids: Ids
    keeps: bool


class TablePlanner:
    """Makes plans, in the pipeline's process: what has to be registered is registered here, once."""

    def __init__(self, config: CapturePipeline, schema_id: RegisterId, *, keeps: bool) -> None:
        self._config = config
        self._schema_id = schema_id
        self._keeps = keeps

    def __call__(self, table: Table, source: CopySource, held: HeldLocks, moment: Transaction, database: str) -> bytes:
        config, ids = self._config, Ids()
        if isinstance(_form(config, ids), AvroFormat):
            reshaped = _transforms(config, Progress()).table(table) if config.transforms else table
            form = AvroFormat(_noting(self._schema_id, ids))
            Serializer(config, database, form, lambda table, column: None).prepare(reshaped)
        bare = replace(table, images=None, relabelled=None)
        plan = WorkerPlan(config, database, bare, source, held, moment, ids, self._keeps)
        return pickle.dumps(plan, pickle.HIGHEST_PROTOCOL)


def _noting(schema_id: RegisterId, ids: Ids) -> RegisterId:
    def ask(topic: str, part: AvroPart, schema: Schema) -> int:
        return ids.setdefault((topic, part, avro_text(schema)), schema_id(topic, part, schema))

    return ask


def _transforms(config: CapturePipeline, progress: Progress) -> Any:
    from pycdc.transforms.capture import CaptureTransforms

    return CaptureTransforms(config, progress)


def read(task: Task) -> Chunk:
    """Return the records of a range, or of as much of its beginning as a worker may return; see `Chunk`.

    Raises PycdcError, Rewritten.
    """
    rows = _rows(task.plan, threading.get_ident())
    part = task.range
    while True:
        try:
            with _reader(rows, task.snapshot) as reader:
                return rows.chunk(reader, part)
        except _TooMuch as much:
            part = much.beginning


class _TooMuch(Exception):
    """More than a worker may return; its `beginning` may be less."""

    def __init__(self, beginning: BlockRange) -> None:
        self.beginning = beginning


@contextmanager
def _reader(rows: _Rows, snapshot: str) -> Iterator[SnapshotReader]:
    """Open a reader in a transaction of its own."""
    if not rows.plan.keeps:
        with closing(rows.reader(snapshot)) as reader:
            yield reader
        return
    reader = _kept(rows, snapshot)
    try:
        yield reader
        reader.end()
    except BaseException:
        _let_go()
        raise


_KEPT: dict[tuple[str, str], SnapshotReader] = {}
"""The connection of a process that reads one snapshot, by its DSN and that."""


def _kept(rows: _Rows, snapshot: str) -> SnapshotReader:
    reader = _KEPT.get((rows.dsn, snapshot))
    if reader is None:
        _let_go()
        reader = _KEPT[rows.dsn, snapshot] = rows.reader(snapshot)
        return reader
    try:
        reader.begin()
    except BaseException:
        _let_go()
        raise
    return reader


def _let_go() -> None:
    while _KEPT:
        _KEPT.popitem()[1].close()


@lru_cache(maxsize=64)
def _rows(plan: bytes, thread: int) -> _Rows:
    """Kept between tasks, and not shared by threads."""
    return _Rows(pickle.loads(plan))  # noqa: S301 - of the pipeline that gave us the task


class _Rows:
    """The rows of one table, on their way to being records."""

    def __init__(self, plan: WorkerPlan) -> None:
        config = plan.config
        self.plan = plan
        self.dsn = config.source.postgres.dsn.get_secret_value()
        self._table = replace(plan.table, images=Images(plan.table.columns))
        self._progress = Progress()
        self._transforms = _transforms(config, self._progress) if config.transforms else None
        self._serializer = Serializer(config, plan.database, _form(config, plan.ids), self._progress.became_null)

    def reader(self, snapshot: str) -> SnapshotReader:
        config = self.plan.config
        raw_text = config.values.encoding_errors == "replace"
        return SnapshotReader(self.dsn, snapshot, mark=mark_of(config.slot), raw_text=raw_text)

    def chunk(self, reader: SnapshotReader, part: BlockRange) -> Chunk:
        """Read all of a part. Raises _TooMuch where it can be cut."""
        progress, limit = self._progress, self.plan.config.source.postgres.max_batch_bytes
        progress.nulled, progress.dead_letters = {}, {}
        reader.hold(self.plan.source, self.plan.held)
        head: bytes | None = None
        tail: bytes | None = None
        rows, size = 0, 0
        records: list[tuple[int, bytes]] = []
        for lines in reader.lines(self.plan.source, part, max_rows=_ROWS, max_bytes=limit):
            if not lines:
                continue
            if size > limit and (halves := part.cut()) is not None:
                raise _TooMuch(halves[0])
            first = part.first * _INDEX + part.item + rows
            rows += len(lines)
            if head is None:
                head = lines.pop(0)
            if tail is not None:
                lines.insert(0, tail)
            if lines:
                tail = lines.pop()
            if lines:
                records.append((len(lines), packed(self._groups(lines, first))))
                size += len(records[-1][1])
        return Chunk(rows, head, tail, records, part, progress.nulled, progress.dead_letters)

    def _groups(self, lines: list[bytes], first: int) -> list[TopicRecords]:
        batch = Batch([Run(Op.READ, self._table, self.plan.moment, first, lines, "true")], size=len(lines))
        if self._transforms is not None:
            batch = self._transforms.batch(batch)
        return self._serializer.serialize(batch)


def _form(config: CapturePipeline, ids: Ids) -> RecordFormat:
    kafka, null = config.sink.kafka, config.sink.null
    name = kafka.format if kafka is not None else "avro" if null is None else null.format
    return AvroFormat(_Known(ids, kafka)) if name == "avro" else JsonFormat(schemas=name == "json_schema")


def strict(settings: RegistryConfig) -> RegistryConfig:
    """Return settings of a registry that only refuses: parking rows and overriding levels are the sink's."""
    return settings.model_copy(update={"on_incompatible": "stop"})


class _Known:
    """A `RegisterId` that asks only for what the plan does not tell."""

    def __init__(self, ids: Ids, kafka: KafkaSinkConfig | None) -> None:
        self._ids = ids
        self._settings = None if kafka is None else kafka.registry
        self._ask: RegisterId | None = None

    def __call__(self, topic: str, part: AvroPart, schema: Schema) -> int:
        known = self._ids.get((topic, part, avro_text(schema)))
        if known is not None:
            return known
        if self._settings is None:
            return 1
        if self._ask is None:
            from pycdc.clients.schema_registry import SchemaRegistry

            registry = SchemaRegistry(strict(self._settings))
            self._ask = registered(registry.id_for, registry.subject)
        return self._ask(topic, part, schema)
