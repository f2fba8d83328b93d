"""Write large batches by columns: these become a statement's arrays, and a batch one transaction, without events.

A topic has one where one route takes all of its events, no function is asked, the key is made of numbers and texts, and
its conflicts are seen by the statement that writes the rows. The columnar path decides nothing. It writes a batch as a
whole, by the statements of the row path, or leaves no trace of it: a row that is refused or missing, a conflict, a
mark, a row that is made again after its delete, a key that is parked. All of these go event by event, which is the
reference implementation.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, NamedTuple

import psycopg

from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_errors import described
from pycdc.engine_interfaces import NotColumnar
from pycdc.model.event import ColumnarRow, EventBatch, FieldPath, Load, Partition, Removal
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress
from pycdc.rows.target_column import TargetColumn
from pycdc.rows.text_columns import Array, array_for, constant
from pycdc.sinks.postgres.batch_counters import BatchCounters
from pycdc.sinks.postgres.bookkeeping.apply_offsets import ApplyOffsets
from pycdc.sinks.postgres.conflicts.plan import DirectWrite
from pycdc.sinks.postgres.conflicts.resolver import ConflictResolver
from pycdc.sinks.postgres.routing.interpreted_route import PlainRoute
from pycdc.sinks.postgres.routing.router import RouteTable
from pycdc.sinks.postgres.schema_drift import TargetTables
from pycdc.sinks.postgres.writing.key_forms import all_match, form_of
from pycdc.sinks.postgres.writing.statements import rows_of_keys, spares_rows
from pycdc.sinks.postgres.writing.writes import Operation, Shape, place_of, shape_of

log = get_logger()

_KEYS: Final = ("number", "text")
_OPERATIONS: Final[dict[str, Operation]] = {"insert": "insert", "upsert": "upsert", "update": "update"}


@dataclass(frozen=True, slots=True)
class ColumnarStatement:
    """One statement for all rows of a shape. `missing`: for a delete, which rows need not be there."""

    shape: Shape
    how: DirectWrite
    rows: int
    parameters: list[Any]
    missing: tuple[bool, ...] = ()

    @property
    def place(self) -> tuple[int, int, int]:
        return place_of(self.shape)

    @property
    def writes_all(self) -> bool:
        """Whether it must write as many rows as it has."""
        return self.shape.operation in ("insert", "upsert") and not spares_rows(self.shape)


@dataclass(frozen=True, slots=True)
class ColumnarPart:
    """What is written of a topic, as it was understood when it was read. `own_keys`: see `ColumnarTarget.load`."""

    plan: ColumnarRoute
    statements: tuple[ColumnarStatement, ...]
    own_keys: bool


class ColumnarRoute:
    """A `ColumnarTarget`: one route, rows of one list of fields.

    `removal` is the shape of its deletes, None: it takes none.
    """

    def __init__(self, routes: _Routes, plain: PlainRoute, fields: Mapping[str, FieldPath]) -> None:
        """Compile the route for rows with these fields. Raises NotColumnar."""
        self.router, conflicts = routes.router, routes.conflicts
        route, table = plain.route, plain.table
        if not plain.presence.is_plain or route.deferrable_key:
            raise NotColumnar  # what is not found in bytes, or needs transactions
        operation, assigned = _OPERATIONS.get(route.operation), _assigned(plain, fields)
        self.key = tuple(fields[path] for path in plain.key.values() if path in fields)
        if operation is None or len(self.key) < len(plain.key) or any(own.kind not in _KEYS for own in self.key):
            raise NotColumnar
        self.shape = shape_of(
            table,
            operation,
            tuple(plain.key),
            (*assigned, *plain.constants),
            must_exist=operation == "update" and route.missing == "error",
            order=plain.order,
            reset=plain.cleared((*assigned, *plain.constants)),
        )
        self._forms = [_form(own, table.columns[name]) for name, own in zip(plain.key, self.key, strict=True)]
        self._in_order = table.ties.in_order
        self._how = _direct(conflicts, self.shape)
        self._removal = shape_of(table, "delete", tuple(plain.key), order=plain.order)
        removes = route.deletion == "delete" and not table.ties.waits
        self._removing = _direct(conflicts, self._removal) if removes else None
        self.take = (*plain.key.values(), *assigned.values())
        columns = zip((*plain.key, *assigned), self.take, strict=True)
        self._arrays: list[Array] = [
            array_for(fields[path], table.columns[column], plain.presence) for column, path in columns
        ]
        self._constants = tuple(plain.constants.values())

    def load(self, rows: list[ColumnarRow], removals: int, *, own_keys: bool) -> ColumnarPart:
        """See `ColumnarTarget.load`."""
        written, removed = self._split(rows) if removals else (rows, {})
        statements = []
        if written:
            statements.append(self._writing(written))
        if removed:
            statements.append(self._deleting(removed))
        return ColumnarPart(self, tuple(statements), own_keys)

    def _split(self, rows: list[ColumnarRow]) -> tuple[list[ColumnarRow], dict[tuple[Any, ...], bool]]:
        """Return the last row of each key, and the keys that are deleted in the end; True where no row is needed.

        That is so behind a tombstone, and where the batch itself would have made the row.
        """
        width, written = len(self.key), dict[tuple[Any, ...], ColumnarRow]()
        made, removed = set[tuple[Any, ...]](), dict[tuple[Any, ...], bool]()
        for row in rows:
            if type(row) is Removal:
                if written.pop(row.key, None) is not None:
                    made.add(row.key)
                removed[row.key] = row.tombstone or row.key in made
                continue
            key = row[:width]
            if key in removed or (self.shape.operation == "insert" and key in written):
                raise NotColumnar
            written[key] = row
        if self._in_order and (written or made):
            raise NotColumnar
        return list(written.values()), removed

    def _writing(self, rows: list[ColumnarRow]) -> ColumnarStatement:
        columns = list(zip(*rows, strict=True))
        keys = self._keys(columns)
        last = dict(zip(keys, rows, strict=True)) if len(set(keys)) < len(rows) else {}
        if last and (self._in_order or self.shape.operation == "insert"):
            raise NotColumnar
        ordered = keys if self._in_order else self._ordered(last or keys)
        if ordered != keys:
            of_key = last or dict(zip(keys, rows, strict=True))
            columns = list(zip(*[of_key[key] for key in ordered], strict=True))
        arrays = [array(column) for array, column in zip(self._arrays, columns, strict=True)]
        arrays += [constant(text, len(ordered)) for text in self._constants]
        return ColumnarStatement(self.shape, self._how, len(ordered), [*arrays, *self._how.own])

    def _keys(self, columns: list[tuple[Any, ...]]) -> list[Any]:
        """Return one value, or several of them, of each row. Raises NotColumnar for null."""
        of_key = columns[: len(self.key)]
        if any(None in column for column in of_key):
            raise NotColumnar
        if any(form and not _all_of(form, column) for form, column in zip(self._forms, of_key, strict=True)):
            raise NotColumnar
        return list(of_key[0]) if len(of_key) == 1 else list(zip(*of_key, strict=True))

    def _ordered(self, keys: Collection[Any]) -> list[Any]:
        """By their texts, as in `writes`: numbers of as many digits are in that order anyway."""
        if len(self.key) > 1:
            return sorted(keys, key=lambda key: [*map(_text, key)])
        if self.key[0].kind == "number":
            low, high = min(keys), max(keys)
            if low < 0 or len(str(low)) < len(str(high)):
                return sorted(keys, key=str)
        return sorted(keys)

    def _deleting(self, removed: dict[tuple[Any, ...], bool]) -> ColumnarStatement:
        if self._removing is None:
            raise NotColumnar
        self._keys(list(zip(*removed, strict=True)))
        plain = list(removed) if len(self.key) > 1 else [key for (key,) in removed]
        keys = plain if self._in_order else self._ordered(plain)
        rows = keys if len(self.key) > 1 else [(key,) for key in keys]
        columns = [array(column) for array, column in zip(self._arrays, zip(*rows, strict=True), strict=False)]
        missing = tuple(removed[row] for row in rows)
        return ColumnarStatement(self._removal, self._removing, len(rows), [*columns, *self._removing.own], missing)


def _assigned(plain: PlainRoute, fields: Mapping[str, FieldPath]) -> dict[str, str]:
    """Columns that are written beside the key, and their fields. Raises Unfit."""
    columns = plain.table.columns
    paths = plain.assigned
    if paths is None:
        if not fields.keys() <= columns.keys() | set(plain.key.values()):
            raise NotColumnar
        paths = {name: name for name in fields if name in columns}
    if any(path not in fields and (path.startswith(("$", "__")) or "." in path) for path in paths.values()):
        raise NotColumnar
    return {
        column: path
        for column, path in paths.items()
        if path in fields
        if not (column in plain.key or column in plain.constants or columns[column].generated)
    }


def _form(field: FieldPath, column: TargetColumn) -> str:
    """Return what the key's texts must look like to be equal only where the database's are. Raises NotColumnar.

    Of numbers, no two texts are of the same one.
    """
    form = form_of(column)
    if form is None:
        raise NotColumnar
    return "" if field.kind == "number" else form


def _all_of(form: str, texts: Sequence[bytes]) -> bool:
    try:
        return all_match(form, [text.decode() for text in texts])
    except UnicodeDecodeError:
        raise NotColumnar from None


def _text(value: int | bytes) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _direct(conflicts: ConflictResolver, shape: Shape) -> DirectWrite:
    how = conflicts.direct(shape)
    if how is None:
        raise NotColumnar
    return how


class _Routes(NamedTuple):
    router: RouteTable
    conflicts: ConflictResolver
    plans: dict[tuple[str, tuple[FieldPath, ...]], ColumnarRoute | None]


class ColumnarRoutes:
    """The `ColumnarTargets` of a pipeline. It outlives sinks: each sets its own routes, as they fit the tables then."""

    def __init__(self) -> None:
        self._routes: _Routes | None = None

    def fit(self, targets: TargetTables) -> None:
        """Take the routes as they are now."""
        if self._routes is None or self._routes.router is not targets.router:
            self._routes = _Routes(targets.router, targets.conflicts, {})

    def target(self, topic: str, fields: tuple[FieldPath, ...]) -> ColumnarRoute | None:
        """See `ColumnarTargets.target`. For the source's thread."""
        routes, asked = self._routes, (topic, fields)
        if routes is None:
            return None
        if asked not in routes.plans:
            routes.plans[asked] = _plan(routes, topic, fields)
            log.info("large batches of a topic go by columns", topic=topic, columnar=routes.plans[asked] is not None)
        return routes.plans[asked]


