"""What Kafka's error codes mean to a pipeline: try again, put the environment right, or stop for good.

Nothing here sees a key or a value: errors carry topics, sizes and the broker's own words.
"""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaError, KafkaException

from pycdc.clients import kafka_errors as faults
from pycdc.clients.kafka_errors import LastError
from pycdc.errors import (
    ConfigError,
    ConnectionLost,
    DeliveryError,
    EnvironmentNotReady,
    PycdcError,
    RecordTooLarge,
    SinkFenced,
)

__all__ = ["LastError", "disappeared", "refused_option", "too_large_hint", "undelivered", "unreachable"]

OPTIONS: Final = "sink.kafka.options"
_FENCED: Final = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
_DENIED: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,
}
_GONE: Final = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
_TOO_LARGE: Final = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}
_LATE: Final = {KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT}


def undelivered(error: KafkaError, topic: str | None, last_trouble: str = "") -> PycdcError:
    """Why a record for `topic` did not become durable. `last_trouble` is what the client last said of the brokers."""
    code, where = error.code(), f"topic {topic}" if topic else "a topic"
    tls = faults.refused_tls(last_trouble or error.str(), where, OPTIONS)
    if tls is not None:
        return tls
    if code in _FENCED:
        return SinkFenced(
            f"{where}: another producer took this one's place ({error.str()})",
            hint="run one instance of a pipeline; stop the other one, then start this one again",
        )
    if code in _DENIED:
        return EnvironmentNotReady(
            f"the brokers refuse writing to {where}: {error.str()}",
            hint="check `sasl.*` in sink.kafka.options, and give the user the ACLs Describe and Write on the topic "
            "and IdempotentWrite on the cluster",
        )
    if code in _GONE:
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
    """Why a question to the brokers got no answer."""
    tls = faults.refused_tls(error.str(), f"the brokers at {brokers}", OPTIONS)
    if tls is not None:
        return tls
    if error.code() in _DENIED:
        return EnvironmentNotReady(
            f"the brokers at {brokers} refuse us: {error.str()}",
            hint="check `security.protocol` and `sasl.*` in sink.kafka.options, and the user's ACLs",
        )
    return ConnectionLost(
        f"no broker at {brokers} answers: {error.str()}",
        hint="check `sink.kafka.brokers`, and `security.protocol` in its options where the brokers use TLS",
    )


def refused_option(error: KafkaException) -> ConfigError:
    """librdkafka does not take an option."""
    return faults.refused_option(error, OPTIONS)


def too_large_hint(topic: str | None) -> str:
    return (
        f"raise max.message.bytes of the topic (kafka-configs --alter --topic {topic or 'TOPIC'} --add-config "
        "max.message.bytes=N), or leave the large columns out (`rules: exclude_columns` or `truncate`)"
    )
