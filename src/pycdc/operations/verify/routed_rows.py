"""Rows of the source as the pipeline would write them: through the capture's own encoding and the routes' own code.

Nothing is sent: records are encoded, decoded and routed in this process. Schemas have ids of this process' own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Final

from pycdc.config.pipeline import ApplyPipeline, CapturePipeline
from pycdc.connectors.kafka.record_decoder import Decoder
from pycdc.connectors.postgres.snapshot.block_ranges import Rewritten
from pycdc.connectors.postgres.snapshot.copy_reader import SnapshotReader
from pycdc.model.change import Batch, Op, Run, Transaction
from pycdc.model.event import Event, Partition, Unwritable
from pycdc.observability.progress import Progress
from pycdc.operations.verify.cut import Cut
from pycdc.operations.verify.feeds import SourceTable
from pycdc.operations.verify.readers import rewritten
from pycdc.rows.images import Images
from pycdc.rows.schema import Schema, avro_text
from pycdc.serialization.avro_format import AvroFormat
from pycdc.serialization.json_format import JsonFormat
from pycdc.serialization.serializer import Serializer
from pycdc.sinks.postgres.writing.writes import RowWrite
from pycdc.transforms.capture import CaptureTransforms

_ROWS: Final = 500
"""Rows that are encoded at once."""


class RowRouter:
    """Encodes and routes rows of the tables of one capture. `writes` are the route table's own."""

    def __init__(
        self,
        capture: CapturePipeline,
        apply: ApplyPipeline,
        database: str,
        writes: Callable[[Event], list[RowWrite]],
    ) -> None:
        source, kafka = apply.source.kafka, capture.sink.kafka
        self._capture = capture
        self._writes = writes
        self._texts: list[str] = []
        self._ids: dict[str, int] = {}
        avro = kafka is None or kafka.format == "avro"
        form = AvroFormat(self._id_of) if avro else JsonFormat(schemas=kafka is not None and kafka.format != "json")
        self._decoder = Decoder(self._texts.__getitem__, source.format, source.key_format, source.values)
        progress = Progress()
        self._serializer = Serializer(capture, database, form, progress.became_null)
        self._transforms = CaptureTransforms(capture, progress) if capture.transforms else None

    def rows(self, cut: Cut, table: SourceTable) -> Iterator[tuple[Event, list[RowWrite]]]:
        """Yield each row of the source's snapshot as an event, and what the routes write of it, if it can be routed.

        Raises TableRewritten where the snapshot does not hold the table any more, PycdcError.
        """
        assert table.table is not None
        described = replace(table.table, images=Images(table.table.columns))
        moment = Transaction(None, cut.point, time.time_ns() // 1000)
        raw = self._capture.values.encoding_errors == "replace"
        dsn = self._capture.source.postgres.dsn.get_secret_value()
        done = 0
        with closing(SnapshotReader(dsn, cut.exported.name, raw_text=raw)) as reader:
            try:
                reader.hold(table.copy)
            except Rewritten:
                raise rewritten(f"table {table}") from None
            for lines in reader.lines(table.copy, max_rows=_ROWS):
                if not lines:
                    continue
                batch = Batch([Run(Op.READ, described, moment, done, lines, "true")], size=len(lines))
                done += len(lines)
                for event in self._events(batch):
                    yield event, self._routed(event)

    def _events(self, batch: Batch) -> Iterator[Event]:
        if self._transforms is not None:
            batch = self._transforms.batch(batch)
        now = time.time_ns() // 1_000_000
        for topic, records in self._serializer.serialize(batch):
            for offset, record in enumerate(records):
                headers = tuple((name, value) for name, value in record.get("headers") or ())
                event = self._decoder.event(
                    Partition(topic, 0), offset, now, record.get("key"), record.get("value"), headers
                )
                if event.op == "r" and event.envelope is not None:
                    # Whatever a route does with rows of a snapshot: this is one that was created.
                    event.envelope = {**event.envelope, "op": "c"}
                yield event

    def _routed(self, event: Event) -> list[RowWrite]:
        if event.problem:
            return []
        try:
            return self._writes(event)
        except Unwritable:
            return []

    def _id_of(self, topic: str, part: str, schema: Schema) -> int:
        text = avro_text(schema)
        if text not in self._ids:
            self._ids[text] = len(self._texts)
            self._texts.append(text)
        return self._ids[text]
