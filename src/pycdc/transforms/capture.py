"""Transforms of a capture: a batch in, a batch out, between the source and whatever sink there is.

Tables that no transform names pass as they are, raw frames in the same runs. Of the others each row is decoded, given
to the functions, and written as a frame again: serialisers, custom sinks and iterating programs get what they always
get. Truncates and messages have no rows and pass.

Parts of one change keep its place in the transaction and are numbered, in the record's header `PART` too, so that the
same change read again makes records that can be told to be the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from pycdc.config.pipeline import CapturePipeline
from pycdc.config.transforms import TableTransformConfig
from pycdc.errors import ConfigError, TransformError
from pycdc.interfaces import Checkpoint, Sink
from pycdc.model.change import Batch, Change, Column, Op, Routing, Run, Table
from pycdc.model.patterns import matches_any
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress
from pycdc.rows.declared import declared_column
from pycdc.rows.images import Images
from pycdc.rows.literals import NotWritable
from pycdc.rows.rewriter import Image, RowRewriter
from pycdc.transforms.change import DecodedChange, Transform
from pycdc.transforms.functions import Failure, call, find, headers_of, usable

log = get_logger()

PART: Final = "__pycdc.part"
_ROWS: Final = frozenset((Op.CREATE, Op.UPDATE, Op.DELETE, Op.READ))
_STREAMED: Final = (Op.CREATE, Op.UPDATE, Op.DELETE)
_Images = tuple[Image | None, Image | None]


@dataclass(frozen=True, slots=True)
class _Step:
    """One entry of `transforms`, its function found and its columns understood."""

    settings: TableTransformConfig
    function: Transform
    columns: tuple[Column, ...]

    def takes(self, table: Table) -> bool:
        return matches_any(self.settings.tables, table.schema, table.name)


class CaptureTransforms:
    """All transforms of a capture. `functions` are those that need not be imported, by the entry that they are for.

    Raises ConfigError for what cannot be meant, before anything starts.
    """

    def __init__(
        self, config: CapturePipeline, progress: Progress, functions: Mapping[int, Transform] | None = None
    ) -> None:
        self._config = config
        self._progress = progress
        self._steps = [
            _step(settings, index, (functions or {}).get(index)) for index, settings in enumerate(config.transforms)
        ]
        self._chains: dict[tuple[Table, bool], _Chain | None] = {}

    def batch(self, batch: Batch) -> Batch:
        """Return the batch with what the functions made of it. Raises TransformError."""
        made = self._made(batch)
        if batch.dropped:
            self._chains = {key: chain for key, chain in self._chains.items() if key[0].oid not in batch.dropped}
        return made

    def _made(self, batch: Batch) -> Batch:
        if not any(self._chain(run) for run in batch.runs):
            return batch
        out = _Output()
        size = batch.size
        for run in batch.runs:
            chain = self._chain(run)
            if chain is None:
                out.passed(run)
                continue
            before = out.rows
            chain.run(run, out)
            size += out.rows - before - len(run.frames)
        return replace(batch, runs=out.runs, size=size)

    def table(self, table: Table) -> Table:
        """Return the table as its changes leave. Raises ConfigError where a transform drops an unknown column."""
        for step in self._steps:
            if step.takes(table):
                table = _reshaped(table, step)
        return table

    def _chain(self, run: Run) -> _Chain | None:
        if run.table is None or run.op not in _ROWS:
            return None
        key = (run.table, run.op is Op.READ)
        if key not in self._chains:
            # An older version of the table no longer comes.
            for old in [old for old in self._chains if old[0].oid == run.table.oid and old[1] == key[1]]:
                del self._chains[old]
            steps = [step for step in self._steps if step.takes(run.table)]
            self._chains[key] = _Chain(run.table, steps, self._config, self._progress) if steps else None
        return self._chains[key]


def _step(settings: TableTransformConfig, index: int, given: Transform | None) -> _Step:
    where = f"transforms[{index}]"
    if given is None:
        function = find(settings.function, f"{where}.function")
    else:
        function = usable(given, settings.function, f"{where}.function")
    return _Step(settings, function, declared_columns(settings, where))


def declared_columns(settings: TableTransformConfig, where: str) -> tuple[Column, ...]:
    """Return the columns that a transform declares. Raises ConfigError for an unknown type."""
    columns = []
    for name, text in settings.columns.items():
        column = declared_column(name, text)
        if column is None:
            raise ConfigError(
                f"{where}.columns: the type of column {name!r} is not known",
                hint="use smallint, integer, bigint, boolean, real, double precision, numeric(p,s), text, varchar(n), "
                "bytea, date, time, timestamp, timestamptz, interval, uuid, json, jsonb, an array of them, "
                "and `not null`",
            )
        columns.append(column)
    return tuple(columns)


class _Output:
    """Runs being filled: neighbours that share everything become one."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.rows = 0
        self._open: Run | None = None

    def passed(self, run: Run) -> None:
        self.runs.append(run)
        self._open = None

    def add(self, source: Run, table: Table, op: Op, index: int, frame: bytes, routing: Routing | None) -> None:
        self.rows += 1
        run = self._open
        if (
            run is not None
            and run.op is op
            and run.table is table
            and run.transaction is source.transaction
            and run.marker == source.marker
            and run.index + len(run.frames) == index
            and run.routing == routing
            and (routing is None or not routing.part)
        ):
            run.frames.append(frame)
            return
        self._open = Run(op, table, source.transaction, index, [frame], source.marker, None, routing)
        self.runs.append(self._open)


