"""What exactly-once delivery asks of the brokers."""

from __future__ import annotations

from collections.abc import Iterator

from pycdc.clients.kafka_transactions import TransactionLimits
from pycdc.config.kafka import KafkaSinkConfig
from pycdc.operations.doctor.finding import Finding, failed, ok, warning


def transaction_findings(
    sink: KafkaSinkConfig, transactional_id: str, limits: TransactionLimits, brokers: int
) -> Iterator[Finding]:
    """Whether Kafka transactions can be as long as is configured, whoever may begin them, and survive a broker."""
    yield _length(sink, limits)
    if limits.allowed is None:
        yield warning(
            f"whether the transactional id {transactional_id} may be used cannot be seen",
            "that needs the ACL Describe on the cluster; a start tells",
            path="sink.kafka.delivery",
        )
    elif not limits.allowed:
        yield failed(
            f"nobody has the ACL Write on the transactional id {transactional_id}",
            "superusers need none",
            path="sink.kafka.delivery",
            fix="kafka-acls --add --allow-principal User:… --operation Write --operation Describe "
            f"--transactional-id {transactional_id}",
        )
    else:
        yield ok(f"the transactional id {transactional_id} may be used")
    enough = min(3, brokers)
    if limits.replicas is not None and limits.replicas < enough:
        yield warning(
            f"the brokers keep transactions on {limits.replicas} of {brokers} brokers",
            "where those are away nothing can be committed",
            fix="transaction.state.log.replication.factor=3 before __transaction_state is made",
        )
    if limits.in_sync is not None and limits.in_sync < 2 <= brokers:
        yield warning(
            "a transaction counts as committed once a single broker knows it",
            "a broker that is lost then could take the outcome with it",
            fix="transaction.state.log.min.isr=2",
        )


def _length(sink: KafkaSinkConfig, limits: TransactionLimits) -> Finding:
    if limits.longest is None:
        return warning("how long Kafka transactions may be cannot be seen", "a start tells")
    if sink.transaction_timeout > limits.longest:
        return failed(
            f"Kafka transactions of {sink.transaction_timeout:g} s are longer than brokers allow, {limits.longest:g} s",
            path="sink.kafka.transaction_timeout",
            fix=f"transaction_timeout: {limits.longest:g}, or raise transaction.max.timeout.ms of the brokers",
        )
    return ok("Kafka transactions may be as long as configured", f"{limits.longest:g} s at most")
