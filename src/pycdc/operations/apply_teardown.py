"""`pycdc teardown` of a pipeline that writes into tables: its bookkeeping, replication origins and consumer group."""

from __future__ import annotations

from collections.abc import Iterator

from pycdc.clients.kafka_inspection import TopicInspection
from pycdc.config.pipeline import ApplyPipeline
from pycdc.errors import EnvironmentNotReady
from pycdc.operations.humanize import plural
from pycdc.sinks.postgres.bookkeeping.inspection import leftovers, remove_pipeline_state


def plan(config: ApplyPipeline) -> Iterator[str]:
    """Yield what would be removed. Raises PycdcError where it must not be, or cannot be found out."""
    source, sink = config.source.kafka, config.sink.postgres
    _refuse_while_running(config)
    found = leftovers(sink, config.name)
    for table, rows in found.rows.items():
        yield f"{plural(rows, 'row')} of {sink.bookkeeping}.{table}{_warning(table, rows)}"
    for origin in found.origins:
        yield f"replication origin {origin}"
    yield f"consumer group {config.group} at {source.brokers}"


def remove(config: ApplyPipeline) -> Iterator[str]:
    """Do it; tell what was done. The tables and their schema go when no pipeline has rows there any more."""
    source, sink = config.source.kafka, config.sink.postgres
    _refuse_while_running(config)
    yield from remove_pipeline_state(sink, config.name)
    deleted = TopicInspection(source).delete_group(config.group)
    yield f"deleted consumer group {config.group}" if deleted else f"consumer group {config.group} did not exist"


def _warning(table: str, rows: int) -> str:
    return ": these records were never applied" if table == "parked" and rows else ""


def _refuse_while_running(config: ApplyPipeline) -> None:
    members = TopicInspection(config.source.kafka).members(config.group)
    if members:
        hosts = ", ".join(sorted({member.host for member in members}))
        raise EnvironmentNotReady(
            f"{config.name} is running: its consumer group has {plural(len(members), 'member')}, at {hosts}",
            hint="stop it first; a process that died leaves the group after its session.timeout.ms, by default 45 s",
        )
