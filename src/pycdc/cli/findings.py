"""What a check found, as data, and how it is shown."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import click

from pycdc.errors import PycdcError
from pycdc.printable import printable


class Status(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """`title` says what holds or does not, `path` the option it comes from, `fix` the SQL or command that mends it.

    All are printable, and one line each; a fix of several is made by `pycdc.printable.lines`.
    """

    status: Status
    title: str
    detail: str = ""
    path: str = ""
    fix: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        for name in ("title", "detail", "path", "fix"):
            object.__setattr__(self, name, printable(getattr(self, name)))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def ok(title: str, detail: str = "") -> Finding:
    return Finding(Status.OK, title, detail)


def warning(title: str, detail: str = "", *, path: str = "", fix: str = "") -> Finding:
    return Finding(Status.WARNING, title, detail, path, fix)


def failed(title: str, detail: str = "", *, path: str = "", fix: str = "") -> Finding:
    return Finding(Status.FAILED, title, detail, path, fix)


def from_error(error: PycdcError, path: str = "") -> Finding:
    return Finding(Status.FAILED, error.fact, "", path, error.hint)


_COLORS = {Status.OK: "green", Status.WARNING: "yellow", Status.FAILED: "red"}
_SIGNS = {Status.OK: "✓", Status.WARNING: "⚠", Status.FAILED: "✗"}
_PLAIN_SIGNS = {Status.OK: "ok", Status.WARNING: "warning:", Status.FAILED: "FAILED:"}


def show(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Print findings under the headings of their groups as they come; pass them on."""
    signs = _SIGNS if _encodable("✓⚠✗") else _PLAIN_SIGNS
    group = ""
    for finding in findings:
        if finding.group != group:
            group = finding.group
            click.secho(group, bold=True)
        _print(finding, click.style(signs[finding.status], fg=_COLORS[finding.status]))
        yield finding


def _print(finding: Finding, sign: str) -> None:
    detail = click.style(f" ({finding.detail})", dim=True) if finding.detail else ""
    _echo(f"  {sign} {finding.title}{detail}")
    if finding.path:
        _echo(f"      in:  {finding.path}")
    for number, line in enumerate(finding.fix.splitlines()):
        _echo(f"      {'     ' if number else 'fix: '}{click.style(line, fg='cyan')}")


def _echo(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    click.echo(text.encode(encoding, "replace").decode(encoding))


def _encodable(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