def _plan(routes: _Routes, topic: str, fields: tuple[FieldPath, ...]) -> ColumnarRoute | None:
    plain = routes.router.only(topic)
    try:
        return None if plain is None else ColumnarRoute(routes, plain, {field.name: field for field in fields})
    except NotColumnar:
        return None


class ColumnarWriter:
    """Writes the columnar batches of one sink. After an exception it is dead."""

    def __init__(
        self, connection: Connection, apply_offsets: ApplyOffsets, progress: Progress, *, has_origin: bool
    ) -> None:
        self._connection = connection
        self._apply_offsets = apply_offsets
        self._progress = progress
        self._has_origin = has_origin

    def write(self, batch: EventBatch, targets: TargetTables) -> bool:
        """Write all of the batch in one transaction; return False, with nothing done, where it goes event by event."""
        assert batch.load is not None
        assert batch.position is not None
        statements = _statements(batch.load, targets)
        if statements is None or targets.halts or self._apply_offsets.blocked:
            return False
        offsets = self._apply_offsets.moving(batch.position.next)
        if not offsets:
            return True
        began, counters = time.monotonic(), BatchCounters()
        try:
            if not self._done(statements, targets, offsets, counters):
                self._connection.rollback()
                return False
            applied = time.monotonic()
            self._connection.commit()
        except (psycopg.Error, ValueError) as error:
            if self._connection.closed:
                raise  # nobody knows what became of it
            self._connection.rollback()
            log.debug("a batch goes event by event", reason=described(error))
            return False
        committed = time.monotonic()
        counters.add_to(self._progress, committed - began, committed - applied)
        self._progress.columnar += batch.load.count
        self._apply_offsets.advanced(offsets)
        return True

    def _done(
        self,
        statements: list[ColumnarStatement],
        targets: TargetTables,
        offsets: Mapping[Partition, int],
        counters: BatchCounters,
    ) -> bool:
        """Send steps 1, 2 and 4 of the sink at once; return whether every row was written that must be."""
        connection = self._connection
        with connection.pipeline():
            self._apply_offsets.sign(connection, origin=self._has_origin)
            targets.order.defer(connection)
            check = self._apply_offsets.advancing(connection, offsets)
            cursors = [connection.execute(each.how.query, each.parameters, prepare=True) for each in statements]
        check()
        for statement, cursor in zip(statements, cursors, strict=True):
            undone = self._undone(statement, cursor)
            if undone is None:
                return False
            counters.applied[str(statement.shape.table), statement.shape.operation] += statement.rows - undone
        return True

    def _undone(self, statement: ColumnarStatement, cursor: psycopg.Cursor[Any]) -> int | None:
        """Return how many rows were not written, and need not be; None where one of them has to be looked at."""
        if cursor.rowcount == statement.rows:
            return 0
        if not statement.how.complete:
            return None if statement.writes_all else 0
        if not statement.missing:
            return None
        done = {number for (number,) in cursor}
        left = [missing for number, missing in enumerate(statement.missing, 1) if number not in done]
        if not all(left) or (statement.how.own and self._there(statement)):
            return None
        return len(left)

    def _there(self, statement: ColumnarStatement) -> bool:
        """Return whether rows were left because somebody else wrote them."""
        keys = statement.parameters[: len(statement.shape.key)]
        return self._connection.execute(rows_of_keys(statement.shape), keys, prepare=True).fetchone() != (0,)


def _statements(load: Load, targets: TargetTables) -> list[ColumnarStatement] | None:
    """Return statements in the order of `writes`; None where they do not fit the routes, or need events' order."""
    parts: list[ColumnarPart] = load.parts
    tables = {part.plan.shape.table for part in parts}
    if len(tables) < len(parts) or any(part.plan.router is not targets.router for part in parts):
        return None
    if len(parts) > 1 and any(table.ties.in_order for table in tables):
        return None
    if not all(part.own_keys for part in parts) and not all(map(targets.ordered, load.topics)):
        return None  # see `KeyReuse`
    return sorted((one for part in parts for one in part.statements), key=attrgetter("place"))
