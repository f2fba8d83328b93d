"""The gates of a migration's groups for whoever asks over HTTP: asked again and again, answered at once.

To ask takes a second or two, because it measures the lag. So a thread asks all the time, and an answer that has grown
old counts as closed.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import psycopg

from pycdc.config import load_migration
from pycdc.config.cutover import CutoverGroupConfig
from pycdc.errors import PycdcError
from pycdc.operations.cutover.gates import Gate, ask_gates
from pycdc.operations.cutover.group_state import GroupState, read_state
from pycdc.operations.cutover.sides import Group

_PAUSE: Final = 0.5
_OLD: Final = 15.0
"""Seconds after which an answer is no answer any more."""


class GateKeeper:
    """Asks from construction until `close`. Raises ConfigError where the migration's file is wrong."""

    def __init__(self, path: str) -> None:
        self._folder = Path(path).resolve().parent
        self._groups = load_migration(path).groups
        self._answers: dict[str, tuple[float, list[Gate]]] = {}
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=one, name=f"pycdc-gates-{one[0]}", daemon=True)
            for one in self._groups.items()
        ]
        for thread in self._threads:
            thread.start()

    def answer(self, name: str) -> dict[str, Any] | None:
        """Return what is known of a group's gates; None where there is no such group."""
        if name not in self._groups:
            return None
        asked, gates = self._answers.get(name, (0.0, []))
        age = time.monotonic() - asked
        if not gates or age > _OLD:
            gates = [Gate("gates", False, f"nobody has answered for {_OLD:g} s" if gates else "not asked yet")]
        return {"group": name, "open": all(gate.open for gate in gates), "gates": [one.as_dict() for one in gates]}

    def close(self) -> None:
        """Ask no more."""
        self._ended.set()

    def __enter__(self) -> GateKeeper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, name: str, config: CutoverGroupConfig) -> None:
        while not self._ended.wait(_PAUSE):
            try:
                with Group(name, config, self._folder) as group:
                    while not self._ended.wait(_PAUSE):
                        self._answers[name] = (time.monotonic(), self._asked(group))
            except PycdcError as error:
                self._answers[name] = (time.monotonic(), [Gate("databases", False, error.fact)])
            except psycopg.Error as error:
                self._answers[name] = (time.monotonic(), [Gate("databases", False, f"lost ({error.sqlstate})")])

    def _asked(self, group: Group) -> list[Gate]:
        state = read_state(group.connections, group.name)
        started = state is not None and state.stage != "following"
        return ask_gates(group, state or GroupState(), verified=started)
