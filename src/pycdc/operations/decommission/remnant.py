"""What a group leaves behind on the servers, and what can remove it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

OnProgress = Callable[[str], None]
"""Called with a line for each thing that was done or kept."""


@dataclass(frozen=True, slots=True)
class Remnant:
    """Something of the group that is on a server. `reason` says why it is still there after an attempt to remove it."""

    kind: str
    name: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f": {self.reason}" if self.reason else "")


class Remnants(Protocol):
    """Things that are removed together. To remove them again, after a kill in the middle, does the rest."""

    @property
    def name(self) -> str:
        """A name that stays the same: under it is stored that all of them are gone."""

    def kept(self) -> list[Remnant]:
        """Return what stays on purpose, with the reasons."""

    def present(self) -> list[Remnant]:
        """Ask the servers what there is to remove."""

    def remove(self, on_progress: OnProgress) -> None:
        """Remove it, as far as it can be. Raises PycdcError, psycopg.Error."""
