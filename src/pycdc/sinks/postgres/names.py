"""Names of somebody's tables and columns in statements that have parameters: the driver reads a lone `%` as one."""

from __future__ import annotations

from psycopg import abc, sql


class Identifier(sql.Identifier):
    """For statements that are executed with parameters, and for no others."""

    def as_bytes(self, context: abc.AdaptContext | None = None) -> bytes:
        return super().as_bytes(context).replace(b"%", b"%%")


class Literal(sql.Literal):
    """For statements that are executed with parameters, and for no others."""

    def as_bytes(self, context: abc.AdaptContext | None = None) -> bytes:
        return super().as_bytes(context).replace(b"%", b"%%")
