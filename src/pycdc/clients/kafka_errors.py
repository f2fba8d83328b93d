"""What librdkafka's errors mean to every client: try again, put the environment right, or stop for good.

Nothing here sees a key or a value: errors carry topics, sizes and the broker's own words.
"""

from __future__ import annotations

import re
from typing import Final

from confluent_kafka import KafkaError, KafkaException

from pycdc.errors import (
    ConfigError,
    ConnectionLost,
    DeliveryError,
    EnvironmentNotReady,
    PositionGap,
    PycdcError,
    RecordTooLarge,
    SinkFenced,
)

SINK_OPTIONS: Final = "sink.kafka.options"
SOURCE_OPTIONS: Final = "source.kafka.options"
DENIED: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,
    }
)
GONE: Final = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
_FENCED: Final = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
_TOO_LARGE: Final = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}
_LATE: Final = {KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT}
_OUT_OF_RANGE: Final = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}
_TLS: Final = re.compile(r"certificate|SSL alert number|wrong version number|unsupported protocol|no shared cipher")
"""Of a handshake that fails each time. One that is only cut short, as by a broker that stops, may succeed later."""


class LastError:
    """An `error_cb` that remembers what a client last said of its connections.

    An object of its own, because a client that calls its owner back is only freed by the garbage collector.
    """

    def __init__(self) -> None:
        self.error: KafkaError | None = None

    def __call__(self, error: KafkaError) -> None:
        # "All brokers are down" says less than the reason that came before it.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self.error = error


def refused_tls(words: str, where: str, option: str) -> EnvironmentNotReady | None:
    """Return the final error where client and brokers cannot agree on TLS; `option` holds the client's settings."""
    if not _TLS.search(words):
        return None
    return EnvironmentNotReady(
        f"{where}: the TLS handshake with the brokers fails: {words}",
        hint=f"check `security.protocol`, `ssl.ca.location`, `ssl.certificate.location` and `ssl.key.location` in "
        f"{option}, and the names in the brokers' certificates",
    )


def refused_option(error: KafkaException, option: str) -> ConfigError:
    """Return the error for an option that librdkafka does not take: which one, without its value."""
    words = re.sub(r'".*"(?= for configuration property)', "a value", error.args[0].str(), flags=re.DOTALL)
    return ConfigError(f"librdkafka refuses the options: {words}", hint=f"correct {option}")


def unreadable(error: KafkaError, where: str, section: str = "source.kafka") -> PycdcError:
    """Return why `where` (a partition, the brokers) cannot be read.

    `section` of the configuration names the brokers.
    """
    code = error.code()
    tls = refused_tls(error.str(), where, SOURCE_OPTIONS)
    if tls is not None:
        return tls
    if code in _OUT_OF_RANGE:
        return PositionGap(
            f"{where}: the stored offset is not in the topic any more; what lay behind it was deleted",
            hint="compare the table apply_offsets with the topic's first offset; to go on without what is lost, "
            "delete the partition's row there and start again (source.kafka.start says where)",
        )
    if code in DENIED:
        return EnvironmentNotReady(
            f"the brokers refuse reading {where}: {error.str()}",
            hint="check `sasl.*` in source.kafka.options, and give the user the ACLs Describe and Read on the topics "
            "and Read on the group",
        )
    if code in GONE:
        return EnvironmentNotReady(
            f"{where} does not exist", hint="check source.kafka.topics; a name without `*` must exist"
        )
    if code == KafkaError._MAX_POLL_EXCEEDED:
        return SinkFenced(
            "the consumer group took this process's partitions away: a batch took longer than max.poll.interval.ms",
            hint="lower source.kafka.max_batch_events, or raise max.poll.interval.ms in source.kafka.options",
        )
    answered = code >= KafkaError.UNKNOWN  # librdkafka's own are below
    hint = f"check that the brokers are up and can be reached: {section}.brokers"
    hint = "look for its cause in the brokers' log" if answered else hint
    return ConnectionLost(f"{where} cannot be read: {error.str()}", hint=hint)


def undelivered(error: KafkaError, topic: str | None, last_trouble: str = "") -> PycdcError:
    """Return why a record for `topic` did not become durable.

    `last_trouble` is what the client last said of the brokers.
    """
    code, where = error.code(), f"topic {topic}" if topic else "a topic"
    tls = refused_tls(last_trouble or error.str(), where, SINK_OPTIONS)
    if tls is not None:
        return tls
    if code in _FENCED:
        return SinkFenced(
            f"{where}: another producer took this one's place ({error.str()})",
            hint="run one instance of a pipeline; stop the other one, then start this one again",
        )
    if code in DENIED:
        return EnvironmentNotReady(
            f"the brokers refuse writing to {where}: {error.str()}",
            hint="check `sasl.*` in sink.kafka.options, and give the user the ACLs Describe and Write on the topic "
            "and IdempotentWrite on the cluster",
        )
    if code in GONE:
        return disappeared(topic)
    if code == KafkaError.INVALID_RECORD:
        return EnvironmentNotReady(
            f"the brokers reject a record for {where} as invalid: a compacted topic takes no null keys",
            hint="give the table a key (`rules: key`), or set the topic's cleanup.policy to delete",
        )
    if code in _TOO_LARGE:
        return RecordTooLarge(f"{where} takes no record of that size", hint=too_large_hint(topic))
    reason = last_trouble or error.str()
    fact = f"no broker confirmed a record for {where} in time" if code in _LATE else f"a record for {where} was lost"
    return DeliveryError(f"{fact}: {reason}", hint="check that the brokers are up, reachable and have enough replicas")


def disappeared(topic: str | None) -> EnvironmentNotReady:
    """Return the error of a topic that was there when the pipeline first wrote to it."""
    return EnvironmentNotReady(
        f"{f'topic {topic}' if topic else 'a topic'} disappeared while the pipeline was running",
        hint="find out who deleted it; starting the pipeline again creates it, without the records it had",
    )


def unreachable(error: KafkaError, brokers: str) -> PycdcError:
    """Return why a question to the brokers got no answer."""
    tls = refused_tls(error.str(), f"the brokers at {brokers}", SINK_OPTIONS)
    if tls is not None:
        return tls
    if error.code() in DENIED:
        return EnvironmentNotReady(
            f"the brokers at {brokers} refuse us: {error.str()}",
            hint="check `security.protocol` and `sasl.*` in sink.kafka.options, and the user's ACLs",
        )
    if error.code() >= KafkaError.UNKNOWN:  # librdkafka's own are below
        return ConnectionLost(
            f"the brokers at {brokers} answer with an error: {error.str()}",
            hint="look for its cause in the brokers' log",
        )
    return ConnectionLost(
        f"no broker at {brokers} answers: {error.str()}",
        hint="check `sink.kafka.brokers`, and `security.protocol` in its options where the brokers use TLS",
    )


def too_large_hint(topic: str | None) -> str:
    return (
        f"raise max.message.bytes of the topic (kafka-configs --alter --topic {topic or 'TOPIC'} --add-config "
        "max.message.bytes=N), or leave the large columns out (`rules: exclude_columns` or `truncate`)"
    )
