"""Compatibility levels of subjects that are overridden for one registration, and restored whatever happens."""

from __future__ import annotations

from typing import Final

from pycdc.clients.registry_http import RegistryAnswer, RegistryClient

_NONE: Final = "NONE"
_NOT_FOUND: Final = 404


class CompatibilityOverrides:
    """Subjects whose compatibility level is overridden, and the level that each had, None without one of its own.

    Calls raise what the client raises, and may be made again. A process that is killed between the two leaves NONE.
    """

    def __init__(self) -> None:
        self._overridden: dict[str, str | None] = {}

    def override(self, client: RegistryClient, subject: str) -> str | None:
        """Set the subject's level to NONE; return the one it had."""
        if subject not in self._overridden:
            self._overridden[subject] = _own_level(client, subject)
        client.set_level(subject, _NONE)
        return self._overridden[subject]

    def restore(self, client: RegistryClient) -> None:
        """Give all subjects their levels again."""
        for subject, level in list(self._overridden.items()):
            if level is None:
                _drop(client, subject)
            else:
                client.set_level(subject, level)
            del self._overridden[subject]


def _own_level(client: RegistryClient, subject: str) -> str | None:
    try:
        level = client.level(subject)
    except RegistryAnswer as answer:
        if answer.status == _NOT_FOUND:
            return None
        raise
    return level if isinstance(level, str) and level != _NONE else None


def _drop(client: RegistryClient, subject: str) -> None:
    try:
        client.drop_level(subject)
    except RegistryAnswer as answer:
        if answer.status != _NOT_FOUND:
            raise
