"""A migration: what a bounded context needs while it moves from one system into another."""

from __future__ import annotations

from pydantic import model_validator

from pycdc.config.cutover import CutoverGroupConfig
from pycdc.config.facade import FacadeConfig, Name
from pycdc.config.section import InvalidValue, Section


class MigrationConfig(Section):
    """A bounded context that moves out of a monolith: for `pycdc facade`, `pycdc cutover` and `pycdc decommission`."""

    facade: FacadeConfig | None = None
    """The proxy in front of both systems."""
    groups: dict[Name, CutoverGroupConfig] = {}
    """Groups of tables by name, each of which is cut over by itself."""

    @model_validator(mode="after")
    def _routes_are_there(self) -> MigrationConfig:
        routes = {} if self.facade is None else self.facade.routes
        for group in self.groups.values():
            if any(name not in routes or routes[name].reads for name in group.routes):
                raise InvalidValue(
                    "has a group whose `routes` are no routes of writes", "name routes of `facade.routes` with POST …"
                )
            if any(name not in routes or not routes[name].reads for name in group.reads):
                raise InvalidValue(
                    "has a group whose `reads` are no routes of reads", "name routes of `facade.routes` with GET only"
                )
        return self
