"""What several commands ask for in the same way."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from pycdc.config import load, load_text
from pycdc.config.pipeline import PipelineConfig
from pycdc.printable import json_printable

F = TypeVar("F", bound=Callable[..., Any])


def config_argument(function: F) -> F:
    """Add the CONFIG argument; ``-`` is standard input."""
    return click.argument("path", metavar="CONFIG", type=click.Path(path_type=str))(function)


def json_option(function: F) -> F:
    return click.option("as_json", "--json", is_flag=True, help="Print JSON.")(function)


def load_config(path: str) -> PipelineConfig:
    """Load the configuration, whose functions may lie in modules beside the file. Raises ConfigError."""
    if path == "-":
        return _importable(load_text(sys.stdin.read(), "standard input"), Path.cwd())
    return _importable(load(click.format_filename(path)), Path(path).resolve().parent)


def _importable(config: PipelineConfig, folder: Path) -> PipelineConfig:
    # Behind all other places, so that no module beside a configuration hides one that is installed. The command may do
    # this to its own process; a program that embeds pycdc decides for itself where Python looks.
    if config.functions and str(folder) not in sys.path:
        sys.path.append(str(folder))
    return config


def print_json(value: Any) -> None:
    click.echo(json_printable(json.dumps(value, indent=2, ensure_ascii=False)))
