"""Sessions at the shop's database, one for each thread, and the events of their transactions."""

from __future__ import annotations

import json
import threading
import uuid
from typing import Any

import psycopg

OUTBOX = "outbox"
"""The prefix of logical messages that are events."""


class Sessions:
    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._local = threading.local()

    @property
    def mine(self) -> psycopg.Connection[Any]:
        """This thread's session; another one after the database was gone. Raises psycopg.OperationalError."""
        found: psycopg.Connection[Any] | None = getattr(self._local, "connection", None)
        if found is None or found.closed:
            found = self._local.connection = psycopg.connect(self._dsn, autocommit=True)
        return found


def emit(
    session: psycopg.Connection[Any], aggregate: str, kind: str, order: str, cause: str, payload: dict[str, Any]
) -> None:
    """Write an event of an order, within the transaction that made it. `cause`: the event that led to it, if any."""
    event = {"id": str(uuid.uuid4()), "aggregatetype": aggregate, "aggregateid": order, "type": kind}
    event |= {"correlation_id": order, **({"causation_id": cause} if cause else {})}
    text = json.dumps({**event, "payload": {"orderId": order, **payload}})
    session.execute("SELECT pg_logical_emit_message(true, %s, %s)", (OUTBOX, text))
