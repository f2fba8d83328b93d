"""Guard the source's disk: say how much WAL the slot holds back, forecast it, and keep it within the budget."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from pycdc.clients.webhook import post
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import SlotMetadata, XminHolder
from pycdc.observability.logger import get_logger
from pycdc.operations.humanize import duration, number, size
from pycdc.operations.stored_position import stored_position
from pycdc.operations.teardown import drop_slot_by_force
from pycdc.operations.wal_forecast import WalForecast

log = get_logger()

Level = Literal["ok", "warning", "over"]

_ENDANGERED: Final = ("unreserved", "lost")
"""Values of wal_status: the server takes WAL away that the slot needs, or has done so."""
_SOON: Final = 3600.0
"""Seconds until a limit is reached, below which that is worth a warning."""


@dataclass(frozen=True, slots=True)
class WalState:
    """How the slot stands.

    `retained`, `budget` and `safe` (until the server invalidates it) are in bytes, None where there is no such limit.
    `full_in`: seconds until the nearer limit at the present rate, None where not to be foreseen. `xmin_holder` is what
    holds back vacuum, and often the WAL as well.
    """

    slot: str
    level: Level
    wal_status: str | None
    retained: int
    budget: int | None
    safe: int | None
    full_in: float | None
    xmin_holder: XminHolder | None
    dropped: bool = False

    def __str__(self) -> str:
        limit = "" if self.budget is None else f" of {size(self.budget)} allowed"
        soon = "" if self.full_in is None else f"; full in {duration(self.full_in)} at the present rate"
        done = "was dropped: it held" if self.dropped else "holds"
        return f"slot {self.slot} {done} back {size(self.retained)} of WAL{limit}{soon}"

    def as_dict(self) -> dict[str, Any]:
        """Return what `pycdc guard --json` prints and the webhook is sent."""
        holder = self.xmin_holder
        return {
            "slot": self.slot,
            "level": self.level,
            "wal_status": self.wal_status,
            "retained_bytes": self.retained,
            "budget_bytes": self.budget,
            "safe_bytes": self.safe,
            "full_in_seconds": self.full_in,
            "xmin_holder": None
            if holder is None
            else {"kind": holder.kind, "name": holder.name, "age_transactions": holder.age},
            "dropped": self.dropped,
            "text": str(self),
        }


class WalGuard:
    """The state of one pipeline's slot from one look to the next."""

    def __init__(self, config: CapturePipeline) -> None:
        self._config = config
        self._settings = config.source.postgres.wal_guard
        self._forecast = WalForecast()
        self._level: Level = "ok"
        self._announced: Level = "ok"

    def look(self, catalog: Catalog, slot: SlotMetadata, now: float) -> WalState:
        """Compare the slot with its limits, say what changed, and drop it where it must go. Raises PycdcError.

        `now` is in monotonic seconds.
        """
        retained = slot.retained_bytes or 0
        self._forecast.add(now, retained)
        settings = self._settings
        limits = [slot.safe_wal_size, None if settings is None else settings.budget - retained]
        full_in = self._forecast.seconds_until(min((one for one in limits if one is not None), default=None))
        state = WalState(
            slot=slot.name,
            level=self._level_of(slot, full_in),
            wal_status=slot.wal_status,
            retained=retained,
            budget=None if settings is None else int(settings.budget),
            safe=slot.safe_wal_size,
            full_in=full_in,
            xmin_holder=catalog.xmin_holder(),
        )
        if state.level == "over" and settings is not None and settings.drop_slot and self._may_drop():
            drop_slot_by_force(self._config.source.postgres.dsn.get_secret_value(), catalog, slot.name)
            state = replace(state, dropped=True)
        self._announce(state)
        return state

    def _level_of(self, slot: SlotMetadata, full_in: float | None) -> Level:
        retained, settings = slot.retained_bytes or 0, self._settings
        if settings is not None and retained >= settings.budget:
            return "over"
        if slot.wal_status in _ENDANGERED or (full_in is not None and full_in < _SOON):
            return "warning"
        return "warning" if settings is not None and retained >= settings.budget * settings.warn_at else "ok"

    def _may_drop(self) -> bool:
        """Return whether nothing is gained by keeping the slot: a snapshot under way would only begin again."""
        checkpoint = stored_position(self._config)
        return checkpoint is not None and checkpoint.snapshot_done

    def _announce(self, state: WalState) -> None:
        """Log a change of level once, and send it to the webhook until that took it."""
        if state.level != self._level or state.dropped:
            self._level = state.level
            holder = state.xmin_holder
            say = {"ok": log.info, "warning": log.warning, "over": log.error}[state.level]
            say(
                "the slot was dropped, as wal_guard.drop_slot asks" if state.dropped else "WAL held back by the slot",
                level=state.level,
                state=str(state),
                oldest_xmin=None if holder is None else f"{holder}, {number(holder.age)} transactions ago",
            )
        if self._settings is None or self._settings.webhook is None or state.level == self._announced:
            return
        if post(self._settings.webhook.get_secret_value(), {"pipeline": self._config.name, **state.as_dict()}):
            self._announced = state.level
