"""What several commands ask for in the same way."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from pycdc.config import Config
from pycdc.loading import beside, load, load_text
from pycdc.printable import json_printable

F = TypeVar("F", bound=Callable[..., Any])


def config_argument(function: F) -> F:
    """The CONFIG argument; ``-`` is standard input."""
    return click.argument("path", metavar="CONFIG", type=click.Path(path_type=str))(function)


def json_option(function: F) -> F:
    return click.option("as_json", "--json", is_flag=True, help="Print JSON.")(function)


def load_config(path: str) -> Config:
    """Raises ConfigError."""
    if path == "-":
        return beside(load_text(sys.stdin.read(), "standard input"), Path.cwd())
    return load(click.format_filename(path))


def print_json(value: Any) -> None:
    click.echo(json_printable(json.dumps(value, indent=2, ensure_ascii=False)))
