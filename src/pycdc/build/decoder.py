"""What decodes the records of an apply's topics."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from pycdc.config.kafka import KafkaSourceConfig, RegistryConfig
from pycdc.connectors.kafka.record_decoder import Decoder
from pycdc.observability.outages import Outages

if TYPE_CHECKING:
    from pycdc.clients.schema_registry import SchemaRegistry


@contextmanager
def build_decoder(source: KafkaSourceConfig) -> Iterator[Decoder]:
    """Build the decoder that reads records as the pipeline does."""
    with ExitStack() as opened:
        registry = build_registry(source.registry)
        if registry is not None:
            opened.enter_context(closing(registry))
        yield Decoder(None if registry is None else registry.text_for, source.format, source.key_format, source.values)


def build_registry(
    settings: RegistryConfig | None, stopping: threading.Event | None = None, outages: Outages | None = None
) -> SchemaRegistry | None:
    if settings is None:
        return None
    from pycdc.clients.schema_registry import SchemaRegistry

    return SchemaRegistry(settings, stopping=stopping, outages=outages)
