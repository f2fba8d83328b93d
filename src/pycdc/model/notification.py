"""What became of a snapshot, as Debezium's notifications tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Notification:
    """What became of a snapshot, in Debezium's words; `at` is in milliseconds since the Unix epoch."""

    id: str
    aggregate: str
    type: str
    data: Mapping[str, str] = field(repr=False)
    at: int
