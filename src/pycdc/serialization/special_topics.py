"""Records that belong to no table: logical messages, the bounds of transactions, heartbeats, notifications."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from binascii import hexlify
from collections.abc import Callable, Mapping
from typing import Any, Final

from pycdc.config.pipeline import CapturePipeline
from pycdc.model.change import LogicalMessage, Run, Transaction
from pycdc.model.notification import Notification
from pycdc.rows.encoder import EncodedParts
from pycdc.rows.schema import Schema
from pycdc.serialization import envelope
from pycdc.serialization.names import topic_name
from pycdc.serialization.record_format import RecordFormat
from pycdc.serialization.source_info import ProcessingTime, SourceOrigin, TransactionMetadata, block_datum, source_datum

MESSAGES: Final = "LOGICAL_DECODING_MESSAGE"
"""What Debezium calls logical messages where it counts the events of a transaction by table."""
_NOTATIONS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "base64": b64encode,
    "base64-url-safe": urlsafe_b64encode,
    "hex": hexlify,
}


def transaction_id(transaction: Transaction) -> str:
    return f"{transaction.xid}:{transaction.commit_lsn:d}"


class SpecialTopics:
    """Makes these records; `append` takes each with its topic."""

    def __init__(
        self,
        config: CapturePipeline,
        origin: SourceOrigin,
        form: RecordFormat,
        append: Callable[[str, EncodedParts], None],
    ) -> None:
        self._name = config.name
        self._notifications = config.envelope.notification_topic
        self._notation = _NOTATIONS.get(config.values.binary)
        self._origin = origin
        self._form = form
        self._append = append
        self._prepared: dict[str, Any] = {}

    def message(
        self, run: Run, message: LogicalMessage, moment: ProcessingTime, block: TransactionMetadata | None
    ) -> None:
        content: Any = message.content
        if self._notation is not None:
            content = self._notation(content).decode()
        value = {
            "op": "m",
            "ts_ms": moment.ms,
            "source": source_datum(run, self._origin, message.lsn),
            "transaction": block_datum(block),
            "message": {"prefix": message.prefix, "content": content},
        }
        schema = envelope.message_value(text=self._notation is not None)
        self._send(f"{self._name}.message", envelope.MESSAGE_KEY, schema, {"prefix": message.prefix}, value)

    def boundary(self, status: str, run: Run, orders: Mapping[str, int] | None) -> None:
        """`orders`: how many events there were by table, all of them under the empty name; None at the beginning."""
        identity = transaction_id(run.transaction)
        counts = None
        if orders is not None:
            counts = [{"data_collection": table, "event_count": count} for table, count in orders.items() if table]
        value = {
            "status": status,
            "id": identity,
            "event_count": None if orders is None else orders.get("", 0),
            "data_collections": counts,
            "ts_ms": run.transaction.commit_time // 1000,
        }
        topic = f"{self._name}.transaction"
        self._send(topic, envelope.TRANSACTION_KEY, envelope.TRANSACTION_VALUE, {"id": identity}, value)

    def notification(self, notification: Notification) -> None:
        value = {
            "id": notification.id,
            "type": notification.type,
            "aggregate_type": notification.aggregate,
            "additional_data": dict(notification.data),
            "timestamp": notification.at,
        }
        topic = self._notifications or ""
        self._send(topic, envelope.NOTIFICATION_KEY, envelope.NOTIFICATION_VALUE, {"id": notification.id}, value)

    def heartbeat(self, moment: ProcessingTime) -> None:
        topic = f"__debezium-heartbeat.{self._name}"
        key, value = {"serverName": self._name}, {"ts_ms": moment.ms}
        self._send(topic, envelope.HEARTBEAT_KEY, envelope.HEARTBEAT_VALUE, key, value)

    def _send(self, topic: str, key_schema: Schema, value_schema: Schema, key: Any, value: Any) -> None:
        topic = topic_name(topic)
        if topic not in self._prepared:
            self._prepared[topic] = self._form.prepare(topic, key_schema, value_schema)
        self._append(topic, self._form.datums(self._prepared[topic], key, value))
