"""Everything that a pipeline needs, looked at before it is missed. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Final

from pycdc.build.signal_client import signal_client
from pycdc.clients.kafka_inspection import TopicInspection
from pycdc.clients.kafka_settings import client_settings, producer_settings
from pycdc.clients.kafka_topics import TopicAdmin
from pycdc.clients.kafka_transactions import transaction_limits
from pycdc.clients.quoting import OPERATIONS
from pycdc.clients.schema_registry import SchemaRegistry
from pycdc.config.kafka import KafkaSourceConfig, RegistryConfig, TopicsConfig
from pycdc.config.pipeline import ApplyPipeline, CapturePipeline, PipelineConfig
from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import (
    PublishedTable,
    ServerMetadata,
    SlotMetadata,
    TableMetadata,
    TableRef,
    arriving,
)
from pycdc.connectors.postgres.catalog.privileges import RoleMetadata, SourceInspection, TableRights
from pycdc.connectors.postgres.publication.published_identity import failing_parts
from pycdc.connectors.postgres.publication.reconcile_plan import wanted_operations
from pycdc.connectors.postgres.publication.writability import failing
from pycdc.connectors.postgres.replication.relation_cache import RelationCache
from pycdc.connectors.postgres.signals.signal_table import signal_table
from pycdc.errors import ConfigError, PycdcError
from pycdc.observability.progress import Progress
from pycdc.operations import apply_status
from pycdc.operations.doctor import signals, transport
from pycdc.operations.doctor.exactly_once import transaction_findings
from pycdc.operations.doctor.failover import failover_findings, standby_findings
from pycdc.operations.doctor.finding import Finding, from_error, ok, warning
from pycdc.operations.doctor.kafka import topic_findings
from pycdc.operations.doctor.offsets import offsets_findings
from pycdc.operations.doctor.parked import parked_findings
from pycdc.operations.doctor.partitions import place_findings
from pycdc.operations.doctor.publication import drift_findings, publication_findings
from pycdc.operations.doctor.routes import key_findings, source_findings, target_findings
from pycdc.operations.doctor.server import clock_finding, headroom_findings, replication_finding, server_findings
from pycdc.operations.doctor.slot import setting_findings, slot_findings, start_finding
from pycdc.operations.doctor.tables import identity_findings, match_findings, reading_findings, rule_findings
from pycdc.operations.doctor.transforms import function_findings, pattern_findings
from pycdc.operations.lag.topics import topics_of
from pycdc.operations.reconcile import changes_of
from pycdc.operations.stored_position import compared, stored_position
from pycdc.sinks.postgres.preflight import inspect_target
from pycdc.table_validation import TableValidation

_SECONDS: Final = 5.0
"""For which the brokers are asked."""


@dataclass(slots=True)
class SourceMetadata:
    """What is known of the source once it was asked."""

    server: ServerMetadata
    role: RoleMetadata
    slot: SlotMetadata | None
    tables: list[TableRef]
    rights: dict[int, TableRights]


def diagnose(config: PipelineConfig) -> Iterator[Finding]:
    """Yield all findings, group after group. Groups whose server does not answer are left out."""
    return _diagnose_apply(config) if isinstance(config, ApplyPipeline) else _diagnose_capture(config)


def _diagnose_apply(config: ApplyPipeline) -> Iterator[Finding]:
    source, sink = config.source.kafka, config.sink.postgres
    yield from _group("configuration", [ok(f"pipeline {config.name}", f"group {config.group}")])
    yield from _group("transforms", function_findings(config))
    yield from _group("kafka", transport.kafka_findings(source.brokers, source.options, "source.kafka"))
    yield from _group("kafka", source_findings(source, sink))
    yield from _group("registry", _registry(source.registry, "source.kafka.registry"))
    yield from _group("tables", transport.postgres_findings(sink.dsn, "sink.postgres.dsn"))
    yield from _group("tables", _target(source, sink, config.name))
    yield from _group("position", place_findings(apply_status.inspect(config)))


def _target(source: KafkaSourceConfig, sink: PostgresSinkConfig, name: str) -> Iterator[Finding]:
    try:
        metadata = inspect_target(sink, name)
    except PycdcError as error:
        yield from_error(error, "sink.postgres.dsn")
        return
    yield from target_findings(metadata, sink.bookkeeping)
    if source.registry is None:
        return
    try:
        partitions = Counter(partition.topic for partition in TopicInspection(source).partitions())
        with closing(SchemaRegistry.for_inspection(source.registry)) as probe:
            yield from key_findings(partitions, metadata.routes, probe.latest)
    except PycdcError:
        return  # brokers or registry do not answer, which was told above


def _diagnose_capture(config: CapturePipeline) -> Iterator[Finding]:
    yield from _group("configuration", _configuration(config))
    yield from _group("transforms", function_findings(config))
    source = None
    catalog = Catalog(config.source.postgres.dsn.get_secret_value())
    try:
        source = _source(config, catalog)
    except PycdcError as error:
        yield from _group("postgres", [from_error(error, "source.postgres.dsn")])
    try:
        if source is not None:
            yield from _group("postgres", _postgres(config, source))
            yield from _group("tables", _tables(config, catalog, source))
            yield from _group("transforms", pattern_findings(config, source.tables))
            yield from _group("publication", _publication(config, catalog, source))
            inspection = SourceInspection(config.source.postgres.dsn.get_secret_value())
            yield from _group("signals", signals.table_findings(config, catalog, inspection))
        yield from _group("signals", signals.topic_findings(config, lambda: _signal_inspection(config)))
        brokers_answer = True
        for finding in _group("kafka", _kafka(config, source)):
            brokers_answer = brokers_answer and finding.path != "sink.kafka.brokers"
            yield finding
        if brokers_answer:
            yield from _group("kafka", parked_findings(config))
        registry = None if config.sink.kafka is None else config.sink.kafka.registry
        yield from _group("registry", _registry(registry, "sink.kafka.registry"))
        if source is not None:
            yield from _group("position", _position(config, catalog, source, brokers_answer=brokers_answer))
    finally:
        catalog.close()


def _group(name: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Name the group of findings; an error while they are made is one of them."""
    try:
        for finding in findings:
            yield replace(finding, group=name)
    except PycdcError as error:
        yield replace(from_error(error), group=name)


