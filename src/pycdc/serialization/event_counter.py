"""Count the events of a transaction, as Debezium's ``transaction`` block has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pycdc.model.change import Op, Run
from pycdc.serialization.source_info import TransactionMetadata
from pycdc.serialization.special_topics import transaction_id


class EventCounter:
    """Counts the events of the transaction at hand. `enabled`: records have a ``transaction`` block."""

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self._orders: dict[str, int] = {}
        self._paused = False

    @property
    def counts(self) -> Mapping[str, int]:
        """How many events there were by table, all of them under the empty name."""
        return self._orders

    def begin(self) -> None:
        """Count from 0 again."""
        self._orders = {}

    def next(self, run: Run, table: str) -> TransactionMetadata | None:
        """Count one event and return its block. `total_order` counts events, not rows: a key change makes two.

        None for rows of a snapshot, which belong to no transaction; Debezium's have no block either.
        """
        if run.op is Op.READ or self._paused:
            return None
        total = self._orders[""] = self._orders.get("", 0) + 1
        order = self._orders[table] = self._orders.get(table, 0) + 1
        return TransactionMetadata(transaction_id(run.transaction), total, order)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing meanwhile."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    @contextmanager
    def restored_on_error(self) -> Iterator[None]:
        """Forget what was counted meanwhile, where an error ends it."""
        before = self._orders.copy() if self.enabled else self._orders
        try:
            yield
        except BaseException:
            self._orders = before
            raise
