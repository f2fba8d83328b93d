"""librdkafka's settings: what the user's options may change, and what durability forbids them to."""

from __future__ import annotations

import logging
from typing import Any, Final

from pydantic import SecretStr

from pycdc.config.kafka import KafkaSinkConfig
from pycdc.errors import ConfigError

log = logging.getLogger("pycdc.librdkafka")

DEFAULTS: Final[dict[str, Any]] = {
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

_OURS: Final = {
    "bootstrap.servers": "set `brokers` instead",
    "metadata.broker.list": "set `brokers` instead",
    "message.timeout.ms": "set `delivery_timeout` (seconds) instead",
    "delivery.timeout.ms": "set `delivery_timeout` (seconds) instead",
    "transactional.id": "leave it out: `delivery` decides about transactions",
}


LINGER: Final = frozenset({"linger.ms", "queue.buffering.max.ms"})
"""Names of the option that makes records wait for company. Whoever sets it means it: then they always do."""


def client_settings(settings: KafkaSinkConfig) -> dict[str, Any]:
    """What every client of these brokers needs: addresses and the user's security options. Holds secrets."""
    return {
        "bootstrap.servers": settings.brokers,
        "client.id": "pycdc",
        **{name: value for name, value in _plain(settings).items() if name.startswith(_SHARED)},
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
    """The producer's settings: idempotent, all replicas, Java's partitions. Raises ConfigError. Holds secrets."""
    timeout = max(1, int(settings.delivery_timeout * 1000))
    options = _plain(settings)
    for name, value in options.items():
        _require_durable(name, value)
    return {
        **client_settings(settings),
        **DEFAULTS,
        **options,
        "acks": "all",
        "enable.idempotence": True,
        "delivery.report.only.error": True,
        "message.timeout.ms": timeout,
        # How long a topic may be unknown to some broker before it counts as gone: less than the timeout, whose error
        # would hide that.
        "topic.metadata.propagation.max.ms": min(10_000, timeout // 2),
    }


def _plain(settings: KafkaSinkConfig) -> dict[str, Any]:
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in settings.options.items()
    }


def _require_durable(name: str, value: object) -> None:
    if name in _OURS:
        raise ConfigError(f"sink.kafka.options.{name} is not free to choose", hint=_OURS[name])
    allowed = _REQUIRED.get(name)
    if allowed is not None and str(value).lower() not in allowed:
        raise ConfigError(
            f"sink.kafka.options.{name} must be {allowed[0]}: another value loses or reorders records",
            hint=f"remove `{name}` from the options",
        )