def _configuration(config: CapturePipeline) -> Iterator[Finding]:
    yield ok(f"pipeline {config.name}", f"slot {config.slot}, publication {config.publication}")
    if config.sink.kafka is None and config.offsets is None:
        yield warning(
            "the position is not stored",
            "after a restart, what the slot still holds comes again, and so does a snapshot",
            path="offsets",
            fix=f"offsets: {{file: {{path: /var/lib/pycdc/{config.slug}}}}}",
        )


def _source(config: CapturePipeline, catalog: Catalog) -> SourceMetadata:
    options = config.source.postgres
    inspection = SourceInspection(options.dsn.get_secret_value())
    server = catalog.server()
    tables = catalog.tables(options.tables, options.exclude_tables)
    rights = inspection.tables([table.oid for table in tables])
    return SourceMetadata(server, inspection.role(), catalog.slot(config.slot), tables, rights)


def _postgres(config: CapturePipeline, source: SourceMetadata) -> Iterator[Finding]:
    inspection = SourceInspection(config.source.postgres.dsn.get_secret_value())
    yield from server_findings(source.server)
    yield from transport.postgres_findings(config.source.postgres.dsn, "source.postgres.dsn")
    if source.role.superuser:
        yield transport.superuser_finding(source.role.name, "source.postgres.dsn", "REPLICATION and what it reads")
    yield replication_finding(source.role, inspection.refuses_replication())
    yield from headroom_findings(source.server, source.role, source.slot)
    yield clock_finding(inspection.clock_ahead())


def _tables(config: CapturePipeline, catalog: Catalog, source: SourceMetadata) -> Iterator[Finding]:
    options = config.source.postgres
    by_pattern = [len(catalog.tables([pattern])) for pattern in options.tables]
    all_tables = [] if all(by_pattern) else [str(table) for table in catalog.tables(["*.*"])]
    yield from match_findings(options, source.tables, by_pattern, all_tables)
    yield from reading_findings(source.role.name, source.tables, source.rights, options)
    metadata = list(catalog.metadata_of([table.oid for table in source.tables]).values())
    published = catalog.publication(config.publication)
    generated = published is not None and published.generated_columns
    fails = failing(catalog, source.tables, publishes_generated=generated)
    fails += failing_parts(catalog, config.publication, source.tables)
    yield from identity_findings(metadata, fails, published.operations if published else _to_publish(config))
    progress = Progress()
    relations = RelationCache(catalog, lambda oid, schema, name: True, progress.unknown_type, config.compatibility)
    sent = {(one.schema, one.name): one for one in published.tables} if published else {}
    via_root = published.via_partition_root if published else options.via_partition_root
    listed = {table.oid for table in arriving(source.tables, via_root=via_root)}
    errors = _plan_errors(config, relations, [one for one in metadata if one.oid in listed], sent)
    yield from rule_findings(config, errors, Counter(kind for _, kind in progress.unknown_types))


