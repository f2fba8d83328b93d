"""What Kafka's error codes mean to a consumer: try again, put the environment right, or stop for good."""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaError, KafkaException

from pycdc.clients import kafka_errors as faults
from pycdc.clients.kafka_errors import LastError
from pycdc.errors import ConfigError, ConnectionLost, EnvironmentNotReady, PositionGap, PycdcError, SinkFenced

__all__ = ["LastError", "refused_option", "unreadable"]

OPTIONS: Final = "source.kafka.options"
_DENIED: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,
}
_GONE: Final = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
_OUT_OF_RANGE: Final = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}


def unreadable(error: KafkaError, where: str, section: str = "source.kafka") -> PycdcError:
    """Why `where` (a partition, the brokers) cannot be read. `section` of the configuration names the brokers."""
    code = error.code()
    tls = faults.refused_tls(error.str(), where, OPTIONS)
    if tls is not None:
        return tls
    if code in _OUT_OF_RANGE:
        return PositionGap(
            f"{where}: the stored offset is not in the topic any more; what lay behind it was deleted",
            hint="compare the table apply_offsets with the topic's first offset; to go on without what is lost, "
            "delete the partition's row there and start again (source.kafka.start says where)",
        )
    if code in _DENIED:
        return EnvironmentNotReady(
            f"the brokers refuse reading {where}: {error.str()}",
            hint="check `sasl.*` in source.kafka.options, and give the user the ACLs Describe and Read on the topics "
            "and Read on the group",
        )
    if code in _GONE:
        return EnvironmentNotReady(
            f"{where} does not exist", hint="check source.kafka.topics; a name without `*` must exist"
        )
    if code == KafkaError._MAX_POLL_EXCEEDED:
        return SinkFenced(
            "the consumer group took this process's partitions away: a batch took longer than max.poll.interval.ms",
            hint="lower source.kafka.max_batch_events, or raise max.poll.interval.ms in source.kafka.options",
        )
    hint = f"check that the brokers are up and can be reached: {section}.brokers"
    return ConnectionLost(f"{where} cannot be read: {error.str()}", hint=hint)


def refused_option(error: KafkaException) -> ConfigError:
    """librdkafka does not take an option."""
    return faults.refused_option(error, OPTIONS)
