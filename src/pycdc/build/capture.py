"""What reads Postgres and writes into Kafka, or where else the configuration says."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any

from pycdc.build.offsets import build_offsets
from pycdc.build.signal_client import signal_client
from pycdc.clients.registry_compatibility import CompatibilityOverrides
from pycdc.clients.schema_registry import SchemaRegistry
from pycdc.config.kafka import KafkaSinkConfig
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.connector import PostgresConnector
from pycdc.connectors.postgres.snapshot.parallel import Workers
from pycdc.errors import ConfigError
from pycdc.interfaces import Checkpoint, Connector, OffsetStore, Sink
from pycdc.model.change import Batch
from pycdc.observability.progress import Progress
from pycdc.observability.tracing import traced_capture
from pycdc.offsets.kafka import KafkaOffsetStore
from pycdc.offsets.memory import MemoryOffsetStore
from pycdc.parking.build import parking_sink
from pycdc.pipeline import Loop
from pycdc.process_pool import ProcessPool
from pycdc.rows.schema import Schema
from pycdc.serialization.avro_format import AvroFormat, AvroPart, registered
from pycdc.serialization.json_format import JsonFormat
from pycdc.serialization.record_format import RecordFormat
from pycdc.serialization.schema_dead_letters import SchemaDeadLetters
from pycdc.serialization.serializer import Serializer
from pycdc.sinks.column_rules import ColumnRulesSink
from pycdc.sinks.console import ConsoleSink
from pycdc.sinks.kafka.oversized import Oversized
from pycdc.sinks.kafka.producer import KafkaSink as KafkaProducerSink
from pycdc.sinks.kafka.record_sizes import RefusedRecord
from pycdc.sinks.kafka.transactional import FencedOffsets, TransactionalKafkaSink
from pycdc.sinks.null import NullSink
from pycdc.sinks.storing import StoringSink
from pycdc.snapshot_worker import TablePlanner, read, strict
from pycdc.table_validation import TableValidation
from pycdc.transforms.capture import CaptureTransforms, TransformingSink

if TYPE_CHECKING:
    from pycdc.build.loop import OwnObjects


def capture_loop(
    config: CapturePipeline, progress: Progress, stopping: threading.Event, own: OwnObjects
) -> Loop[Batch, Checkpoint]:
    kept = own.sink
    if kept is None and config.sink.kafka is not None:
        progress.sink_server = f"the brokers of sink.kafka at {config.sink.kafka.brokers}"
    plain = own.offsets or (MemoryOffsetStore() if kept and not config.offsets else build_offsets(config, stopping))
    offsets = _fenced(config, plain) if config.exactly_once and kept is None else plain
    levels = CompatibilityOverrides()
    refusals: set[RefusedRecord] = set()
    transforms = CaptureTransforms(config, progress) if config.transforms else None

    def source() -> Connector:
        return build_source(config, progress, stopping) if own.source is None else own.source

    def sink() -> Sink:
        if kept is None:
            made = build_sink(config, offsets, progress, stopping, levels)
        else:
            made = StoringSink(ColumnRulesSink(kept, config), plain)
            made.close = lambda: None
        if isinstance(made, KafkaProducerSink | TransactionalKafkaSink) and config.parks:
            made = parking_sink(config, made, transforms, refusals, progress, stopping)
        elif transforms is not None:
            made = TransformingSink(made, transforms)
        traced: Sink = traced_capture(made, config.tracing, config.name)
        return traced

    stands_by = config.source.postgres.standby
    return Loop(source, sink, offsets, config.checkpoint, config.retries, progress, stopping, stands_by=stands_by)


def _fenced(config: CapturePipeline, offsets: OffsetStore) -> FencedOffsets:
    if not isinstance(offsets, KafkaOffsetStore):
        raise ConfigError(
            "delivery: exactly_once stores its position in a topic, and the program brought another store",
            hint="leave the store out, or choose `delivery: at_least_once`",
        )
    return FencedOffsets(offsets, config.transactional_id)


def build_source(config: CapturePipeline, progress: Progress, stopping: threading.Event | None = None) -> Connector:
    admission = TableValidation(config)
    connector = PostgresConnector(config, progress, build_workers(config), admission, stopping, admission.forget)
    topic = config.signals.topic
    if topic is None:
        return connector
    from pycdc.connectors.kafka.signal_topic import ListeningConnector, SignalTopic
    from pycdc.connectors.postgres.signals import messages as signals

    client = signal_client(config)
    group = config.signals.group or f"pycdc-signals-{config.name}"
    forward = partial(signals.pass_on, config, connector.signing_key)
    return ListeningConnector(connector, SignalTopic(client, topic, config.name, group, forward, progress))


def build_workers(config: CapturePipeline) -> Workers | None:
    """Build what reads the rows that exist, where it is not the pipeline itself."""
    source = config.source.postgres
    if not source.parallel:
        return None
    if source.executor is None:
        executor: Callable[[], Executor] = partial(ProcessPool, source.workers)
    else:
        executor = _import(source.executor, "source.postgres.executor")
    planner = TablePlanner(config, partial(_schema_id, config), keeps=source.executor is None)
    return Workers(source.workers, executor, planner, read)


def _schema_id(config: CapturePipeline, topic: str, part: AvroPart, schema: Schema) -> int:
    """Return a schema's id for a snapshot's workers, once for each table. Raises SchemaIncompatible."""
    kafka = config.sink.kafka
    if kafka is None or kafka.registry is None:
        return 1
    with closing(SchemaRegistry(strict(kafka.registry))) as registry:
        return registered(registry.id_for, registry.subject)(topic, part, schema)


def build_sink(
    config: CapturePipeline,
    offsets: OffsetStore | FencedOffsets,
    progress: Progress,
    stopping: threading.Event | None = None,
    levels: CompatibilityOverrides | None = None,
) -> Sink:
    """Build the sink. `levels` are compatibility levels that earlier sinks have still to restore."""
    chosen = config.sink
    if chosen.kafka is not None:
        return _kafka_sink(config, chosen.kafka, offsets, progress, stopping, levels)
    assert not isinstance(offsets, FencedOffsets)
    if chosen.console is not None:
        return ColumnRulesSink(ConsoleSink(chosen.console, sys.stdout, offsets), config)
    if chosen.null is not None:
        form = JsonFormat(schemas=False) if chosen.null.format != "avro" else AvroFormat(lambda topic, kind, schema: 1)
        return NullSink(build_serializer(config, form, progress), offsets)
    assert chosen.custom is not None
    made = _import(chosen.custom.factory, "sink.custom.factory")(**chosen.custom.options)
    if not all(callable(getattr(made, name, None)) for name in ("write", "commit")):
        raise ConfigError(
            f"sink.custom.factory {chosen.custom.factory} returned something without write and commit",
            hint="return an object with write(batch) and commit(checkpoint), see docs/library.md",
        )
    return StoringSink(ColumnRulesSink(made, config), offsets)


def _kafka_sink(
    config: CapturePipeline,
    kafka: KafkaSinkConfig,
    offsets: OffsetStore | FencedOffsets,
    progress: Progress,
    stopping: threading.Event | None,
    levels: CompatibilityOverrides | None,
) -> Sink:
    with ExitStack() as opened:
        form, parking = _form(config, kafka, opened, progress, levels, stopping)
        serializer = build_serializer(config, form, progress, parking)
        oversized = Oversized(config.message_topic, config.dead_letters, progress.dead_letter)
        beside = {"stopping": stopping, "oversized": oversized, "outages": progress.outages}
        made = TransactionalKafkaSink if isinstance(offsets, FencedOffsets) else KafkaProducerSink
        sink = made(serializer, kafka, offsets, **beside)  # type: ignore[arg-type]  # each takes what it was chosen for
        sink.beside = opened.pop_all()
        return sink


def build_serializer(
    config: CapturePipeline, form: RecordFormat, progress: Progress, parking: SchemaDeadLetters | None = None
) -> Serializer:
    catalog = Catalog(config.source.postgres.dsn.get_secret_value())
    try:
        database = catalog.server().database
    finally:
        catalog.close()
    return Serializer(config, database, form, progress.became_null, parking, progress.dead_letter)


def _form(
    config: CapturePipeline,
    kafka: KafkaSinkConfig,
    opened: ExitStack,
    progress: Progress,
    levels: CompatibilityOverrides | None,
    stopping: threading.Event | None,
) -> tuple[RecordFormat, SchemaDeadLetters | None]:
    """Build the format of the records, and what sets those apart that it cannot write.

    What they keep open is pushed on `opened`.
    """
    if kafka.format != "avro":
        return JsonFormat(schemas=kafka.format == "json_schema"), None
    assert kafka.registry is not None
    registry = SchemaRegistry(kafka.registry, levels, stopping=stopping, outages=progress.outages)
    opened.enter_context(closing(registry))
    parks = kafka.registry.on_incompatible == "park"
    parking = SchemaDeadLetters(config.dead_letters, registry.id_for, progress) if parks else None
    return AvroFormat(registered(registry.id_for, registry.subject)), parking


def _import(path: str, where: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as exc:
        raise ConfigError(
            f"{where}: {path!r} cannot be imported ({type(exc).__name__})",
            hint="write it as package.module:name, importable from where pycdc runs",
        ) from None
    if not callable(found):
        raise ConfigError(f"{where}: {path!r} cannot be called", hint="name a function or a class")
    called: Callable[..., Any] = found
    return called
