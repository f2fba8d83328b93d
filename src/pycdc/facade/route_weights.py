"""Which part of each route's requests goes to the new system, kept in a file that several processes change.

Every change writes the weights and Envoy's route file, each beside itself and then renamed: a reader never sees half of
one, and a process that is killed between the two leaves the route file behind, which the next change or start mends.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from pycdc.config.facade import FacadeConfig
from pycdc.errors import CheckpointCorrupt, ConfigError


@dataclass(frozen=True, slots=True)
class RouteWeight:
    """How the requests of a route are shared.

    `percent` of the requests go to the new system, `target` is where the steps lead, `since` is the Unix time of the
    last change and `reason` says what caused it. `held`: writes are answered with 503, until the Unix time
    `held_until` at most.
    """

    percent: int = 0
    target: int = 0
    since: float = 0.0
    reason: str = ""
    held: bool = False
    held_until: float = 0.0

    def moved(self, percent: int, target: int, reason: str) -> RouteWeight:
        return replace(self, percent=percent, target=target, since=time.time(), reason=reason)


Weights = Mapping[str, RouteWeight]
Render = Callable[[FacadeConfig, Weights, str], dict[str, Any]]

_WEIGHTS: Final = "weights.json"


class RouteWeights:
    """The weights of a façade's routes in `folder`; `render` makes the route file of them."""

    def __init__(self, config: FacadeConfig, folder: Path, render: Render) -> None:
        self._config = config
        self._folder = folder
        self._render = render
        self.routes_file = folder / "routes" / "routes.json"

    def read(self) -> dict[str, RouteWeight]:
        """Return the weight of every route of the configuration. Raises CheckpointCorrupt."""
        return self._read()[0]

    def version(self) -> str:
        """Return the version that the route file has after the last change."""
        return str(self._read()[1])

    def change(self, changes: Mapping[str, Callable[[RouteWeight], RouteWeight]]) -> str:
        """Apply a function to each named route's weight at once, write both files, and return the new version."""
        strange = sorted(set(changes) - set(self._config.routes))
        if strange:
            raise ConfigError(
                f"the façade has no route {', '.join(strange)}", hint=f"its routes: {', '.join(self._config.routes)}"
            )
        with self._lock():
            weights, version = self._read()
            weights.update({name: change(weights[name]) for name, change in changes.items()})
            version += 1
            kept = {"version": version, "routes": {name: asdict(weight) for name, weight in weights.items()}}
            replace_file(self._folder / _WEIGHTS, kept)
            replace_file(self.routes_file, self._render(self._config, weights, str(version)))
        return str(version)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self.routes_file.parent.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _read(self) -> tuple[dict[str, RouteWeight], int]:
        path = self._folder / _WEIGHTS
        try:
            kept = json.loads(path.read_bytes())
            found = {name: RouteWeight(**weight) for name, weight in kept["routes"].items()}
            version = int(kept["version"])
        except FileNotFoundError:
            found, version = {}, 0
        except (ValueError, KeyError, TypeError):
            raise CheckpointCorrupt(
                f"{path} does not hold weights of routes", hint="remove it: all requests go to the old system then"
            ) from None
        return {name: found.get(name, RouteWeight()) for name in self._config.routes}, version


def replace_file(path: Path, value: dict[str, Any]) -> None:
    """Write JSON beside `path` and rename it: a reader never sees half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
