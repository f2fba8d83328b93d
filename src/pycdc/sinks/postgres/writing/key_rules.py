"""Of which events rows may take keys that others have: what records and routes say of it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.model.absence_headers import DEFERRABLE
from pycdc.model.event import Event
from pycdc.model.patterns import names_any


@dataclass(frozen=True, slots=True)
class KeyRules:
    """What the routes say. `topics` have deferrable keys in their source; routes of `keeping` delete nothing.

    `waited` tells of an event whether it has waited for long enough.
    """

    topics: Collection[str] = ()
    keeping: Collection[int] = ()
    waited: Callable[[Event], bool] = lambda event: False

    def may_exchange(self, event: Event) -> bool:
        """Return whether the source's table has a deferrable key."""
        if event.headers and mark_of(event) is not None:
            return True
        return bool(self.topics) and names_any(self.topics, event.partition.topic)

    @classmethod
    def of(cls, settings: PostgresSinkConfig, waited: Callable[[Event], bool]) -> KeyRules:
        """Return the rules of a configuration's routes."""
        routes = settings.routes
        keeping = {order for order, route in enumerate(routes) if route.deletion == "ignore"}
        return cls([route.topic for route in routes if route.deferrable_key], keeping, waited)


def mark_of(event: Event) -> bytes | None:
    """Return the operation that a record of a table with a deferrable key names; None for others."""
    return next((value for name, value in event.headers if name == DEFERRABLE), None)
