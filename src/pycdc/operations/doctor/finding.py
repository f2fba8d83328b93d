"""What a check found, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from pycdc.errors import PycdcError
from pycdc.printable import printable


class FindingStatus(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """`title` says what holds or does not, `path` the option it comes from, `fix` the SQL or command that mends it.

    All are printable, and one line each; a fix of several is made by `pycdc.printable.lines`.
    """

    status: FindingStatus
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
    return Finding(FindingStatus.OK, title, detail)


def warning(title: str, detail: str = "", *, path: str = "", fix: str = "") -> Finding:
    return Finding(FindingStatus.WARNING, title, detail, path, fix)


def failed(title: str, detail: str = "", *, path: str = "", fix: str = "") -> Finding:
    return Finding(FindingStatus.FAILED, title, detail, path, fix)


def from_error(error: PycdcError, path: str = "") -> Finding:
    return Finding(FindingStatus.FAILED, error.fact, "", path, error.hint)
