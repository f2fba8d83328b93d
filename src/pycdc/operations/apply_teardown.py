"""`pycdc teardown` of a pipeline that writes into tables: its bookkeeping, replication origins and consumer group."""

from __future__ import annotations

from collections.abc import Iterator

from pycdc.clients.kafka_inspection import TopicInspection
from pycdc.config.pipeline import PipelineConfig
from pycdc.errors import EnvironmentNotReady
from pycdc.operations.apply_status import group_of, sections
from pycdc.operations.humanize import plural
from pycdc.sinks.postgres.bookkeeping.inspection import belongings, remove_books


def plan(config: PipelineConfig) -> Iterator[str]:
    """What would be removed. Raises PycdcError where it must not be, or cannot be told."""
    source, sink = sections(config)
    _refuse_while_running(config)
    found = belongings(sink, config.name)
    for table, rows in found.rows.items():
        yield f"{plural(rows, 'row')} of {sink.bookkeeping}.{table}{_warning(table, rows)}"
    for origin in found.origins:
        yield f"replication origin {origin}"
    yield f"consumer group {group_of(config)} at {source.brokers}"


def remove(config: PipelineConfig) -> Iterator[str]:
    """Do it; tell what was done. The tables and their schema go when no pipeline has rows there any more."""
    source, sink = sections(config)
    _refuse_while_running(config)
    yield from remove_books(sink, config.name)
    group = group_of(config)
    deleted = TopicInspection(source).delete_group(group)
    yield f"deleted consumer group {group}" if deleted else f"consumer group {group} did not exist"


def _warning(table: str, rows: int) -> str:
    return ": these records were never applied" if table == "parked" and rows else ""


def _refuse_while_running(config: PipelineConfig) -> None:
    source, _ = sections(config)
    members = TopicInspection(source).members(group_of(config))
    if members:
        hosts = ", ".join(sorted({member.host for member in members}))
        raise EnvironmentNotReady(
            f"{config.name} is running: its consumer group has {plural(len(members), 'member')}, at {hosts}",
            hint="stop it first; a process that died leaves the group after its session.timeout.ms, by default 45 s",
        )