class _Chain:
    """The functions of one table version, and the table that they make of it."""

    def __init__(self, table: Table, steps: Sequence[_Step], config: CapturePipeline, progress: Progress) -> None:
        self._table = table
        self._name = str(table)
        self._steps = steps
        self._functions = ", ".join(step.settings.function for step in steps)
        self._progress = progress
        self._dead_topic = config.dead_letters
        self._outbox = config.outbox is not None and matches_any([config.outbox.table], table.schema, table.name)
        self._names = []
        target = table
        for step in steps:
            target = _reshaped(target, step)
            self._names.append(frozenset(column.name for column in target.columns))
        self._target = target
        self._rewriter = RowRewriter(table, target, config.values, config.compatibility)

    def run(self, run: Run, out: _Output) -> None:
        committed = run.transaction.committed_at
        for change in run:
            images = self._rewriter.images(change)
            try:
                parts = self._parts(change, images, self._decoded(change, images, committed))
            except Failure as failure:
                self._failed(change, failure, out)
                continue
            for op, frame, routing in parts:
                out.add(run, self._target, op, change.index, frame, routing)

    def _decoded(self, change: Change, images: _Images, committed: datetime) -> DecodedChange:
        before, after = (None if image is None else image.row for image in images)
        row = before if after is None else after
        assert row is not None
        key = {name: row.get(name) for name in self._table.key}
        return DecodedChange(change.op, self._name, None, key, before, after, committed, change.position)

    def _parts(self, change: Change, images: _Images, decoded: DecodedChange) -> list[tuple[Op, bytes, Routing | None]]:
        """Operation, frame and routing of what becomes of the change. Raises Failure."""
        results = [decoded]
        for step, names in zip(self._steps, self._names, strict=True):
            path = step.settings.function
            results = [made for one in results for made in call(path, step.function, one)]
            for result in results:
                self._check(path, change, result, names)
        split = len(results) > 1
        return [self._part(change, images, result, part if split else None) for part, result in enumerate(results)]

    def _check(self, path: str, change: Change, result: DecodedChange, names: frozenset[str]) -> None:
        """Columns are those declared, so that the schema stays the same whatever a row holds."""
        for side, row in (("before", result.before), ("after", result.after)):
            if row is None or row.keys() == names:
                continue
            strange = sorted(map(str, row.keys() - names))
            if strange:
                raise Failure(path, "UndeclaredColumn", f"returned column {strange[0]!r}, which is not declared")
            if side == "after":
                lacking = sorted(names - row.keys())[0]
                raise Failure(path, "MissingColumn", f"returned no column {lacking!r}, which is declared")
        if result.op is not change.op and not (change.op in _STREAMED and result.op in _STREAMED):
            raise Failure(path, "ValueError", f"made op {change.op.value} into another that it cannot be")
        if result.topic is not None and self._outbox:
            raise Failure(path, "ValueError", "set the topic of an outbox event, which its own columns choose")

    def _part(
        self, change: Change, images: _Images, result: DecodedChange, part: int | None
    ) -> tuple[Op, bytes, Routing | None]:
        return result.op, self._frame(change, images, result), self._routing(result, part)

    def _frame(self, change: Change, images: _Images, result: DecodedChange) -> bytes:
        same = self._rewriter.untouched
        if result.op is change.op and same(images[0], result.before) and same(images[1], result.after):
            return change.frame
        try:
            return self._rewriter.frame(result.op, change.frame, images, result.before, result.after)
        except NotWritable as error:
            raise Failure(self._functions, "Unfit", f"returned a row that cannot be written: {error}") from None

    def _routing(self, result: DecodedChange, part: int | None) -> Routing | None:
        if part is None and result.topic is None and not result.headers:
            return None
        headers = headers_of(self._functions, result)
        if part is not None:
            headers += ((PART, str(part).encode()),)
        return Routing(result.topic, headers, part or 0)

    def _failed(self, change: Change, failure: Failure, out: _Output) -> None:
        """Stop, or let the change as it was go to the dead letters: never nothing."""
        functions = failure.function.split(", ")
        concerned = [step.settings for step in self._steps if step.settings.function in functions]
        if any(settings.on_error == "stop" for settings in concerned):
            raise TransformError(
                f"transform {failure.function} {failure.why}, at a change of table {self._name} "
                f"with op {change.op.value} at position {change.position} (LSN {change.lsn})",
                hint=_remedy(failure),
            ) from None
        self._progress.dead_letter(self._name)
        log.warning(
            "a dead letter",
            table=self._name,
            function=failure.function,
            reason=failure.why,
            position=str(change.position),
            topic=self._dead_topic,
        )
        headers = (
            ("__pycdc.error", failure.kind.encode()),
            ("__pycdc.reason", failure.why.encode("utf-8", "replace")),
            ("__pycdc.function", failure.function.encode()),
            ("__pycdc.table", self._name.encode()),
            ("__pycdc.lsn", str(change.lsn).encode()),
            ("__pycdc.position", str(change.position).encode()),
        )
        routing = Routing(self._dead_topic, headers, dead=True)
        out.add(change.run, self._table, change.op, change.index, change.frame, routing)


