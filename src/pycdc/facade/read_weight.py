"""The weight of a route of reads, as a user sets it."""

from __future__ import annotations

from typing import NamedTuple

from pycdc.errors import ConfigError
from pycdc.facade.envoy import Facade
from pycdc.facade.route_weights import RouteWeight


class ReadWeight(NamedTuple):
    """The percentage from now on, and the version of the routes that says so."""

    percent: int
    version: str


def set_read_weight(facade: Facade, route: str, percent: int, *, at_once: bool = False) -> ReadWeight:
    """Lead `percent` of a route's reads to the new system: less at once, more by the guard's steps unless `at_once`.

    Raises ConfigError where there is no such route of reads.
    """
    _require_reads(facade, route)
    before = facade.weights.read()[route].percent
    now = percent if at_once or percent <= before else before

    def moved(weight: RouteWeight) -> RouteWeight:
        return weight.moved(now, percent, "set")

    return ReadWeight(now, facade.weights.change({route: moved}))


def _require_reads(facade: Facade, route: str) -> None:
    config = facade.config.routes.get(route)
    if config is None:
        raise ConfigError(f"the façade has no route {route}", hint=f"its routes: {', '.join(facade.config.routes)}")
    if not config.reads:
        raise ConfigError(
            f"{route} is a route of writes, which have no weight", hint="pycdc cutover moves them with their data"
        )
