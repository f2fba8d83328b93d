"""What Kafka's error codes mean to a consumer: try again, put the environment right, or stop for good."""

from __future__ import annotations

import re
from typing import Final

from confluent_kafka import KafkaError, KafkaException

from pycdc.errors import ConfigError, ConnectionLost, EnvironmentNotReady, PositionGap, PycdcError, SinkFenced

_DENIED: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,
}
_GONE: Final = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
_OUT_OF_RANGE: Final = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}


class LastTrouble:
    """An `error_cb` that remembers what a client last said of its connections."""

    def __init__(self) -> None:
        self.error: KafkaError | None = None

    def __call__(self, error: KafkaError) -> None:
        # "All brokers are down" says less than the reason that came before it.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self.error = error


def unreadable(error: KafkaError, where: str) -> PycdcError:
    """Why `where` (a partition, the brokers) cannot be read."""
    code = error.code()
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
    return ConnectionLost(f"{where} cannot be read: {error.str()}", hint="check source.kafka.brokers")


def refused_option(error: KafkaException) -> ConfigError:
    """librdkafka does not take an option: which one, without its value."""
    words = re.sub(r'".*"(?= for configuration property)', "a value", error.args[0].str(), flags=re.DOTALL)
    return ConfigError(f"librdkafka refuses the options: {words}", hint="correct source.kafka.options")
