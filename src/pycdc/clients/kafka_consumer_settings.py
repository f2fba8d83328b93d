"""librdkafka's settings for the consumer: what the user's options may change, and what exactly-once forbids them to."""

from __future__ import annotations

import logging
from typing import Any, Final

from pydantic import SecretStr

from pycdc.config.kafka import KafkaSourceConfig
from pycdc.errors import ConfigError

log = logging.getLogger("pycdc.librdkafka")

_OURS: Final = {
    "bootstrap.servers": "set `brokers` instead",
    "metadata.broker.list": "set `brokers` instead",
    "group.id": "set `group` instead",
    "isolation.level": "leave it out: what a producer rolled back is never read",
    "enable.auto.commit": "leave it out: offsets are stored with the rows",
    "enable.auto.offset.store": "leave it out: offsets are stored with the rows",
    "enable.partition.eof": "leave it out: it tells the lag",
    "statistics.interval.ms": "leave it out: health looks at it",
    "auto.offset.reset": "set `start`: it holds where nothing was stored, and a stored offset that is gone is an error",
    "partition.assignment.strategy": "leave it out: partitions move one by one",
    "group.protocol": "leave it out: partitions move one by one",
}

DEFAULTS: Final[dict[str, Any]] = {
    "socket.keepalive.enable": True,
    # What waits decoded by nobody: librdkafka's 64 MiB and 100,000 messages a partition are more than a batch needs.
    "queued.min.messages": 20_000,
    "queued.max.messages.kbytes": 32_768,
    # After a full queue, the next fetch waits so long: its second is longer than these take to apply.
    "fetch.queue.backoff.ms": 5,
    "fetch.wait.max.ms": 50,
    "allow.auto.create.topics": False,
}


def consumer_settings(settings: KafkaSourceConfig, group: str) -> dict[str, Any]:
    """Raises ConfigError for an option that is not free to choose. Holds secrets."""
    for name in settings.options:
        if name in _OURS:
            raise ConfigError(f"source.kafka.options.{name} is not free to choose", hint=_OURS[name])
    return {
        "client.id": "pycdc",
        **DEFAULTS,
        **{
            name: value.get_secret_value() if isinstance(value, SecretStr) else value
            for name, value in settings.options.items()
        },
        "bootstrap.servers": settings.brokers,
        "group.id": group,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "statistics.interval.ms": INTERVAL,
        "auto.offset.reset": "error",
        "partition.assignment.strategy": "cooperative-sticky",
        "logger": log,
    }


INTERVAL: Final = 2000
"""Milliseconds between two statistics."""
