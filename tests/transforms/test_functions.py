"""Finding users' functions: what is wrong is said before anything starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pycdc.errors import ConfigError
from pycdc.loading import load
from pycdc.transforms.functions import find

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


def test_a_module_may_lie_beside_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "beside_the_configuration.py").write_text("def mask(change):\n    return change\n")
    (tmp_path / "shop.yaml").write_text(
        "name: shop\nsource: {postgres: {dsn: x}}\nsink: {console: {}}\ntransforms: ['beside_the_configuration:mask']\n"
    )
    config = load(tmp_path / "shop.yaml")
    assert callable(find(config.transforms[0].function, "transforms[0].function"))
    assert sys.path[-1] == str(tmp_path.resolve()), "behind all others: it must not hide an installed module"


def test_a_configuration_without_functions_makes_nothing_importable(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text("name: shop\nsource: {postgres: {dsn: x}}\nsink: {console: {}}\n")
    load(tmp_path / "shop.yaml")
    assert str(tmp_path.resolve()) not in sys.path
