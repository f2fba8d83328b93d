"""The files that Envoy gets: taken by Envoy itself, and saying what the weights say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pycdc.config import load_migration
from pycdc.config.facade import FacadeConfig
from pycdc.errors import ConfigError, EnvironmentNotReady
from pycdc.facade import envoy
from pycdc.facade.envoy import Facade
from pycdc.facade.envoy_config import path_regex, routes
from pycdc.facade.route_weights import RouteWeight

ROUTES = {
    "read": {"path": "/api/inventory/{itemId}"},
    "adjust": {"path": "/api/inventory/adjust", "methods": ["POST", "PUT"]},
    "rest": {"path": "/api/stock/**", "to": "stock"},
}
CLUSTERS = {"old": "http://monolith:8000", "new": "http://127.0.0.1:8001", "stock": "http://[::1]:8002"}


def config(**options: Any) -> FacadeConfig:
    return FacadeConfig.model_validate({"clusters": CLUSTERS, "routes": ROUTES, **options})


@pytest.mark.server
@pytest.mark.parametrize("read_your_writes", [0, 10])
@pytest.mark.parametrize(
    "weight", [RouteWeight(), RouteWeight(percent=5), RouteWeight(percent=100), RouteWeight(held=True)]
)
def test_envoy_takes_the_files(tmp_path: Path, read_your_writes: int, weight: RouteWeight) -> None:
    facade = Facade(config(read_your_writes=read_your_writes), tmp_path / "files")
    facade.weights.change(dict.fromkeys(ROUTES, lambda _: weight))
    facade.render()
    # Envoy reads the route file only later: as a part of the bootstrap it is checked too.
    bootstrap = json.loads(facade.bootstrap_file.read_text())
    resource = json.loads(facade.weights.routes_file.read_text())["resources"][0]
    del resource["@type"]
    chain = bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]
    manager = chain["filters"][0]["typed_config"]
    del manager["rds"]
    manager["route_config"] = resource
    whole = tmp_path / "whole.json"
    whole.write_text(json.dumps(bootstrap))
    envoy.validate(whole)


@pytest.mark.server
def test_what_envoy_refuses_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "wrong.json").write_text('{"static_resources": {"listeners": [{"nme": "x"}]}}')
    with pytest.raises(EnvironmentNotReady, match="Envoy refuses its configuration") as caught:
        envoy.validate(tmp_path / "wrong.json")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("path", "matches", "does_not"),
    [
        (
            "/api/inventory/{itemId}",
            ["/api/inventory/7", "/api/inventory/a%20b"],
            ["/api/inventory/", "/api/inventory/7/x"],
        ),
        ("/api/stock/**", ["/api/stock/", "/api/stock/7/x"], ["/api/stock", "/apix/stock/7"]),
        ("/a.b/{x}/c-d", ["/a.b/1/c-d"], ["/aXb/1/c-d"]),
        ("/", ["/"], ["/x"]),
    ],
)
def test_a_path_matches_its_requests(path: str, matches: list[str], does_not: list[str]) -> None:
    expression = re.compile(path_regex(path))
    assert all(expression.fullmatch(one) for one in matches)
    assert not any(expression.fullmatch(one) for one in does_not)


def test_each_change_is_new_to_envoy() -> None:
    """Envoy does not tell the version of a file that says the same as before."""
    weights = dict.fromkeys(ROUTES, RouteWeight())
    first, second = (routes(config(), weights, version)["resources"] for version in "12")
    assert first != second


@pytest.mark.parametrize(
    ("change", "place", "remedy"),
    [
        ({"clusters": {"new": "http://a:1"}}, "facade.clusters has no `old`", "add `old: "),
        ({"clusters": {**CLUSTERS, "new": "https://a:1"}}, "facade.clusters", "without a path"),
        ({"routes": {"read": {"path": "api"}}}, "facade.routes.read.path is no path", "begin with `/`"),
        ({"routes": {"read": {"path": "/a/**/b"}}}, "facade.routes.read.path has a pattern", "at the end only"),
        ({"routes": {"read": {"path": "/a", "methods": ["get"]}}}, "facade.routes.read.methods", "GET, HEAD"),
        ({"routes": {"read": {"path": "/a", "to": "elsewhere"}}}, "facade has a route", "under `clusters`"),
        ({"routes": {}}, "facade.routes needs at least 1", "add an item"),
        ({"steps": [5, 1]}, "facade.steps does not rise", "[1, 5, 25, 50, 100]"),
        ({"listen": "8080"}, "facade.listen is no address", "127.0.0.1:8080"),
        ({"gates": {"urls": ["metrics"]}}, "facade.gates.urls has something", "http://host:port/path"),
        ({"wieghts": 1}, "facade.wieghts is not an option", "remove it"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_a_remedy(
    tmp_path: Path, change: dict[str, Any], place: str, remedy: str
) -> None:
    path = tmp_path / "migration.yaml"
    path.write_text(json.dumps({"facade": {"clusters": CLUSTERS, "routes": ROUTES, **change}}))
    with pytest.raises(ConfigError, match=re.escape(place)) as caught:
        load_migration(path)
    assert remedy in caught.value.hint
