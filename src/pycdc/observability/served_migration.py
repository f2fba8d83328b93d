"""A migration on a status server: the page, the document that it asks for, gates, reports, and commands.

Commands are POST requests, and need the configured token, on loopback too; without one the page is read-only. Only who
types the token into the page sends it along: no page elsewhere can.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import unquote

from pycdc.errors import PycdcError
from pycdc.observability.page_files import HTML, page_file

HttpAnswer = tuple[HTTPStatus, str, bytes]
"""Status, content type and body."""

JSON: Final = "application/json"
PAGE: Final = "/migration"
_GATES: Final = "/gates/"
_BELOW: Final = "/migration/"


class ServedMigration(Protocol):
    """What is served. Every method is called by several threads, and answers at once."""

    def gates(self, group: str) -> Mapping[str, Any] | None:
        """Return a group's gates with `open`; None where there is no such group."""

    def document(self) -> Mapping[str, Any]:
        """Return all that the page shows."""

    def report(self, group: str, direction: str) -> bytes | None:
        """Return the HTML report of the last verification of a group; None where there is none."""

    def act(self, what: Sequence[str], options: Mapping[str, Any]) -> bool:
        """Begin a command, `groups/GROUP/COMMAND` or `facade/ROUTE`; False where there is no such group or façade.

        Raises PycdcError where it is refused.
        """


def answer(migration: ServedMigration, path: str, *, acts: bool) -> HttpAnswer | None:
    """Answer GET; None where nothing is there. `acts` says whether commands are possible."""
    if path == PAGE:
        return HTTPStatus.OK, HTML, page_file("migration.html")
    if path == f"{PAGE}.json":
        return as_json(HTTPStatus.OK, {"acts": acts, **migration.document()})
    if path.startswith(_GATES):
        found = migration.gates(path.removeprefix(_GATES))
        if found is not None:
            return as_json(HTTPStatus.OK if found["open"] else HTTPStatus.SERVICE_UNAVAILABLE, found)
    match _parts(path):
        case ["groups", group, "reports", direction]:
            report = migration.report(group, direction)
            return None if report is None else (HTTPStatus.OK, HTML, report)
    return None


def takes_commands(path: str) -> bool:
    return path.startswith(_BELOW)


def act(migration: ServedMigration, path: str, body: bytes) -> HttpAnswer:
    """Answer POST of somebody who has shown the token."""
    try:
        options = json.loads(body or b"{}")
    except ValueError:
        options = None
    if not isinstance(options, dict):
        return as_json(HTTPStatus.BAD_REQUEST, {"error": "the body is no object of JSON"})
    try:
        found = migration.act(_parts(path), options)
    except PycdcError as error:
        return as_json(HTTPStatus.CONFLICT, {"error": error.fact, "hint": error.hint})
    if not found:
        return as_json(HTTPStatus.NOT_FOUND, {"error": "there is no such group or façade"})
    return as_json(HTTPStatus.ACCEPTED, {"accepted": True})


def as_json(status: HTTPStatus, value: Mapping[str, Any]) -> HttpAnswer:
    return status, JSON, json.dumps(dict(value), ensure_ascii=False).encode() + b"\n"


def _parts(path: str) -> list[str]:
    return [unquote(part) for part in path.removeprefix(_BELOW).split("/")]
