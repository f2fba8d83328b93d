"""From a migration's file to a group with open sessions, and to its façade."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pycdc.config import load_migration
from pycdc.errors import ConfigError
from pycdc.facade.envoy import Facade
from pycdc.operations.cutover.sides import Group


class OpenedGroup(NamedTuple):
    """A group of a migration's file, in `folder`, with the façade of the file where it has one."""

    group: Group
    facade: Facade | None
    folder: Path


@contextmanager
def opened_group(path: str, name: str) -> Iterator[OpenedGroup]:
    """Yield a group of a migration's file. Raises PycdcError."""
    config, folder = load_migration(path), Path(path).resolve().parent
    if name not in config.groups:
        raise ConfigError(
            f"there is no group {name}",
            hint=f"write it under `groups`; there are: {', '.join(config.groups) or 'none'}",
        )
    facade = None if config.facade is None else Facade(config.facade, folder / config.facade.folder)
    with Group(name, config.groups[name], folder) as group:
        yield OpenedGroup(group, facade, folder)
