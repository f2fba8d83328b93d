"""What librdkafka's errors mean for a Kafka transaction."""

from __future__ import annotations

from confluent_kafka import KafkaError

from pycdc.clients.kafka_errors import undelivered
from pycdc.errors import DeliveryError, EnvironmentNotReady, PycdcError, RecordTooLarge, SinkFenced


def unended(error: KafkaError, transactional_id: str, last_trouble: str = "") -> PycdcError:
    """Return why a transaction could not be begun or ended, or older instances not fenced."""
    code = error.code()
    if code in (KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED):
        return EnvironmentNotReady(
            f"the brokers refuse the transactional id {transactional_id}: {error.str()}",
            hint=f"kafka-acls --add --allow-principal User:… --operation Write --operation Describe "
            f"--transactional-id {transactional_id}; or choose `delivery: at_least_once`",
        )
    if code == KafkaError.INVALID_TRANSACTION_TIMEOUT:
        return EnvironmentNotReady(
            "the brokers take no transaction of that length: sink.kafka.transaction_timeout is more than their "
            "transaction.max.timeout.ms",
            hint="set a smaller transaction_timeout, or raise transaction.max.timeout.ms",
        )
    found = undelivered(error, None, last_trouble)
    if isinstance(found, SinkFenced):
        return SinkFenced(
            f"another instance took over the transactional id {transactional_id}: {error.str()}",
            hint="run one instance of a pipeline; this one wrote nothing that counts since the other began",
        )
    if not isinstance(found, DeliveryError) or isinstance(found, RecordTooLarge):
        return found
    return DeliveryError(
        f"whether a Kafka transaction was ended is not known: {last_trouble or error.str()}",
        hint="check that the brokers are up, those with replicas of __transaction_state too",
    )
