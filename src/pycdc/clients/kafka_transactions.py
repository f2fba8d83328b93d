"""What brokers say of Kafka transactions before one is begun. Changes nothing, and fences nobody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
)

_SECONDS: Final = 5.0
_ALLOWING: Final = (AclOperation.WRITE, AclOperation.ALL)


@dataclass(frozen=True, slots=True)
class TransactionLimits:
    """None where brokers do not tell. `allowed`: somebody may use the transactional id, where brokers ask at all."""

    longest: float | None = None
    replicas: int | None = None
    in_sync: int | None = None
    allowed: bool | None = None


def transaction_limits(client: Mapping[str, Any], transactional_id: str) -> TransactionLimits:
    """Seconds that a transaction may last; the replicas of the brokers' own log of them."""
    admin = AdminClient(dict(client))
    settings = _broker_settings(admin)
    longest = settings.get("transaction.max.timeout.ms")
    replicas, in_sync = (settings.get(f"transaction.state.log.{name}") for name in ("replication.factor", "min.isr"))
    return TransactionLimits(
        None if longest is None else int(longest) / 1000,
        None if replicas is None else int(replicas),
        None if in_sync is None else int(in_sync),
        # Without an authorizer everybody may do everything, and brokers list no ACLs.
        True if settings.get("authorizer.class.name") == "" else _allowed(admin, transactional_id),
    )


def _broker_settings(admin: AdminClient) -> dict[str, str]:
    try:
        brokers = admin.list_topics(timeout=_SECONDS).brokers
        resource = ConfigResource(ResourceType.BROKER, str(next(iter(brokers))))
        entries = admin.describe_configs([resource], request_timeout=_SECONDS)[resource].result(_SECONDS)
    except (KafkaException, StopIteration):
        return {}
    return {name: entry.value for name, entry in entries.items() if entry.value is not None}


def _allowed(admin: AdminClient, transactional_id: str) -> bool | None:
    wanted = AclBindingFilter(
        ResourceType.TRANSACTIONAL_ID,
        transactional_id,
        ResourcePatternType.MATCH,
        None,
        None,
        AclOperation.ANY,
        AclPermissionType.ALLOW,
    )
    try:
        found = admin.describe_acls(wanted, request_timeout=_SECONDS).result(_SECONDS)
    except KafkaException as error:
        return True if error.args[0].code() == KafkaError.SECURITY_DISABLED else None
    return any(one.operation in _ALLOWING for one in found)
