"""The command ``pycdc version``."""

from __future__ import annotations

import platform
from importlib import metadata

import click

from pycdc.version import __version__

_LIBRARIES = ("psycopg", "confluent-kafka", "fastavro", "pydantic")


@click.command()
def version() -> None:
    """Print versions."""
    click.echo(f"pycdc {__version__}")
    click.echo(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    for name in _LIBRARIES:
        click.echo(f"{name} {metadata.version(name)}")
