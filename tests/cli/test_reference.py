"""The reference pages say what the code says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args, get_origin

import pytest
from pydantic import BaseModel
from scripts.docs.configuration_page import commands, configuration, migration, write

from pycdc.cli.app import COMMANDS
from pycdc.cli.option_texts import explanation
from pycdc.config import load_text
from pycdc.config.migration import MigrationConfig
from pycdc.config.pipeline import ApplyPipeline, CapturePipeline
from pycdc.config.validation_errors import model, plain

DOCS = Path(__file__).parents[2] / "docs"


def test_the_pages_are_current(tmp_path: Path) -> None:
    write(tmp_path)
    for name in ("configuration.md", "migration-reference.md", "cli.md"):
        assert (DOCS / name).read_text() == (tmp_path / name).read_text(), "run: make docs"


def sections(section: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield section
    for info in section.model_fields.values():
        kind = plain(info.annotation)
        inner = model(plain(get_args(kind)[1])) if get_origin(kind) is dict else model(kind)
        if inner is not None:
            yield from sections(inner)


@pytest.mark.parametrize(
    ("root", "page"), [(CapturePipeline, configuration), (ApplyPipeline, configuration), (MigrationConfig, migration)]
)
def test_every_option_is_explained(root: type[BaseModel], page: Callable[[], str]) -> None:
    for section in sections(root):
        assert section.__doc__, section
        for name in section.model_fields:
            assert explanation(section, name), f"{section.__name__}.{name}"
            assert f"| `{name}` |" in page()


def test_every_command_is_explained() -> None:
    text = commands()
    for name in COMMANDS:
        assert f"## `pycdc {name}`" in text
    assert "| `--force` | End the session" in text


def test_types_bounds_and_defaults_are_told() -> None:
    text = configuration()
    assert "| `port` | integer, ≥ 0, ≤ 65535 | `9464` |" in text
    assert "| `dsn` | text, secret | **required** |" in text
    assert '| `tables` | list of text | `["*.*"]` |' in text
    assert "| `snapshot` | `initial`, `never`, `only`, `when_needed` | `initial` |" in text
    assert "## `rules[].hash[]`" in text


def test_the_example_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_DSN", "host=db")
    example = re.search(r"```yaml\n(.*?)```", configuration(), re.DOTALL)
    assert example is not None
    assert load_text(example[1]).name == "shop"
