"""How a pipeline reaches its signal topic."""

from __future__ import annotations

from typing import Any

from pycdc.clients.kafka_settings import client_settings
from pycdc.config.pipeline import CapturePipeline


def signal_client(config: CapturePipeline) -> dict[str, Any]:
    """Return librdkafka's settings for the signal topic: the sink's, if it is of the same brokers. Holds secrets."""
    chosen, sink = config.signals, config.sink.kafka
    if sink is None or chosen.brokers is not None:
        return client_settings(chosen.brokers or "", chosen.options)
    return client_settings(sink.brokers, {**sink.options, **chosen.options})