def _remedy(failure: Failure) -> str:
    if failure.kind == "UndeclaredColumn":
        return "declare it: `columns: {name: type}` beside the function under transforms, or leave it out of the row"
    if failure.kind == "MissingColumn":
        return "return it, with None for NULL; or name it under `drop` beside the function under transforms"
    return "correct the function and start again, or set `on_error: dead_letter` beside it under transforms"


def _reshaped(table: Table, step: _Step) -> Table:
    """Return the table with the columns that the step adds, gives another type, and drops."""
    drop = set(step.settings.drop)
    have = {column.name for column in table.columns}
    gone = sorted(drop - have)
    if gone and not any("*" in pattern for pattern in step.settings.tables):
        raise ConfigError(
            f"transform {step.settings.function} drops column {gone[0]!r} of table {table}, which has no such column",
            hint="name the column as it is called now, or remove it from transforms[].drop, then start again",
        )
    if not drop & have and not step.columns:
        return table
    declared = {column.name: column for column in step.columns}
    columns = [_retyped(column, declared) for column in table.columns if column.name not in drop]
    new = [replace(c, identity=table.identity == "f") for c in step.columns if c.name not in have]
    made = (*columns, *new)
    return replace(table, columns=made, images=Images(made))


def _retyped(column: Column, declared: dict[str, Column]) -> Column:
    if column.name not in declared:
        return column
    return replace(declared[column.name], identity=column.identity)


class TransformingSink:
    """A sink behind transforms."""

    def __init__(self, sink: Sink, transforms: CaptureTransforms) -> None:
        self._sink = sink
        self._transforms = transforms

    def write(self, batch: Batch) -> None:
        self._sink.write(self._transforms.batch(batch))

    def commit(self, checkpoint: Checkpoint) -> None:
        self._sink.commit(checkpoint)

    @property
    def uncommitted(self) -> bool | None:
        return getattr(self._sink, "uncommitted", None)

    def close(self) -> None:
        close = getattr(self._sink, "close", None)
        if close is not None:
            close()
