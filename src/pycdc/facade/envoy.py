"""A façade's files, the Envoy that takes them, and its admin interface."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import urllib3

from pycdc.config.facade import FacadeConfig
from pycdc.errors import ConnectionLost, EnvironmentNotReady
from pycdc.facade.envoy_config import ROUTES, access_log_file, bootstrap, routes
from pycdc.facade.route_weights import RouteWeights, replace_file

_DRAIN_SECONDS: Final = 5.0
_BOOTSTRAP: Final = "envoy.json"
_PROCESS: Final = "envoy-process.json"


def envoy_binary() -> str:
    """Return the path of Envoy, of the extra `facade` or on PATH. Raises EnvironmentNotReady."""
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        binary = Path(folder) / "_bin" / "envoy"
        if binary.is_file():
            return str(binary)
    found = shutil.which("envoy")
    if found is None:
        raise EnvironmentNotReady("Envoy is not installed", hint="pip install 'pycdc-postgres[facade]'")
    return found


def validate(bootstrap_file: Path) -> None:
    """Have Envoy check a bootstrap. Raises EnvironmentNotReady where it refuses it."""
    command = [envoy_binary(), "--mode", "validate", "-c", str(bootstrap_file), "--log-level", "error"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise EnvironmentNotReady(
            f"Envoy refuses its configuration: {said[-1] if said else done.returncode}",
            hint=f"see {bootstrap_file}; Envoy 1.30 or newer is needed",
        )


@dataclass(frozen=True, slots=True)
class EnvoyRecord:
    """What is kept of the Envoy that serves. `bootstrap` is the digest of the one that it was started with."""

    pid: int
    admin: str
    bootstrap: str


class Facade:
    """The files of a façade in `folder`."""

    def __init__(self, config: FacadeConfig, folder: Path) -> None:
        self.config = config
        self.folder = folder
        self.weights = RouteWeights(config, folder, routes)

    @property
    def bootstrap_file(self) -> Path:
        return self.folder / _BOOTSTRAP

    @property
    def access_log(self) -> Path:
        return access_log_file(self.weights.routes_file)

    def bootstrap(self) -> str:
        """Return the bootstrap's text."""
        return json.dumps(bootstrap(self.config, self.weights.routes_file.resolve()), indent=1)

    def render(self) -> None:
        """Write the bootstrap, and the routes anew. Raises EnvironmentNotReady where Envoy refuses the bootstrap."""
        self.weights.change({})
        self.bootstrap_file.write_text(self.bootstrap(), encoding="utf-8")
        validate(self.bootstrap_file)

    def record(self) -> EnvoyRecord | None:
        """Return what is kept of the Envoy that became ready last, whether it still runs or not."""
        try:
            return EnvoyRecord(**json.loads((self.folder / _PROCESS).read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def keep(self, record: EnvoyRecord) -> None:
        """Store what the next `pycdc facade run` needs to find this Envoy."""
        replace_file(self.folder / _PROCESS, asdict(record))

    def admin(self) -> EnvoyAdmin:
        """Return the admin interface of the Envoy that became ready last. Raises EnvironmentNotReady without one."""
        found = self.record()
        if found is None:
            raise EnvironmentNotReady("no Envoy was started with these files", hint="pycdc facade run")
        return EnvoyAdmin(f"http://{found.admin}")


class EnvoyAdmin:
    """Questions to Envoy's admin interface. All raise ConnectionLost where it does not answer."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool = urllib3.PoolManager(timeout=2.0, retries=False)

    def _get(self, path: str, method: str = "GET") -> urllib3.BaseHTTPResponse:
        try:
            return self._pool.request(method, self._url + path)
        except urllib3.exceptions.HTTPError as error:
            raise ConnectionLost(
                f"Envoy's admin interface does not answer ({type(error).__name__})", hint="is `pycdc facade run` alive?"
            ) from None

    def ready(self) -> bool:
        return self._get("/ready").status == 200

    def leave(self) -> None:
        """End this Envoy once its clients have left: it takes no new ones, and closes with each answer."""
        self._get("/drain_listeners?graceful&skip_exit", "POST")
        deadline = time.monotonic() + _DRAIN_SECONDS
        while time.monotonic() < deadline:
            active = self.statistics(rf"^http\.{ROUTES}\.downstream_cx_active$")
            if not any(one.get("value") for one in active):
                break
            time.sleep(0.02)
        self._get("/quitquitquit", "POST")

    def reopen_logs(self) -> None:
        """Have it write its access log to a new file where the one before was removed."""
        self._get("/reopen_logs", "POST")

    def statistics(self, pattern: str) -> list[dict[str, Any]]:
        """Return the statistics whose names match, histograms with their buckets since the start."""
        answer = self._get(f"/stats?format=json&histogram_buckets=cumulative&filter={pattern}")
        found: list[dict[str, Any]] = answer.json()["stats"]
        return found

    def routes_version(self) -> str:
        """Return the version of the routes by which Envoy decides now."""
        dump = self._get("/config_dump?resource=dynamic_route_configs").json()
        found = [str(one.get("version_info", "")) for one in dump.get("configs", [])]
        return found[0] if found else ""

    def wait_for_routes(self, version: str, seconds: float = 5.0) -> None:
        """Return once Envoy decides by that version of the routes or a later one. Raises ConnectionLost."""
        deadline = time.monotonic() + seconds
        while True:
            now = self.routes_version()
            if now.isdigit() and int(now) >= int(version):
                return
            if time.monotonic() > deadline:
                raise ConnectionLost(
                    f"Envoy has not taken version {version} of its routes in {seconds:g} s",
                    hint=f"see envoy.log beside the route file, and rds.{ROUTES} in Envoy's statistics",
                )
            time.sleep(0.01)
