"""What a route makes of an event, in plain words: the reference implementation of `compiled_route`."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from decimal import Decimal
from typing import Any, Final

from pycdc.config.postgres_sink import Route
from pycdc.model.event import Event
from pycdc.model.patterns import names_any
from pycdc.observability.logger import get_logger
from pycdc.rows.column_presence import ColumnPresence, head_of, holds_field
from pycdc.rows.column_readings import reading
from pycdc.rows.text_values import Unwritable, text_of, whole_or_not
from pycdc.sinks.postgres.routing.field_paths import ABSENT, Look, forms_of, has_value, look_for, look_up, time_of
from pycdc.sinks.postgres.target_tables import TargetTable, key_columns
from pycdc.sinks.postgres.writing.writes import Number, Operation, RowWrite, shape_of

log = get_logger()

_WRITING: Final = ("insert", "upsert", "update")


class PlainRoute:
    """Any event, any route. `fields` are the paths of the key's columns, `assigned` those of the others.

    `assigned` is None where every field goes into the column of its name. `marks` are columns by which routes into the
    table mark its rows as deleted.
    """

    def __init__(
        self, route: Route, table: TargetTable, order: int, presence: ColumnPresence, marks: Collection[str] = ()
    ) -> None:
        self.route = route
        self._marks = tuple(sorted(marks)) if route.operation == "upsert" else tuple(route.soft_delete)
        self.table = table
        self.order = order
        self.key = {column: route.key.get(column, column) for column in key_columns(route, table)}
        self.assigned = {} if route.set is None and route.operation == "delta" else route.set
        self.constants = {c: text for c, text in self._texts(route.constants, None).items() if c not in self.key}
        self.presence = presence
        self._full = route.replica_identity == "full"
        self._warned_unsure = False
        self.ops = None if route.ops is None else frozenset(route.ops)
        self._when = [(path, look_up(path), value) for path, value in route.when.items()]
        columns = table.columns
        self._key_looks = {column: look_for(path, columns[column]) for column, path in self.key.items()}
        assigned = self.assigned
        self._looks = None if assigned is None else {c: look_for(path, columns[c]) for c, path in assigned.items()}
        self._delta = {column: look_up(path) for column, path in route.delta.items()}

    def takes_topic(self, topic: str) -> bool:
        return names_any([self.route.topic], topic)

    def takes(self, event: Event) -> bool:
        """Return whether the route takes an event. Raises Unwritable where a delete's old row lacks what is asked."""
        if self.ops is not None and not self._operation_taken(event):
            return False
        if event.deleted and event.before is not None:
            for path, _, _ in self._when:
                self._require_known(event, path, "`when`")
        return all(has_value(self._asked(event, path, look), value) for path, look, value in self._when)

    def _asked(self, event: Event, path: str, look: Look) -> Any:
        """Return a field that `when` names. Raises Unwritable where it is not known.

        Of a delete that does not have it, it is the key's; of a row that was sent without it, that of the row before.
        """
        found = look(event, event.before if event.deleted else event.row)
        if found is ABSENT and event.deleted and isinstance(event.key, dict):
            found = look(event, event.key)
        if event.unsent and not event.deleted and head_of(path, event.unsent) in event.unsent:
            found = look(event, event.before) if event.before is not None and holds_field(event, path) else ABSENT
            if found is ABSENT:
                raise Unwritable(
                    f"field {path}, which `when` of a route into table {self.table} needs, was not sent, and no old "
                    "row tells it: set REPLICA IDENTITY FULL for the source's table"
                )
        return found

    def leaves(self, event: Event) -> bool:
        """Return whether the event, which the route does not take, is about a row that it took before."""
        row = event.row
        if row is None or self.route.operation not in _WRITING or self.route.deletion == "ignore":
            return False
        fields = [(path, look, value) for path, look, value in self._when if not path.startswith("$")]
        if not fields or any(
            not has_value(look(event, row), value) for path, look, value in self._when if path.startswith("$")
        ):
            return False
        if event.other_key is not None and event.op == "c":
            return True  # the delete that goes before may have moved a row to the new key
        if event.before is None or not all(holds_field(event, path) for path, _, _ in fields):
            self._warn_unsure(event)
            return False
        taken = self.ops is None or self._operation_taken(event)
        return taken and all(has_value(look(event, event.before), value) for _, look, value in fields)

    def _warn_unsure(self, event: Event) -> None:
        if not self._warned_unsure and event.op == "u":
            self._warned_unsure = True
            log.warning(
                "an update that `when` does not take does not tell its old row: if the route took that, the row stays",
                topic=event.partition.topic,
                table=str(self.table),
                remedy="set REPLICA IDENTITY FULL for the source's table, unless the fields of `when` never change",
            )

    def _operation_taken(self, event: Event) -> bool:
        op = event.op or (event.added or {}).get("__op") or ("d" if event.deleted else None)
        return op is None or op in (self.ops or ())

    def _require_known(self, event: Event, path: str, needs: str) -> None:
        """Raise Unwritable where the old row of a delete may have a zero or a default in the place of a value."""
        if event.deleted and not path.startswith("$") and holds_field(event, path, full=self._full) is not True:
            raise Unwritable(
                f"the old row does not tell field {path}, which {needs} of a route into table {self.table} needs: set "
                "REPLICA IDENTITY FULL for the source's table (and `replica_identity: full` in the route, if records "
                "do not say what they tell), or ask for fields of the message key"
            )

    def write(self, event: Event) -> RowWrite | None:
        """Return the event's write, None where it means nothing. Raises Unwritable where the event does not fit."""
        self.presence.settle(event)
        operation = self.route.operation
        if event.deleted:
            return self._deletion(event)
        if operation == "delete" or operation == "soft_delete":
            return self._removal(event, soft=operation == "soft_delete")
        if operation == "delta":
            if event.op == "r" and self.ops is None:
                raise Unwritable(
                    "a row of a snapshot (op r) is a state, and no amount to add: name the operations to take under "
                    f"`ops` of the route into {self.table}"
                )
            return self._write(event, "update", {c: self._amount(c, look, event) for c, look in self._delta.items()})
        return self._write(event, operation, {})

    def _deletion(self, event: Event) -> RowWrite | None:
        """Return the write of a delete. A null value without the row means nothing behind its delete, which had it."""
        if self.route.deletion == "ignore":
            return None
        try:
            return self._removal(event, soft=self.route.deletion == "soft_delete")
        except Unwritable:
            if event.is_behind_delete():
                return None
            raise

    def _write(self, event: Event, operation: Operation, add: dict[str, Number]) -> RowWrite:
        key = self._key_of(event)
        values = self._assigned(event)
        must_exist = operation == "update" and self.route.missing == "error"
        if operation != "update" and self._lacks(event):
            operation, must_exist = "update", True  # there is nothing to make the row of
        reset = () if add else self.cleared(values)
        shape = shape_of(self.table, operation, tuple(key), tuple(values), tuple(add), must_exist, self.order, reset)
        return RowWrite(shape, tuple(key.values()), tuple(values.values()), tuple(add.values()), event, event)

    def cleared(self, holds_field: Container[str]) -> tuple[str, ...]:
        """Return the marks that a row loses by being written: it is not deleted. Those the event sets are left out."""
        return tuple(column for column in self._marks if column not in self.key and column not in holds_field)

    def _removal(self, event: Event, *, soft: bool) -> RowWrite:
        """Return the removal of a row. A row that is gone already is as it should be."""
        key = self._key_of(event)
        values = self._texts(self.route.soft_delete, event) if soft else {}
        operation: Operation = "update" if soft else "delete"
        shape = shape_of(self.table, operation, tuple(key), tuple(values), order=self.order)
        return RowWrite(shape, tuple(key.values()), tuple(values.values()), (), event, event)

    def _key_of(self, event: Event) -> dict[str, str]:
        row = event.before if event.deleted else event.row
        out = {}
        for column, look in self._key_looks.items():
            value, forms = look(event, row), forms_of(self.key[column], event)
            if value is ABSENT:
                value = look(event, event.key if isinstance(event.key, dict) else None)
                if value is ABSENT and event.deleted and len(self.key) == 1 and not isinstance(event.key, dict | None):
                    # A tombstone whose key is one plain value, be it the route's: its delete told which row it was.
                    value = ABSENT if event.repeats else event.key
                forms = event.key_forms
            elif event.deleted and event.before is not None:
                self._require_known(event, self.key[column], f"key column {column}")
            text = None if value is ABSENT else reading(forms).text(value, self.table.columns[column])
            if text is None:
                self._require_known(event, self.key[column], f"key column {column}")
                raise Unwritable(f"the event does not tell the key column {column} of table {self.table}")
            out[column] = text
        return out

    def _lacks(self, event: Event) -> bool:
        """Return whether a value that the route writes was not sent."""
        if not event.unsent:
            return False
        columns = self.table.columns
        paths = {column: column for column in columns} if self.assigned is None else self.assigned
        return any(
            head_of(path, event.unsent) in event.unsent
            for column, path in paths.items()
            if not (column in self.key or column in self.constants or columns[column].generated)
        )

    def _assigned(self, event: Event) -> dict[str, str | None]:
        row = event.row or {}
        columns = self.table.columns
        if self._looks is None:
            unknown = row.keys() - columns.keys() - set(self.key.values())
            if unknown:
                raise Unwritable(f"table {self.table} has no column {sorted(unknown)[0]}, and the route has no `set`")
            fields = {name: row[name] for name in row if name in columns}
        else:
            fields = {column: look(event, row) for column, look in self._looks.items()}
        sent = {
            column: reading(forms_of(self._path(column), event)).text(value, columns[column])
            for column, value in fields.items()
            if value is not ABSENT and not (column in self.key or column in self.constants or columns[column].generated)
        }
        return {**sent, **self.constants}

    def _path(self, column: str) -> str:
        return column if self.assigned is None else self.assigned[column]

    def _amount(self, column: str, look: Look, event: Event) -> Number:
        value = look(event, event.row)
        try:
            if value is ABSENT or isinstance(value, bool):
                raise ValueError
            amount = Decimal(repr(value) if isinstance(value, float) else value)
            if not amount.is_finite():
                raise ValueError
            return whole_or_not(amount)
        except (ValueError, TypeError, ArithmeticError):
            raise Unwritable(f"the event has no number to add to column {column} of table {self.table}") from None

    def _texts(self, values: Mapping[str, Any], event: Event | None) -> dict[str, str | None]:
        out = {}
        for column, value in values.items():
            of_record = event is not None and value == "$timestamp"
            out[column] = time_of(event) if event and of_record else text_of(value, self.table.columns[column])
        return out
