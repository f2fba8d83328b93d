"""Finding users' functions: what is wrong is said before anything starts."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pycdc import DecodedChange, Pipeline, capture
from pycdc.cli.arguments import load_config
from pycdc.config import validate
from pycdc.errors import ConfigError
from pycdc.transforms.functions import find, path_of
from tests.transforms.shop_functions import asynchronous, no_argument

HERE = "tests.transforms.shop_functions"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("not_a_module:mask", "there is no module 'not_a_module'"),
        (f"{HERE}:not_there", f"module {HERE} has no 'not_there'"),
        (f"{HERE}:number", "cannot be called"),
        (f"{HERE}:no_argument", "does not take one argument"),
        (f"{HERE}:asynchronous", "is asynchronous"),
    ],
)
def test_a_function_that_cannot_be_used_is_an_error_that_names_its_option(path: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"^transforms\[0\].function: ") as caught:
        find(path, "transforms[0].function")
    assert said in caught.value.fact
    assert caught.value.hint


def test_a_module_that_cannot_be_imported_is_told_from_one_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_transforms.py").write_text("import not_installed_here\n")
    with pytest.raises(ConfigError, match="importing broken_transforms failed") as caught:
        find("broken_transforms:mask", "transforms[0].function")
    assert "python -c" in caught.value.hint


def test_for_the_command_a_module_may_lie_beside_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "beside_the_configuration.py").write_text("def mask(change):\n    return change\n")
    (tmp_path / "shop.yaml").write_text(
        "name: shop\nsource: {postgres: {dsn: x}}\nsink: {console: {}}\ntransforms: ['beside_the_configuration:mask']\n"
    )
    config = load_config(str(tmp_path / "shop.yaml"))
    assert callable(find(config.transforms[0].function, "transforms[0].function"))
    assert sys.path[-1] == str(tmp_path.resolve()), "behind all others: it must not hide an installed module"


def test_a_configuration_without_functions_makes_nothing_importable(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text("name: shop\nsource: {postgres: {dsn: x}}\nsink: {console: {}}\n")
    load_config(str(tmp_path / "shop.yaml"))
    assert str(tmp_path.resolve()) not in sys.path


@pytest.mark.parametrize("given", ["path", "text", "mapping"])
def test_a_program_that_embeds_pycdc_decides_where_python_looks(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"beside_a_program_{given}"
    (tmp_path / f"{name}.py").write_text("def mask(change):\n    return change\n")
    source = {"postgres": {"dsn": "dbname=nowhere"}}
    document = {"name": "shop", "source": source, "sink": {"console": {}}, "transforms": [f"{name}:mask"]}
    (tmp_path / "shop.yaml").write_text(json.dumps(document))
    forms: dict[str, Any] = {"path": tmp_path / "shop.yaml", "text": json.dumps(document), "mapping": document}
    before = list(sys.path)
    with pytest.raises(ConfigError, match="there is no module"):
        Pipeline(forms[given])
    assert sys.path == before
    monkeypatch.syspath_prepend(tmp_path)
    assert Pipeline(forms[given]).config.name == "shop"


@pytest.mark.parametrize("function", [lambda change: change, str, partial(max, 1), DecodedChange.copy])
def test_whatever_is_called_has_a_name_that_a_configuration_could_have(function: Any) -> None:
    document = {"source": {"postgres": {"dsn": "x"}}, "sink": {"console": {}}, "transforms": [path_of(function)]}
    assert validate({"name": "shop", **document}).transforms[0].function == path_of(function)


def test_functions_given_as_objects_are_looked_at_like_those_of_a_configuration() -> None:
    unusable: list[Any] = [asynchronous, no_argument]
    for wrong in unusable:
        with pytest.raises(ConfigError, match=r"^transforms\[0\].function: "):
            next(capture("dbname=nowhere", transforms=[wrong]))
