"""Where signals come from: the table and the topic, as the pipeline needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pycdc.clients.kafka_topics import TopicAdmin
from pycdc.clients.quoting import quoted
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.privileges import SourceInspection
from pycdc.connectors.postgres.signals.signal_table import create_table_sql, misfit, signal_table
from pycdc.errors import PycdcError
from pycdc.operations.doctor.finding import Finding, failed, ok, warning

TABLE = "signals.table"
TOPIC = "signals.topic"


def table_findings(config: CapturePipeline, catalog: Catalog, inspection: SourceInspection) -> Iterator[Finding]:
    named = config.signals.schema_and_table
    if named is None:
        return
    name = ".".join(named)
    found = signal_table(config, catalog)
    metadata = None if found is None else catalog.table_metadata(found.oid)
    if found is None or metadata is None:
        yield failed(f"signal table {name} does not exist", path=TABLE, fix=create_table_sql(*named) + ";")
        return
    reason = misfit(metadata)
    if reason:
        yield failed(f"{name} cannot take signals", reason, path=TABLE, fix=create_table_sql(*named) + ";")
        return
    rights = inspection.tables([found.oid]).get(found.oid)
    if rights is not None and not (rights.selectable and rights.reachable):
        yield warning(
            f"this role may not read {name}",
            "signals come by the stream all the same",
            path=TABLE,
            fix=f"GRANT SELECT ON {quoted(*named)} TO {quoted(inspection.role().name)};",
        )
    if inspection.open_to_all(found.oid):
        yield warning(
            f"every role may insert into {name}",
            "a signal's filter is SQL that the pipeline's role runs, in a read-only transaction",
            path=TABLE,
            fix=f"REVOKE INSERT ON {quoted(*named)} FROM PUBLIC;",
        )
    yield ok(f"signal table {name} can take signals")


def topic_findings(config: CapturePipeline, inspection: Callable[[], TopicAdmin]) -> Iterator[Finding]:
    topic = config.signals.topic
    if topic is None:
        return
    try:
        asked = inspection()
        there = topic in asked.cluster().topics
    except PycdcError as error:
        yield warning("the signal topic was not looked at", error.fact, path=TOPIC, fix=error.hint)
        return
    if there:
        yield ok(f"signal topic {topic} exists")
    else:
        yield warning(
            f"signal topic {topic} does not exist", "it is waited for", path=TOPIC, fix=asked.create_command(topic)
        )
