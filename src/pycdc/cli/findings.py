"""Show what a check found."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

import click

from pycdc.operations.doctor.finding import Finding, FindingStatus

_COLORS = {FindingStatus.OK: "green", FindingStatus.WARNING: "yellow", FindingStatus.FAILED: "red"}
_SIGNS = {FindingStatus.OK: "✓", FindingStatus.WARNING: "⚠", FindingStatus.FAILED: "✗"}
_PLAIN_SIGNS = {FindingStatus.OK: "ok", FindingStatus.WARNING: "warning:", FindingStatus.FAILED: "FAILED:"}


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
