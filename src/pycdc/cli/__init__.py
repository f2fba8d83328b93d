"""The command line. Everything that prints or exits is here, one file a command."""

from pycdc.cli.app import main

__all__ = ["main"]
