"""The stages and gates of a migration's groups for whoever asks over HTTP: asked again and again, answered at once.

To ask the gates takes a second or two, because it measures the lag. So a thread asks all the time, and an answer that
has grown old counts as closed. Another one reads the stage, which changes faster than that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import psycopg

from pycdc.config import load_migration
from pycdc.config.cutover import CutoverGroupConfig
from pycdc.errors import PycdcError
from pycdc.operations.cutover.gates import Gate, ask_gates
from pycdc.operations.cutover.group_state import GroupState, read_reports, read_state
from pycdc.operations.cutover.sides import Group

_PAUSE: Final = 0.5
_STAGE_PAUSE: Final = 0.2
_OLD: Final = 15.0
"""Seconds after which an answer is no answer any more."""


@dataclass(slots=True)
class GroupAnswers:
    """What is known of a group. Times are monotonic, 0 before the first answer.

    `state` is None where the group was never started, and `failure` why it could not be read. `fresh_at`: what the old
    system committed before is in the new system's tables. `reports` are those of the last verification of each
    direction.
    """

    gates: list[Gate] = field(default_factory=list)
    asked_at: float = 0.0
    state: GroupState | None = None
    read_at: float = 0.0
    failure: str = ""
    fresh_at: float = 0.0
    reports: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def current_gates(self) -> list[Gate]:
        """The gates; one that is closed where nobody has answered lately."""
        if self.gates and time.monotonic() - self.asked_at <= _OLD:
            return self.gates
        return [Gate("gates", False, f"nobody has answered for {_OLD:g} s" if self.gates else "not asked yet")]


class GateKeeper:
    """Asks from construction until `close`. Raises ConfigError where the migration's file is wrong."""

    def __init__(self, path: str) -> None:
        self._folder = Path(path).resolve().parent
        self._groups = load_migration(path).groups
        self.answers = {name: GroupAnswers() for name in self._groups}
        """By group."""
        self._ended = threading.Event()
        for name, config in self._groups.items():
            self._begin(f"pycdc-gates-{name}", name, config, _PAUSE, self._ask, self._no_gates)
            self._begin(f"pycdc-stage-{name}", name, config, _STAGE_PAUSE, self._read, self._no_stage)

    def answer(self, name: str) -> dict[str, Any] | None:
        """Return what is known of a group's gates; None where there is no such group."""
        if name not in self.answers:
            return None
        gates = self.answers[name].current_gates
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

    def _begin(self, thread: str, *args: Any) -> None:
        threading.Thread(target=self._repeat, args=args, name=thread, daemon=True).start()

    def _repeat(
        self,
        name: str,
        config: CutoverGroupConfig,
        pause: float,
        work: Callable[[Group], None],
        failed: Callable[[str, str], None],
    ) -> None:
        while not self._ended.wait(pause):
            try:
                with Group(name, config, self._folder) as group:
                    while not self._ended.wait(pause):
                        work(group)
            except PycdcError as error:
                failed(name, error.fact)
            except psycopg.Error as error:
                failed(name, f"lost ({error.sqlstate})")

    def _ask(self, group: Group) -> None:
        state = read_state(group.connections, group.name)
        started = state is not None and state.stage != "following"
        began = time.monotonic()
        gates = ask_gates(group, state or GroupState(), verified=started)
        answers = self.answers[group.name]
        answers.reports = read_reports(group.new.connection, group.name)
        answers.gates, answers.asked_at = gates, time.monotonic()
        if any(gate.open and gate.name == f"{group.way('forward').apply.name} lag" for gate in gates):
            answers.fresh_at = began

    def _no_gates(self, name: str, why: str) -> None:
        self.answers[name].gates, self.answers[name].asked_at = [Gate("databases", False, why)], time.monotonic()

    def _read(self, group: Group) -> None:
        answers = self.answers[group.name]
        answers.state, answers.read_at = read_state(group.connections, group.name), time.monotonic()
        answers.failure = ""

    def _no_stage(self, name: str, why: str) -> None:
        self.answers[name].failure = why
