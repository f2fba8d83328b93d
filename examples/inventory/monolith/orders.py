"""Orders: placed, and confirmed once their stock is reserved and their payment taken; cancelled otherwise.

An order's state decides what becomes of it: `placed` → `confirmed`, or `placed` → `cancelling` → `cancelled`.
Everything here may be done twice: only the first time changes the state and writes an event.
"""

from __future__ import annotations

from typing import Any

from .sessions import Sessions, emit

_PLACE = """INSERT INTO orders (id, sku, pieces, card) VALUES (%s, %s, %s, %s)
ON CONFLICT (id) DO NOTHING RETURNING id"""
_PLACED = "SELECT id, sku, pieces, state FROM orders WHERE id = %s"
_WITHDRAW = "UPDATE orders SET state = 'cancelling', reason = %s WHERE id = %s AND state = 'placed' RETURNING id"
_CONFIRM = "UPDATE orders SET state = 'confirmed', ended_at = now() WHERE id = %s AND state = 'placed' RETURNING id"
_UNWANTED = "SELECT reason FROM orders WHERE id = %s AND state = 'cancelling'"
_CANCEL = """UPDATE orders
SET state = 'cancelled', reason = CASE reason WHEN '' THEN %s ELSE reason END, ended_at = now()
WHERE id = %s AND state IN ('placed', 'cancelling') RETURNING reason"""


class Orders:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def place(self, order: str, item: str, pieces: int, card: str) -> None:
        session = self._sessions.mine
        with session.transaction():
            if session.execute(_PLACE, (order, item, pieces, card)).fetchone():
                emit(session, "orders", "OrderPlaced", order, "", {"itemId": item, "pieces": pieces})

    def placed(self, order: str) -> Any:
        """Return number, item, pieces and state; None where there is no such order."""
        return self._sessions.mine.execute(_PLACED, (order,)).fetchone()

    def withdraw(self, order: str, reason: str) -> bool:
        """Note that an order is not wanted any more; False where it has ended, or was noted before.

        Its payment may be on the way. Once that is known, it is given back.
        """
        return self._sessions.mine.execute(_WITHDRAW, (reason, order)).fetchone() is not None

    def paid(self, order: str, cause: str) -> None:
        """Confirm an order whose payment was taken, or have the payment given back."""
        session = self._sessions.mine
        with session.transaction():
            if session.execute(_CONFIRM, (order,)).fetchone():
                emit(session, "orders", "OrderConfirmed", order, cause, {})
            elif unwanted := session.execute(_UNWANTED, (order,)).fetchone():
                emit(session, "orders", "OrderWithdrawn", order, cause, {"reason": unwanted[0]})

    def cancel(self, order: str, reason: str, cause: str) -> None:
        """End an order for which nothing is reserved and nothing paid any more."""
        session = self._sessions.mine
        with session.transaction():
            if row := session.execute(_CANCEL, (reason, order)).fetchone():
                emit(session, "orders", "OrderCancelled", order, cause, {"reason": row[0]})
