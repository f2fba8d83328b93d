"""Where a pipeline that writes into tables is: its offsets in the database, the ends of the topics, who runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, TypeVar

from pycdc.clients.kafka_inspection import GroupMember, OffsetSpan, TopicInspection
from pycdc.clients.topic_identity import another_topic
from pycdc.config.pipeline import ApplyPipeline
from pycdc.connectors.kafka.consumer_group import require_own
from pycdc.errors import EnvironmentNotReady, PositionGap, PycdcError
from pycdc.model.event import Partition
from pycdc.sinks.postgres.bookkeeping.inspection import PipelineState, StoredOffset, read_pipeline_state

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PartitionState:
    """A partition: `stored` is None where nothing was applied yet, `span` where it is not in Kafka, `topic_id` too."""

    partition: Partition
    stored: StoredOffset | None
    span: OffsetSpan | None
    owner: GroupMember | None
    topic_id: str | None = None

    def behind(self, start: str) -> int | None:
        """Offsets up to the end, those that hold no record included; None where the end is not known."""
        if self.span is None:
            return None
        if self.stored is not None:
            return max(0, self.span.end - self.stored.next)
        return self.span.end - self.span.first if start == "earliest" else 0

    def problem(self) -> PycdcError | None:
        """Why the pipeline would refuse to go on here."""
        known = None if self.stored is None else self.stored.topic_id
        if known and self.topic_id and known != self.topic_id:
            return another_topic(self.partition.topic, known, self.topic_id)
        if self.stored is None or self.span is None or self.span.first <= self.stored.next <= self.span.end:
            return None
        gone = self.stored.next < self.span.first
        reason = "what lay behind it was deleted" if gone else "the topic ends before it: it was made anew"
        return PositionGap(
            f"{self.partition}: the stored offset {self.stored.next} is not in the topic any more, {reason}",
            hint="to go on without what is lost, delete the partition's row in apply_offsets "
            "(source.kafka.start says where it then begins)",
        )


@dataclass(slots=True)
class ApplyState:
    """What the servers answered. `books` is None where the database did not answer.

    `failures` say why a server did not. `foreign`: the group works for another database.
    """

    bookkeeping: PipelineState | None = None
    places: list[PartitionState] = field(default_factory=list)
    members: list[GroupMember] = field(default_factory=list)
    failures: dict[str, PycdcError] = field(default_factory=dict)
    foreign: PycdcError | None = None

    def problems(self) -> Iterator[PycdcError]:
        yield from self.failures.values()
        yield from filter(None, (self.foreign, *(place.problem() for place in self.places)))


def inspect(config: ApplyPipeline) -> ApplyState:
    """Ask database and brokers; one that does not answer is a failure, and the other is told all the same."""
    source, sink = config.source.kafka, config.sink.postgres
    found = ApplyState()
    found.bookkeeping = _asked(found, "database", lambda: read_pipeline_state(sink, config.name))
    stored = {one.partition: one for one in found.bookkeeping.offsets} if found.bookkeeping is not None else {}
    found.places = [PartitionState(partition, one, None, None) for partition, one in stored.items()]
    inspection = _asked(found, "kafka", lambda: TopicInspection(source))
    if inspection is not None:
        _asked(found, "kafka", lambda: _ask_whose(found, inspection, config.group, source.brokers))
        _asked(found, "kafka", lambda: _ask_brokers(found, inspection, config.group, stored))
    return found


def _asked(found: ApplyState, server: str, question: Callable[[], T]) -> T | None:
    try:
        return question()
    except PycdcError as error:
        found.failures[server] = error
        return None


def _ask_whose(found: ApplyState, inspection: TopicInspection, group: str, brokers: str) -> None:
    if found.bookkeeping is not None and found.bookkeeping.database is not None:
        offsets = inspection.committed(group)
        try:
            require_own(brokers, group, offsets, found.bookkeeping.database)
        except EnvironmentNotReady as error:
            found.foreign = error


def _ask_brokers(
    found: ApplyState, inspection: TopicInspection, group: str, stored: dict[Partition, StoredOffset]
) -> None:
    spans = inspection.spans({*inspection.partitions(), *stored})
    found.members = inspection.members(group)
    ids = inspection.ids({partition.topic for partition in spans})
    owners = {partition: member for member in found.members for partition in member.partitions}
    found.places = [
        PartitionState(
            partition, stored.get(partition), spans.get(partition), owners.get(partition), ids.get(partition.topic)
        )
        for partition in sorted({*spans, *stored})
    ]


def as_dict(config: ApplyPipeline, found: ApplyState) -> dict[str, Any]:
    source = config.source.kafka
    bookkeeping = found.bookkeeping
    behind = [place.behind(source.start) for place in found.places]
    return {
        "name": config.name,
        "group": config.group,
        "running": bool(found.members),
        "members": [
            {"id": one.id, "client": one.client, "host": one.host, "partitions": sorted(map(str, one.partitions))}
            for one in found.members
        ],
        "database_reachable": "database" not in found.failures,
        "kafka_reachable": "kafka" not in found.failures,
        "partitions": [_place(place, source.start) for place in found.places],
        "lag_records": None if None in behind or "kafka" in found.failures else sum(filter(None, behind)),
        "parked": None
        if bookkeeping is None
        else {"records": sum((bookkeeping.parked or {}).values()), "errors": bookkeeping.parked},
        "blocked_keys": None if bookkeeping is None else bookkeeping.blocked_keys,
        "conflicts": None if bookkeeping is None else bookkeeping.conflicts,
        "left_out": None if bookkeeping is None else bookkeeping.left_out,
        "problems": [{"fact": problem.fact, "hint": problem.hint} for problem in found.problems()],
    }


def _place(place: PartitionState, start: str) -> dict[str, Any]:
    stored, span = place.stored, place.span
    return {
        "topic": place.partition.topic,
        "partition": place.partition.number,
        "stored": None if stored is None else stored.next,
        "first": None if span is None else span.first,
        "end": None if span is None else span.end,
        "lag_records": place.behind(start),
        "applied_at": None if stored is None else stored.applied_at.astimezone(UTC).isoformat(),
        "epoch": None if stored is None else stored.epoch,
        "owner": None if place.owner is None else place.owner.id,
    }
