"""Serialise and throw away: what the engine costs without a broker."""

from __future__ import annotations

from pycdc.interfaces import Checkpoint, OffsetStore
from pycdc.model.change import Batch
from pycdc.serialization.records import BatchSerializer


class NullSink:
    def __init__(self, serializer: BatchSerializer, offsets: OffsetStore) -> None:
        self._serializer = serializer
        self._offsets = offsets
        self.records = 0

    def write(self, batch: Batch) -> None:
        for _, records in self._serializer.serialize(batch):
            self.records += len(records)

    def commit(self, checkpoint: Checkpoint) -> None:
        self._offsets.store(checkpoint)
