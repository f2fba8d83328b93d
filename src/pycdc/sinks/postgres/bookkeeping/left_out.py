"""Events that were read and written nowhere, counted beside the offset of their partition: see `Router.left_out`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Final

from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.model.event import Partition
from pycdc.sinks.postgres.batch_counters import BatchCounters

_COUNT: Final = """UPDATE {offsets} AS o SET left_out = coalesce(o.left_out, '{{}}') || (
    SELECT jsonb_object_agg(key, coalesce((o.left_out ->> key)::bigint, 0) + value::bigint) FROM jsonb_each_text(u.own))
FROM unnest(%s::text[], %s::integer[], %s::jsonb[]) AS u(topic, partition, own)
WHERE o.pipeline = %s AND o.topic = u.topic AND o.partition = u.partition"""


class LeftOut:
    """Counts the events that a sink leaves out. `pipeline` and `schema` name the rows of its offsets."""

    def __init__(self, pipeline: str, schema: str) -> None:
        self._pipeline = pipeline
        self._count = sql.SQL(_COUNT).format(offsets=sql.Identifier(schema, "apply_offsets"))

    def count(self, connection: Connection, events: Iterable[tuple[Partition, str]], counters: BatchCounters) -> None:
        """Events by their partitions and the reasons."""
        of_partition: dict[Partition, Counter[str]] = {}
        for partition, reason in events:
            of_partition.setdefault(partition, Counter())[reason] += 1
            counters.skipped[partition.topic, reason] += 1
        if of_partition:
            topics, numbers = [one.topic for one in of_partition], [one.number for one in of_partition]
            counts = [json.dumps(reasons) for reasons in of_partition.values()]
            connection.execute(self._count, (topics, numbers, counts, self._pipeline))
