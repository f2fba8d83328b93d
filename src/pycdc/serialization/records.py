"""Records as a sink sends them, and what makes them of batches."""

from __future__ import annotations

from typing import Any, Protocol

from pycdc.model.change import Batch

Record = dict[str, Any]
"""``key`` and ``value`` (bytes or None) in the shape of confluent_kafka's ``Producer.produce_batch``, plus ``headers``
(list of name and bytes or None) where there are any; with these perhaps ``partition`` and ``timestamp`` (milliseconds
since the Unix epoch)."""


TopicRecordList = tuple[str, list[Record]]
"""Records of one topic, in order. Either all of them have headers or none has."""


class BatchSerializer(Protocol):
    """Turns batches into records: `serializer.Serializer`, for all sinks that take bytes."""

    def serialize(self, batch: Batch) -> list[TopicRecordList]:
        """Return groups of (topic, records) in order; a topic may occur several times.

        Either all records of a group have headers or none has. Raises ConversionError or SchemaIncompatible before
        anything was sent.
        """

    def serialize_apart(self, batch: Batch) -> list[TopicRecordList]:
        """Return the records of rows outside of their transaction: none is counted, none tells its place there."""
