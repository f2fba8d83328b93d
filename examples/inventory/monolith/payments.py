"""Payments: taken or refused once for each order, and given back once."""

from __future__ import annotations

from .sessions import Sessions, emit

DECLINED = "declined"
"""A card that pays nothing."""

_TAKE = """INSERT INTO payments (order_id, amount, state)
SELECT id, 100 * pieces, CASE card WHEN %s THEN 'refused' ELSE 'taken' END FROM orders WHERE id = %s
ON CONFLICT (order_id) DO NOTHING RETURNING amount, state"""
_REFUND = "UPDATE payments SET state = 'refunded' WHERE order_id = %s AND state = 'taken' RETURNING amount"


class Payments:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def take(self, order: str, cause: str) -> None:
        session = self._sessions.mine
        with session.transaction():
            row = session.execute(_TAKE, (DECLINED, order)).fetchone()
            if row is None:
                return
            if row[1] == "taken":
                emit(session, "payments", "PaymentTaken", order, cause, {"amount": row[0]})
            else:
                emit(session, "payments", "PaymentRefused", order, cause, {"reason": "the card is declined"})

    def refund(self, order: str, cause: str) -> None:
        session = self._sessions.mine
        with session.transaction():
            if row := session.execute(_REFUND, (order,)).fetchone():
                emit(session, "payments", "PaymentRefunded", order, cause, {"amount": row[0]})