def _to_publish(config: CapturePipeline) -> frozenset[str]:
    return frozenset(OPERATIONS[letter] for letter in wanted_operations(config))


def _plan_errors(
    config: CapturePipeline,
    relations: RelationCache,
    metadata: list[TableMetadata],
    sent: Mapping[tuple[str, str], PublishedTable],
) -> list[PycdcError]:
    """Return what a start would refuse, of these tables."""
    try:
        admit = TableValidation(config)
    except ConfigError:
        # Of transforms that are wrong, which other findings tell.
        admit = TableValidation(config.model_copy(update={"transforms": []}))
    errors: list[PycdcError] = []
    for found in metadata:
        published = sent.get((found.schema, found.name), PublishedTable(found.schema, found.name))
        columns = [name for name, column in found.columns.items() if published.sends(column)]
        try:
            admit(relations.of_metadata(found, columns))
        except PycdcError as error:
            errors.append(error)
    return errors


def _publication(config: CapturePipeline, catalog: Catalog, source: SourceMetadata) -> Iterator[Finding]:
    present = catalog.publication(config.publication)
    signalling = signal_table(config, catalog)
    tables, rights = source.tables, source.rights
    if signalling is not None and signalling not in tables:
        tables = [*tables, signalling]
        rights = rights | SourceInspection(config.source.postgres.dsn.get_secret_value()).tables([signalling.oid])
    yield from publication_findings(config, present, tables, source.role, rights)


def _signal_inspection(config: CapturePipeline) -> TopicAdmin:
    return TopicAdmin(signal_client(config), TopicsConfig(), timeout=_SECONDS)


def _kafka(config: CapturePipeline, source: SourceMetadata | None) -> Iterator[Finding]:
    sink = config.sink.kafka
    if sink is None:
        return
    producer_settings(sink)
    yield from transport.kafka_findings(sink.brokers, sink.options, "sink.kafka")
    inspection = TopicAdmin(client_settings(sink.brokers, sink.options), sink.topics, timeout=_SECONDS)
    try:
        cluster = inspection.cluster()
    except PycdcError as error:
        yield from_error(error, "sink.kafka.brokers")
        return
    topics = _topics(config, source.tables if source is not None else [])
    missing = [topic for topic in topics if topic not in cluster.topics]
    refusals = inspection.refusals(missing) if sink.topics.create else {}
    commands = {topic: inspection.create_command(topic) for topic in missing}
    yield from topic_findings(sink, cluster, topics, refusals, commands)
    if config.exactly_once:
        limits = transaction_limits(client_settings(sink.brokers, sink.options), config.transactional_id)
        yield from transaction_findings(sink, config.transactional_id, limits, cluster.brokers)


def _topics(config: CapturePipeline, tables: list[TableRef]) -> list[str]:
    """Return the topics of the tables, and that of the dead letters."""
    registry = None if config.sink.kafka is None else config.sink.kafka.registry
    parks = registry is not None and registry.on_incompatible == "park"
    fails = any(one.on_error == "dead_letter" for one in config.transforms)
    return sorted({*topics_of(config, tables), *([config.dead_letters] if parks or fails else [])})


def _registry(registry: RegistryConfig | None, path: str) -> Iterator[Finding]:
    if registry is None:
        return
    yield from transport.registry_findings(registry, path)
    try:
        probe = SchemaRegistry.for_inspection(registry)
        try:
            yield ok("the schema registry answers", f"{probe.subjects()} subjects")
        finally:
            probe.close()
    except PycdcError as error:
        yield from_error(error, path)


def _position(
    config: CapturePipeline, catalog: Catalog, source: SourceMetadata, *, brokers_answer: bool
) -> Iterator[Finding]:
    yield from slot_findings(source.slot, source.server)
    yield from setting_findings(source.server)
    if config.source.postgres.failover:
        yield from failover_findings(catalog, source.slot, source.server)
        yield from standby_findings(config.source.postgres.dsn.get_secret_value(), config.slot)
    if not brokers_answer and config.sink.kafka is not None and (config.offsets is None or config.offsets.kafka):
        yield warning("the stored position was not compared with the slot", "it is in Kafka, which does not answer")
        return
    try:
        checkpoint = stored_position(config)
    except PycdcError as error:
        yield from_error(error, "offsets")
        return
    yield from offsets_findings(config, stored=checkpoint is not None)
    yield start_finding(config, checkpoint, compared(config, catalog, source.server, source.slot, checkpoint))
    yield from drift_findings(changes_of(config, catalog, source.slot, checkpoint).plan)
