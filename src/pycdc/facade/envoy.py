"""The Envoy process: found, asked whether it takes the files, started, stopped; and its admin interface."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import urllib3

from pycdc.config.facade import FacadeConfig
from pycdc.errors import ConnectionLost, EnvironmentNotReady
from pycdc.facade.envoy_config import ROUTES, bootstrap, routes
from pycdc.facade.route_weights import RouteWeights

START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10.0
_DRAIN_SECONDS: Final = 5.0
_BOOTSTRAP: Final = "envoy.json"
_ADMIN_ADDRESS: Final = "admin-address"


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
    def admin_file(self) -> Path:
        return self.folder / _ADMIN_ADDRESS

    def render(self) -> None:
        """Write the bootstrap, and the routes anew. Raises EnvironmentNotReady where Envoy refuses the bootstrap."""
        self.weights.change({})
        text = json.dumps(bootstrap(self.config, self.weights.routes_file.resolve()), indent=1)
        self.bootstrap_file.write_text(text, encoding="utf-8")
        validate(self.bootstrap_file)

    def left_behind(self) -> EnvoyAdmin | None:
        """Return the Envoy of an earlier process that still runs with these files."""
        try:
            admin = self.admin()
            mine = admin.config_path() == str(self.bootstrap_file)
        except (EnvironmentNotReady, ConnectionLost):
            return None
        return admin if mine else None

    def admin(self) -> EnvoyAdmin:
        """Return the admin interface of the Envoy that was started last. Raises EnvironmentNotReady without one."""
        try:
            text = self.admin_file.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            text = ""
        if not text:
            raise EnvironmentNotReady("no Envoy was started with these files", hint="pycdc facade run")
        return EnvoyAdmin(f"http://{text}")


class EnvoyProcess:
    """An Envoy that lives as long as its block. Raises EnvironmentNotReady where it does not come up.

    One that a killed process left behind serves on until the new one is ready: both listen on the port, by
    SO_REUSEPORT, and both follow the route file.
    """

    def __init__(self, facade: Facade) -> None:
        left_behind = facade.left_behind()
        facade.admin_file.unlink(missing_ok=True)
        self._log = facade.folder / "envoy.log"
        command = [envoy_binary(), "-c", str(facade.bootstrap_file), "--admin-address-path", str(facade.admin_file)]
        # With hot restart Envoy ends with its parent: a killed guard would take the users' requests with it.
        command += ["--log-level", "warning", "--disable-hot-restart"]
        command += ["--drain-strategy", "immediate"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.admin = self._started(facade)
        except BaseException:
            self._kill()
            raise
        if left_behind is not None:
            left_behind.leave()

    def _started(self, facade: Facade) -> EnvoyAdmin:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.check()
            try:
                admin = facade.admin()
                if admin.ready():
                    return admin
            except (EnvironmentNotReady, ConnectionLost):
                pass
            time.sleep(0.05)
        raise EnvironmentNotReady(f"Envoy is not ready after {START_SECONDS:g} s", hint=f"see {self._log}")

    def check(self) -> None:
        """Raise EnvironmentNotReady where it has ended."""
        code = self._process.poll()
        if code is not None:
            raise EnvironmentNotReady(
                f"Envoy ended with {code}", hint=f"see {self._log}; does something else listen on its port?"
            )

    def stop(self) -> None:
        """Answer what was asked, and end."""
        try:
            self.admin.leave()
            self._process.wait(_STOP_SECONDS)
        except (ConnectionLost, subprocess.TimeoutExpired):
            self._kill()

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> EnvoyProcess:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


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

    def config_path(self) -> str:
        """Return the bootstrap file that it was started with, empty where this is no Envoy."""
        try:
            return str(self._get("/server_info").json()["command_line_options"]["config_path"])
        except (ValueError, KeyError, TypeError):
            return ""

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
