"""Commands of the cut-over that a page gives: each runs on a thread, and what it says can be read meanwhile.

They are the functions of `pycdc cutover`, with the same lock: a command that is given there meanwhile waits or is
refused. A process that ends takes its command with it, as a kill does; the same command given again goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from pycdc.clients.postgres_errors import source_error
from pycdc.errors import ConfigError, EnvironmentNotReady, PycdcError
from pycdc.operations.cutover.commands import Cutover
from pycdc.operations.cutover.group_state import IN_PAUSE, GroupState
from pycdc.operations.cutover.opening import opened_group

log = logging.getLogger(__name__)

Options = Mapping[str, Any]

_COMMANDS: Final[Mapping[str, Callable[[Cutover, Options], GroupState]]] = {
    "start": lambda cutover, _: cutover.start(),
    "advance": lambda cutover, _: cutover.advance(),
    "roll-back": lambda cutover, _: cutover.roll_back(),
    "close": lambda cutover, options: cutover.close(now=options.get("now") is True),
}


def offered(state: GroupState | None) -> list[str]:
    """Return the commands that lead on from a state; None is a group that was not started."""
    if state is None:
        return ["start"]
    if state.direction == "back" and (state.stage in IN_PAUSE or state.stage == "switched"):
        return ["roll-back"]
    return {"following": ["advance"], "watching": ["close", "roll-back"], "closed": []}.get(
        state.stage, ["advance", "roll-back"]
    )


@dataclass(slots=True)
class GivenCommand:
    """A command, what it `said`, and once it has ended the stage that it reached or why it failed."""

    name: str
    began: float = field(default_factory=time.monotonic)
    said: list[str] = field(default_factory=list)
    seconds: float | None = None
    stage: str = ""
    fact: str = ""
    hint: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "command": self.name,
            "runs": self.seconds is None,
            "seconds": time.monotonic() - self.began if self.seconds is None else self.seconds,
            "said": self.said.copy(),
            "stage": self.stage,
            "error": self.fact,
            "hint": self.hint,
        }


class CommandRunner:
    """Runs one command of each group at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._last: dict[str, GivenCommand] = {}
        self._lock = threading.Lock()

    def last(self, group: str) -> GivenCommand | None:
        """Return the command that runs, or ran last."""
        return self._last.get(group)

    def begin(self, group: str, name: str, options: Options) -> None:
        """Begin a command. Raises ConfigError where there is none of that name, EnvironmentNotReady beside another."""
        if name not in _COMMANDS:
            raise ConfigError(f"there is no command {name}", hint=f"the commands: {', '.join(_COMMANDS)}")
        with self._lock:
            last = self._last.get(group)
            if last is not None and last.seconds is None:
                raise EnvironmentNotReady(f"{last.name} is at work on group {group}", hint="wait for it")
            given = self._last[group] = GivenCommand(name)
        log.info("%s of group %s was asked for over HTTP", name, group)
        threading.Thread(
            target=self._run, args=(group, given, options), name=f"pycdc-{name}-{group}", daemon=True
        ).start()

    def _run(self, group: str, given: GivenCommand, options: Options) -> None:
        try:
            with opened_group(self._path, group) as opened:
                commands = Cutover(opened.group, opened.facade, announce=given.said.append)
                given.stage = _COMMANDS[given.name](commands, options).stage
        except PycdcError as error:
            given.fact, given.hint = error.fact, error.hint or ""
        except psycopg.Error as error:
            given.fact, given.hint = source_error(error).fact, "see the server's log, then give it again"
        except Exception as error:
            log.exception("%s of group %s failed", given.name, group)
            given.fact, given.hint = f"it failed ({type(error).__name__})", "see this pipeline's log"
        finally:
            given.seconds = time.monotonic() - given.began
