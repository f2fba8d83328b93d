"""A delete whose row others name by a foreign key that would change them: it waits until events have done so.

The source's own foreign keys did it there, and their changes come as events, of another topic: whether that is ahead or
behind, nobody knows. Rows that were read ahead of the delete would go with it, and no event would bring them back.
"""

from __future__ import annotations

from functools import lru_cache

from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.rows.text_values import array_of
from pycdc.sinks.postgres.writing.identifiers import ParameterSafeIdentifier
from pycdc.sinks.postgres.writing.statements import same_key, unnested
from pycdc.sinks.postgres.writing.table_dependencies import ForeignKey
from pycdc.sinks.postgres.writing.write_errors import ChildrenThere
from pycdc.sinks.postgres.writing.writes import Shape, WriteGroup


def require_childless(connection: Connection, group: WriteGroup) -> None:
    """Raise ChildrenThere if children name the rows; these are locked before, so that no new child can name them."""
    keys = [array_of(column) for column in zip(*(write.key for write in group.writes), strict=True)]
    connection.execute(_lock(group.shape), keys, prepare=True)
    for key in group.shape.table.ties.waits:
        again = keys if key.child == key.parent else []
        if connection.execute(_named(group.shape, key), [*keys, *again], prepare=True).fetchone() is not None:
            raise ChildrenThere(key)


@lru_cache(maxsize=256)
def _lock(shape: Shape) -> bytes:
    query = sql.SQL("SELECT 1 FROM {} AS {alias} JOIN {} ON {} FOR UPDATE OF {alias}")
    rows = unnested([shape.table.columns[name] for name in shape.key])
    return _text(query.format(shape.table.identifier, rows, same_key(shape), alias=shape.table.alias))


@lru_cache(maxsize=256)
def _named(shape: Shape, key: ForeignKey) -> bytes:
    """Return the query for rows that children name; those of the same table that go in this statement do not count."""
    table, rows = shape.table, unnested([shape.table.columns[name] for name in shape.key])
    names = sql.SQL(" AND ").join(
        sql.SQL("c.{} = {}.{}").format(ParameterSafeIdentifier(child), table.alias, ParameterSafeIdentifier(parent))
        for child, parent in zip(key.columns, key.referenced, strict=True)
    )
    query = sql.SQL("SELECT 1 FROM {} AS {} JOIN {} ON {} JOIN {} AS c ON {}").format(
        table.identifier, table.alias, rows, same_key(shape), ParameterSafeIdentifier(*key.child.split(".", 1)), names
    )
    if key.child == key.parent:
        own = sql.SQL("SELECT 1 FROM {} WHERE {}").format(rows, same_key(shape, sql.SQL("c")))
        query = sql.SQL("{} WHERE NOT EXISTS ({})").format(query, own)
    return _text(sql.SQL("{} LIMIT 1").format(query))


def _text(query: sql.Composed) -> bytes:
    return query.as_string(None).encode()
