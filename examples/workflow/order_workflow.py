"""An order as a workflow: DBOS drives it, from the service's own Postgres, and goes on with it after a kill.

Each step is a transaction that holds what it changes, its event as a logical message, and DBOS's record that it was
done. So a step that was done is not done again, and its event is there once.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

from dbos import DBOS, DBOSConfig, SetWorkflowID, SQLAlchemyDatasource
from sqlalchemy import text

OUTBOX = "outbox"
"""The prefix that the capture has as `outbox.messages`."""
DECLINED = "declined"
"""A card that pays nothing."""


class NoStockError(Exception):
    """Less is there than was ordered."""


class OrderWorkflow:
    """Runs orders. `url`: postgresql://…, where DBOS keeps its own tables too, in the schema `dbos`."""

    def __init__(self, url: str) -> None:
        config: DBOSConfig = {"name": "orders", "system_database_url": url, "application_version": "1"}
        DBOS(config=config)
        self._database = SQLAlchemyDatasource.create(url)
        self._run = DBOS.workflow(name="order")(lambda *order: self._order(*order))

    def launch(self) -> None:
        """Begin; workflows that a killed process left go on."""
        DBOS.launch()

    def place(self, order: str, item: str, pieces: int, card: str) -> str:
        """Run an order to its end, once for each number; return its state."""
        with SetWorkflowID(order):
            return str(self._run(order, item, pieces, card))

    def finish(self) -> None:
        """Wait for the orders that a killed process left."""
        for one in DBOS.list_workflows(status=["PENDING", "ENQUEUED"]):
            DBOS.retrieve_workflow(one.workflow_id).get_result()

    def _order(self, order: str, item: str, pieces: int, card: str) -> str:
        self._step("OrderPlaced", order, lambda: self._place(order, item, pieces))
        try:
            self._step("StockReserved", order, lambda: self._move(item, -pieces))
        except NoStockError:
            return self._end("OrderCancelled", order, "cancelled")
        if card == DECLINED:
            self._step("PaymentRefused", order, lambda: None)
            self._step("StockReleased", order, lambda: self._move(item, pieces))
            return self._end("OrderCancelled", order, "cancelled")
        self._step("PaymentTaken", order, lambda: self._pay(order, 100 * pieces))
        return self._end("OrderConfirmed", order, "confirmed")

    def _step(self, event: str, order: str, change: Callable[[], None]) -> None:
        """Change something and write the event of it, in one transaction, once."""

        def changed() -> None:
            change()
            self._emit(event, order)

        self._database.transaction(name=event)(changed)()

    def _end(self, event: str, order: str, state: str) -> str:
        self._step(event, order, lambda: self._set_state(order, state))
        return state

    def _place(self, order: str, item: str, pieces: int) -> None:
        self._execute("INSERT INTO orders (id, sku, pieces) VALUES (:id, :sku, :n)", id=order, sku=item, n=pieces)

    def _move(self, item: str, pieces: int) -> None:
        found = self._execute(
            "UPDATE stock SET on_hand = on_hand + :n WHERE sku = :sku AND on_hand + :n >= 0 RETURNING sku",
            n=pieces,
            sku=item,
        )
        if found.first() is None:
            raise NoStockError(item)

    def _pay(self, order: str, amount: int) -> None:
        self._execute("INSERT INTO payments (order_id, amount) VALUES (:id, :amount)", id=order, amount=amount)

    def _set_state(self, order: str, state: str) -> None:
        self._execute("UPDATE orders SET state = :state WHERE id = :id", state=state, id=order)

    def _emit(self, kind: str, order: str) -> None:
        event = {"id": str(uuid.uuid4()), "aggregatetype": "Order", "aggregateid": order, "type": kind}
        content = json.dumps({**event, "correlation_id": order, "payload": {"orderId": order}})
        self._execute("SELECT pg_logical_emit_message(true, :prefix, :content)", prefix=OUTBOX, content=content)

    def _execute(self, query: str, **values: Any) -> Any:
        return self._database.sql_session().execute(text(query), values)
