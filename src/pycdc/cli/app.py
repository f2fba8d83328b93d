"""The `pycdc` command: which commands there are, and what happens to errors.

Exit codes: 0 fine, 1 failed while running and a restart may help, 2 bad configuration or usage, 3 the environment is
not ready, 4 changes are pending (`apply --check`), 5 stopped for good, 130 interrupted. An error is a fact and a hint
on standard error; a traceback only with ``--debug``.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, NoReturn

import click

from pycdc.errors import PycdcError
from pycdc.observability import logs
from pycdc.printable import printable
from pycdc.version import __version__

COMMANDS: Final = {
    "demo": "pycdc.cli.demo:demo",
    "init": "pycdc.cli.init:init",
    "doctor": "pycdc.cli.doctor:doctor",
    "run": "pycdc.cli.run:run",
    "status": "pycdc.cli.status:status",
    "snapshot": "pycdc.cli.snapshot:snapshot",
    "parked": "pycdc.cli.parked:parked",
    "apply": "pycdc.cli.apply:apply",
    "lag": "pycdc.cli.lag:lag",
    "verify": "pycdc.cli.verify:verify",
    "conflicts": "pycdc.cli.conflicts:conflicts",
    "saga": "pycdc.cli.saga:saga",
    "sequences": "pycdc.cli.sequences:sequences",
    "guard": "pycdc.cli.guard:guard",
    "facade": "pycdc.cli.facade:facade",
    "cutover": "pycdc.cli.cutover:cutover",
    "decommission": "pycdc.cli.decommission:decommission",
    "teardown": "pycdc.cli.teardown:teardown",
    "schema": "pycdc.cli.schema:schema",
    "version": "pycdc.cli.version:version",
}
"""In the order of their use. A command is imported when it is called: the drivers take half a second to load."""

INTERRUPTED: Final = 130


class Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run a command and exit with its code."""
        given = list(sys.argv[1:] if args is None else args)
        if os.environ.get("NO_COLOR"):
            extra.setdefault("color", False)
        try:
            code = super().main(given, prog_name or "pycdc", complete_var, standalone_mode=False, **extra)
        except Exception as error:
            if "--debug" in given:
                traceback.print_exc()
            code = _report(error)
        sys.exit(code if isinstance(code, int) else 0)


class ErrorReport(NamedTuple):
    """What is said of an error, and the exit code."""

    kind: str
    fact: str
    hint: str
    code: int


def error_report(error: Exception) -> ErrorReport:
    if isinstance(error, PycdcError):
        return ErrorReport(error.code, error.fact, error.hint, error.exit_code)
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx is not None else "pycdc"
        message = error.format_message().rstrip(".")
        return ErrorReport("usage", message[:1].lower() + message[1:], f"{command} --help", 2)
    if isinstance(error, click.ClickException):
        return ErrorReport("usage", error.format_message(), "", error.exit_code)
    # Its text may hold anything, a row's values too.
    fact = f"something unexpected happened ({type(error).__name__})"
    return ErrorReport("unexpected", fact, "pycdc --debug … shows where; report it", 1)


def _report(error: Exception) -> int:
    """Print an error for people; return the exit code."""
    # A call into C during which Ctrl-C comes may report that it ended with an exception set: SystemError.
    if isinstance(error, click.Abort) or isinstance(error.__cause__, KeyboardInterrupt):
        click.echo("aborted", err=True)
        return INTERRUPTED
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.ctx.get_help() if error.ctx is not None else error.format_message())
        return 0
    found = error_report(error)
    print_error(found.fact, found.hint)
    return found.code


def print_error(fact: str, hint: str) -> None:
    click.echo(f"{click.style('error', fg='red', bold=True)}: {printable(fact)}", err=True)
    if hint:
        click.echo(f"{click.style('try', fg='yellow')}: {printable(hint)}", err=True)


@click.group("pycdc", cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show tracebacks, and log what happens inside.")
@click.version_option(__version__, prog_name="pycdc", message="%(prog)s %(version)s")
def main(debug: bool) -> None:
    """Change Data Capture: Postgres to Kafka, compatible with Debezium.

    Start with `pycdc init` (the connection string in PYCDC_DSN), check with `pycdc doctor`, then `pycdc run`.
    """
    logs.configure(level=logging.DEBUG if debug else logging.WARNING)
