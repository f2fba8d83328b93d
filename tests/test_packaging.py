"""What is published, and under which name: `pycdc` on the package index is somebody else's program."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from tests.test_repository import text_files

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAME = "pycdc-postgres"

INSTALLS = re.compile(
    r"\b(?:pip|pipx|uv|uvx|poetry)(?: (?:pip|tool))? (?:install|add|run)[^\n]*?[\s'\"]pycdc(?![\w-])(?!/)"
)
"""Somebody who follows it installs a stranger's program."""


def test_the_distribution_has_a_name_of_its_own_and_the_command_stays() -> None:
    assert PROJECT["name"] == NAME
    assert PROJECT["scripts"] == {"pycdc": "pycdc.cli:main"}


def test_no_text_tells_anybody_to_install_the_program_of_a_stranger() -> None:
    assert INSTALLS.search("pip install 'pycdc[demo]'")
    assert INSTALLS.search("$ pip install --upgrade pycdc")
    assert not INSTALLS.search("pip install 'pycdc-postgres[demo]'")
    found = [name for name, text in text_files() if name != "tests/test_packaging.py" and INSTALLS.search(text)]
    assert not found


def test_extras_that_ask_for_the_project_itself_ask_for_it_by_its_name() -> None:
    asked = [one for extra in PROJECT["optional-dependencies"].values() for one in extra if one.startswith("pycdc")]
    assert asked
    assert all(re.match(rf"{NAME}\[", one) for one in asked)


def test_the_readme_says_how_the_distribution_is_called() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"pip install {NAME}" in text
