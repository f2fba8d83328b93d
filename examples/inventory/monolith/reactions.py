"""What the shop does about events of orders: python -m monolith.reactions DSN BROKERS FACADE-PORT TOPIC-PREFIX.

Orders and payments are reached in the shop's database, the inventory by the façade, wherever it is. A reaction may be
repeated, so that an event may come again after a kill, and a request be sent again that was not answered.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import psycopg
from confluent_kafka import OFFSET_STORED, Consumer, KafkaException, Message, TopicPartition

from .orders import Orders
from .payments import Payments
from .sessions import Sessions

TOPICS = ("orders", "inventory", "payments")
_RETRY = 0.2


class Reactions:
    def __init__(self, dsn: str, facade: int) -> None:
        sessions = Sessions(dsn)
        self._orders = Orders(sessions)
        self._payments = Payments(sessions)
        self._facade = facade
        self._of: dict[str, Callable[[str, str, dict[str, Any]], None]] = {
            "OrderPlaced": self._reserve,
            "ItemReserved": lambda order, cause, _: self._payments.take(order, cause),
            "PaymentTaken": lambda order, cause, _: self._orders.paid(order, cause),
            "OrderWithdrawn": lambda order, cause, _: self._payments.refund(order, cause),
            "PaymentRefused": self._release,
            "PaymentRefunded": lambda order, cause, _: self._release(order, cause, {"reason": "withdrawn"}),
            "ReservationReleased": lambda order, cause, payload: self._orders.cancel(order, payload["reason"], cause),
            "CancelOrder": lambda order, cause, _: self._too_late(order),
        }

    def react(self, kind: str, order: str, cause: str, payload: dict[str, Any]) -> None:
        """Do what an event asks for; again until the database takes it."""
        while True:
            try:
                self._of.get(kind, _ignored)(order, cause, payload)
                return
            except psycopg.OperationalError:
                time.sleep(_RETRY)

    def _reserve(self, order: str, cause: str, payload: dict[str, Any]) -> None:
        body = {"orderId": order, "itemId": payload["itemId"], "pieces": payload["pieces"], "cause": cause}
        if self._asked("reserve", body, (200, 404, 409)) != 200:
            self._orders.cancel(order, "there is no stock", cause)

    def _release(self, order: str, cause: str, payload: dict[str, Any]) -> None:
        self._asked("release", {"orderId": order, "reason": payload["reason"], "cause": cause}, (200,))

    def _too_late(self, order: str) -> None:
        self._orders.withdraw(order, "it took too long")

    def _asked(self, action: str, body: dict[str, Any], final: tuple[int, ...]) -> int:
        """Ask the inventory until it answers with one of `final`, and leave it in peace as long as it asks for."""
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self._facade, timeout=30)
            try:
                connection.request("POST", f"/api/inventory/{action}", json.dumps(body))
                answer = connection.getresponse()
                if answer.status in final:
                    return answer.status
                pause = float(answer.headers.get("Retry-After", _RETRY))
            except (OSError, http.client.HTTPException):
                pause = _RETRY
            finally:
                connection.close()
            time.sleep(pause)


def _ignored(order: str, cause: str, payload: dict[str, Any]) -> None:
    pass


def follow(reactions: Reactions, brokers: str, prefix: str) -> None:
    """React to events, each after the one before it, from where the last process was."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": f"{prefix}.reactions",
            "auto.offset.reset": "earliest",
            "enable.auto.offset.store": False,
            "fetch.wait.max.ms": 10,
        }
    )
    # One process follows, so that it needs no membership, whose end a group would wait for after a kill.
    consumer.assign([one for name in TOPICS for one in _partitions(consumer, f"{prefix}.{name}")])
    while True:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if error := message.error():
            if error.fatal():
                raise KafkaException(error)
            continue
        reactions.react(*_event(message))
        consumer.store_offsets(message)


def _partitions(consumer: Consumer, topic: str) -> list[TopicPartition]:
    found = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    return [TopicPartition(topic, number, OFFSET_STORED) for number in found]


def _event(message: Message) -> tuple[str, str, str, dict[str, Any]]:
    headers = {name: value.decode() for name, value in message.headers() or [] if isinstance(value, bytes)}
    return headers["type"], headers["correlation_id"], headers["id"], json.loads(json.loads(message.value() or b""))


if __name__ == "__main__":
    follow(Reactions(sys.argv[1], int(sys.argv[3])), sys.argv[2], sys.argv[4])
