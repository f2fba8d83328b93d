"""librdkafka's settings: what the user's options may change, and what durability and exactly-once forbid them to."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from pydantic import SecretStr

from pycdc.config.kafka import KafkaSinkConfig, KafkaSourceConfig, OptionValue
from pycdc.errors import ConfigError

log = logging.getLogger("pycdc.librdkafka")

PRODUCER_DEFAULTS: Final[dict[str, Any]] = {
    # Java's partitioner over the key's bytes; librdkafka's own default is another one, and keys would change places.
    "partitioner": "murmur2_random",
    # Milliseconds. At 160,000 records/s of 300 B a process of pycdc takes 6.2 µs of CPU a record with 0, 5.2 with 2 and
    # with 5, and the broker 1.4, 0.9 and 0.8. When it has caught up, and for a commit, nothing lingers (producer.py).
    "linger.ms": 2,
    # At full speed lz4, snappy, zstd and none differ by less than the machine's noise (0.5 to 0.9 million records/s);
    # lz4 and snappy halve what brokers store and replicate, and every client reads them.
    "compression.type": "lz4",
    # What may wait in memory, where a record takes some 250 bytes beside its own; a full queue holds the source back.
    "queue.buffering.max.messages": 100_000,
    "queue.buffering.max.kbytes": 65_536,
    # The topic's own limit decides what is too large (see topics.py); this is the client's, before compression.
    "message.max.bytes": 50_000_000,
    "max.in.flight": 5,
    # A request that a broker took and never answers, because it was stopped in between, is given up and sent again
    # after that long; librdkafka's own 60 s, and up to 10 s between connections, look like a standstill.
    "socket.timeout.ms": 15_000,
    "socket.connection.setup.timeout.ms": 10_000,
    "reconnect.backoff.max.ms": 2_000,
    # A topic deleted while we run must not come back empty.
    "allow.auto.create.topics": False,
    "socket.keepalive.enable": True,
}

_REQUIRED: Final[dict[str, tuple[str, ...]]] = {
    "acks": ("all", "-1"),
    "request.required.acks": ("all", "-1"),
    "enable.idempotence": ("true", "1"),
    "queuing.strategy": ("fifo",),
}
"""Options whose other values lose or reorder records."""

_OF_PRODUCER: Final = {
    "bootstrap.servers": "set `brokers` instead",
    "metadata.broker.list": "set `brokers` instead",
    "message.timeout.ms": "set `delivery_timeout` (seconds) instead",
    "delivery.timeout.ms": "set `delivery_timeout` (seconds) instead",
    "transactional.id": "leave it out: `delivery` decides about transactions",
}


LINGER: Final = frozenset({"linger.ms", "queue.buffering.max.ms"})
"""Names of the option that makes records wait for company. Whoever sets it means it: then they always do."""


def client_settings(brokers: str, options: Mapping[str, OptionValue]) -> dict[str, Any]:
    """Return what every client of these brokers needs: addresses and the user's security options. Holds secrets."""
    return {
        "bootstrap.servers": brokers,
        "client.id": "pycdc",
        **{name: value for name, value in _plain(options).items() if name.startswith(_SHARED)},
        "logger": log,
    }


_SHARED: Final = (
    "security.",
    "sasl.",
    "ssl.",
    "enable.ssl",
    "client.",
    "socket.",
    "broker.",
    "reconnect.",
    "api.",
    "metadata.",
    "https.",
    "debug",
)


def producer_settings(settings: KafkaSinkConfig) -> dict[str, Any]:
    """Return a producer's settings: idempotent, all replicas, Java's partitions. Holds secrets. Raises ConfigError."""
    timeout = max(1, int(settings.delivery_timeout * 1000))
    options = _plain(settings.options)
    for name, value in options.items():
        _require_durable(name, value)
    return {
        **client_settings(settings.brokers, settings.options),
        **PRODUCER_DEFAULTS,
        **options,
        "acks": "all",
        "enable.idempotence": True,
        "delivery.report.only.error": True,
        "message.timeout.ms": timeout,
        # How long a topic may be unknown to some broker before it counts as gone: less than the timeout, whose error
        # would hide that.
        "topic.metadata.propagation.max.ms": min(10_000, timeout // 2),
    }


_OF_CONSUMER: Final = {
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

CONSUMER_DEFAULTS: Final[dict[str, Any]] = {
    "socket.keepalive.enable": True,
    # What waits decoded by nobody: librdkafka's 64 MiB and 100,000 messages a partition are more than a batch needs.
    "queued.min.messages": 20_000,
    "queued.max.messages.kbytes": 32_768,
    # After a full queue, the next fetch waits so long: its second is longer than these take to apply.
    "fetch.queue.backoff.ms": 5,
    "fetch.wait.max.ms": 50,
    # So long nobody reads a topic that is new to a pattern, or a new partition; librdkafka's own is five minutes.
    "topic.metadata.refresh.interval.ms": 10_000,
    "allow.auto.create.topics": False,
}

STATISTICS_MS: Final = 2000
"""Milliseconds between two statistics."""


def consumer_settings(settings: KafkaSourceConfig, group: str) -> dict[str, Any]:
    """Return the consumer's settings. Raises ConfigError for an option that is not free to choose. Holds secrets."""
    for name in settings.options:
        if name in _OF_CONSUMER:
            raise ConfigError(f"source.kafka.options.{name} is not free to choose", hint=_OF_CONSUMER[name])
    return {
        "client.id": "pycdc",
        **CONSUMER_DEFAULTS,
        **_plain(settings.options),
        "bootstrap.servers": settings.brokers,
        "group.id": group,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "statistics.interval.ms": STATISTICS_MS,
        "auto.offset.reset": "error",
        "partition.assignment.strategy": "cooperative-sticky",
        "logger": log,
    }


def _plain(options: Mapping[str, OptionValue]) -> dict[str, Any]:
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in options.items()
    }


def _require_durable(name: str, value: object) -> None:
    if name in _OF_PRODUCER:
        raise ConfigError(f"sink.kafka.options.{name} is not free to choose", hint=_OF_PRODUCER[name])
    allowed = _REQUIRED.get(name)
    if allowed is not None and str(value).lower() not in allowed:
        raise ConfigError(
            f"sink.kafka.options.{name} must be {allowed[0]}: another value loses or reorders records",
            hint=f"remove `{name}` from the options",
        )
