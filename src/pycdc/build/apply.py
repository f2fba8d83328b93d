"""What reads topics and writes into tables."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

from pycdc.build.decoder import build_decoder, build_registry
from pycdc.clients.postgres import place
from pycdc.config.pipeline import ApplyPipeline, PipelineConfig, require_apply
from pycdc.connectors.kafka.connector import KafkaConnector
from pycdc.model.event import Applied, EventBatch
from pycdc.observability.progress import Progress
from pycdc.observability.tracing import traced_apply
from pycdc.pipeline import Loop
from pycdc.sinks.postgres.bookkeeping.apply_offsets import ApplyOffsets
from pycdc.sinks.postgres.columnar_apply import ColumnarRoutes
from pycdc.sinks.postgres.dry_run import Preview, preview
from pycdc.sinks.postgres.failures.replay import Replay
from pycdc.sinks.postgres.schema_drift import KnownTables
from pycdc.sinks.postgres.sink import PostgresSink as PostgresApplySink
from pycdc.transforms.reverse import ReverseFunctions


def apply_loop(config: ApplyPipeline, progress: Progress, stopping: threading.Event) -> Loop[EventBatch, Applied]:
    """Return the loop from topics into tables.

    `ApplyOffsets` ties both ends: the source claims partitions, the sink moves offsets.
    """
    source, sink = config.source.kafka, config.sink.postgres
    progress.sink_server = f"the database of sink.postgres{place(sink.dsn.get_secret_value())}"
    apply_offsets, known, columnar_routes = ApplyOffsets.of(sink, config.name), KnownTables(), ColumnarRoutes()
    functions = ReverseFunctions(config) or None
    apply_offsets.stopping = stopping

    def target() -> Any:
        beside = (progress, known, functions, columnar_routes, stopping)
        return traced_apply(PostgresApplySink(sink, config.name, apply_offsets, *beside), config.tracing, config.name)

    return Loop(
        lambda: KafkaConnector(
            config,
            apply_offsets,
            build_registry(source.registry, stopping, progress.outages),
            progress,
            columnar_routes,
        ),
        target,
        apply_offsets,
        config.checkpoint,
        config.retries,
        progress,
        stopping,
    )


@contextmanager
def build_replay(config: PipelineConfig) -> Iterator[Replay]:
    """Open what was parked, to be applied. Raises ConfigError where the pipeline does not write into Postgres."""
    applies = require_apply(config)
    functions = ReverseFunctions(applies) or None
    with (
        build_decoder(applies.source.kafka) as decoder,
        closing(Replay(applies.sink.postgres, config.name, decoder.event, functions)) as replay,
    ):
        yield replay


def build_preview(config: ApplyPipeline) -> AbstractContextManager[Preview]:
    """Build what shows what the sink would do with events."""
    return preview(config.sink.postgres, config.name, ReverseFunctions(config) or None)
