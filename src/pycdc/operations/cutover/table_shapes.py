"""Digests of the group's tables, by which DDL is seen that came after a verification."""

from __future__ import annotations

from typing import Final

from psycopg import sql

from pycdc.operations.cutover.sides import Side

_DIGEST: Final = """SELECT md5(string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
    a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid)), ',' ORDER BY a.attnum))
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped"""


def table_shapes(*sides: Side) -> dict[str, str]:
    """Return a digest of the columns of each table, by side and name: names, types, defaults, what they may hold."""
    found = {}
    for side in sides:
        for table in side.tables:
            row = side.connection.execute(_DIGEST, (sql.Identifier(*table).as_string(side.connection),)).fetchone()
            found[f"{side.name} {'.'.join(table)}"] = str(row[0]) if row else ""
    return found
