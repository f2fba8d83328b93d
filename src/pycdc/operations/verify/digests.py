"""64-bit digests of canonical texts, in two independent halves, computed by the servers.

Digests are added up, never combined by XOR: two equal faults in one range would cancel each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from pycdc.errors import EnvironmentNotReady

_PROBES: Final = ("", "0", "pycdc verify", "grün|Ελλάδα|漢字", "x" * 300)
"""Texts whose digests both servers have to agree on, also beyond ASCII."""


@dataclass(frozen=True, slots=True)
class Digest:
    """A hash function. `halves` are SQL of two 64-bit integers over the text `{0}`."""

    name: str
    halves: tuple[str, str]

    def columns(self, text: sql.Composable) -> sql.Composable:
        """Return the two integers of a text, as a list of SQL expressions."""
        return sql.SQL(", ").join(sql.SQL(half).format(text) for half in self.halves)


_HEX = "('x' || substr({}, {}, 16))::bit(64)::int8"
_SHA = "encode(sha256(convert_to({0}, 'UTF8')), 'hex')"
DIGESTS: Final = {
    "hashtext": Digest(
        "hashtext",
        ('hashtextextended({0} COLLATE "C", 20261130)', 'hashtextextended({0} COLLATE "C", 8127340917)'),
    ),
    "md5": Digest(
        "md5",
        (
            _HEX.format("md5(convert_to({0}, 'UTF8'))", 1),
            _HEX.format("md5(convert_to({0}, 'UTF8'))", 17),
        ),
    ),
    "sha256": Digest("sha256", (_HEX.format(_SHA, 1), _HEX.format(_SHA, 17))),
}
"""By the name that the option `--digest` has for them. hashtext is what hash partitions are routed by."""


def agreed(source: psycopg.Connection[Any], target: psycopg.Connection[Any], wanted: str | None) -> Digest:
    """Return the wanted digest, or the fastest that both servers compute alike.

    Raises EnvironmentNotReady where they disagree about the wanted one, psycopg.Error.
    """
    for name in [wanted] if wanted else ["hashtext", "md5"]:
        digest = DIGESTS[name]
        if _probed(source, digest) == _probed(target, digest):
            return digest
    raise EnvironmentNotReady(
        f"source and target compute different digests of the same texts with {wanted or 'hashtext and md5'}",
        hint="choose another one with --digest (hashtext, md5, sha256)",
    )


def _probed(connection: psycopg.Connection[Any], digest: Digest) -> list[tuple[int, int]]:
    query = sql.SQL("SELECT {} FROM unnest({}::text[]) AS u(t)").format(
        digest.columns(sql.SQL("t")), sql.Literal(list(_PROBES))
    )
    return connection.execute(query).fetchall()
