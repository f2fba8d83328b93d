"""Weights are kept, whoever changes them at once, and never read by halves."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pycdc.config.facade import FacadeConfig
from pycdc.errors import CheckpointCorrupt, ConfigError
from pycdc.facade.envoy_config import routes
from pycdc.facade.route_weights import RouteWeight, RouteWeights

CONFIG = FacadeConfig.model_validate(
    {"clusters": {"old": "http://a:1", "new": "http://b:1"}, "routes": {"read": {"path": "/"}, "list": {"path": "/l"}}}
)


def weights(folder: Path) -> RouteWeights:
    return RouteWeights(CONFIG, folder, routes)


def test_nothing_moves_before_somebody_says_so(tmp_path: Path) -> None:
    assert weights(tmp_path).read() == {"read": RouteWeight(), "list": RouteWeight()}


def test_changes_of_several_processes_are_all_kept(tmp_path: Path) -> None:
    def count() -> None:
        for _ in range(25):
            weights(tmp_path).change({"read": lambda one: replace(one, percent=one.percent + 1)})

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert weights(tmp_path).read()["read"].percent == 100
    assert weights(tmp_path).version() == "100"
    assert json.loads(weights(tmp_path).routes_file.read_text())["version_info"] == "100"


def test_an_unknown_route_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no route reed"):
        weights(tmp_path).change({"reed": lambda one: one, "read": lambda one: replace(one, percent=5)})
    assert weights(tmp_path).read()["read"].percent == 0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1, "routes": {"read": {"strange": 1}}}'])
def test_a_file_that_cannot_be_trusted_is_an_error_with_a_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / "weights.json").write_text(text)
    with pytest.raises(CheckpointCorrupt, match=r"weights\.json") as caught:
        weights(tmp_path).read()
    assert caught.value.hint
