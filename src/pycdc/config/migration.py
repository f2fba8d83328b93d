"""A migration: what a bounded context needs while it moves from one system into another."""

from __future__ import annotations

from pycdc.config.facade import FacadeConfig
from pycdc.config.section import Section


class MigrationConfig(Section):
    """A bounded context that moves out of a monolith. `pycdc facade` reads this file."""

    facade: FacadeConfig
    """The proxy in front of both systems."""
