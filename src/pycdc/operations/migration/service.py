"""What the status server shows of a migration, and does for whoever has its token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, get_args

from pycdc.config import load_migration
from pycdc.errors import ConfigError, PycdcError
from pycdc.facade.envoy import Facade
from pycdc.facade.read_weight import set_read_weight
from pycdc.operations.cutover.gate_keeper import GateKeeper
from pycdc.operations.cutover.group_state import Stage
from pycdc.operations.migration.command_runner import CommandRunner
from pycdc.operations.migration.facade_view import FacadeView
from pycdc.operations.migration.group_document import group_document
from pycdc.operations.verify.reports.html_report import html
from pycdc.operations.verify.reports.json_report import verification
from pycdc.printable import printable


class MigrationService:
    """A `ServedMigration` of one file. Asks from construction until `close`. Raises ConfigError where it is wrong."""

    def __init__(self, path: str) -> None:
        self._config = load_migration(path)
        self._facade: Facade | None = None
        if self._config.facade is not None:
            folder = Path(path).resolve().parent / self._config.facade.folder
            self._facade = Facade(self._config.facade, folder)
        self._view = None if self._facade is None else FacadeView(self._facade)
        self._commands = CommandRunner(path)
        self._keeper = GateKeeper(path)

    def gates(self, group: str) -> Mapping[str, Any] | None:
        return self._keeper.answer(group)

    def document(self) -> Mapping[str, Any]:
        cookie = None if self._config.facade is None else self._config.facade.read_your_writes or None
        groups = [
            group_document(name, self._config.groups[name], answers, self._commands.last(name), cookie)
            for name, answers in self._keeper.answers.items()
        ]
        shown: dict[str, Any] = _printable({"stages": get_args(Stage), "groups": groups, "facade": self._facade_view()})
        return shown

    def report(self, group: str, direction: str) -> bytes | None:
        answers = self._keeper.answers.get(group)
        found = None if answers is None else answers.reports.get(direction)
        return None if found is None else html(verification(found)).encode()

    def act(self, what: Sequence[str], options: Mapping[str, Any]) -> bool:
        match what:
            case ["groups", group, command] if group in self._keeper.answers:
                self._commands.begin(group, command, options)
            case ["facade", route] if self._facade is not None:
                percent, at_once = options.get("percent"), options.get("at_once") is True
                if not isinstance(percent, int) or isinstance(percent, bool) or not 0 <= percent <= 100:
                    raise ConfigError("`percent` is no number from 0 to 100", hint='send it as in {"percent": 25}')
                set_read_weight(self._facade, route, percent, at_once=at_once)
            case _:
                return False
        return True

    def close(self) -> None:
        """Ask no more."""
        self._keeper.close()

    def __enter__(self) -> MigrationService:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _facade_view(self) -> dict[str, Any] | None:
        if self._view is None:
            return None
        try:
            return self._view.as_dict()
        except PycdcError as error:
            return {"failure": f"{error.fact}; {error.hint}"}


def _printable(value: Any) -> Any:
    """Return a document whose texts show every sign: names come from strangers."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {key: _printable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(one) for one in value]
    return value
