"""What is asked of a running pipeline about its parked rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ParkedRequest:
    """To try rows again, or to drop them and try those behind them."""

    action: Literal["retry", "drop"]
    ids: tuple[str, ...]
