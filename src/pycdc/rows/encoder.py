"""Rows to Avro: a plain encoder that is easy to trust, and functions compiled from it that are fast.

`RowEncoder` holds both. Compiled code handles what is usual; at the first surprise in a row (a value that its inline
expression cannot write, a malformed length) it hands that row to the reference implementation, which converts it under
the pipeline's policy or raises the error that names table and column. A test holds the two together.

A record's bytes are: a head (wire prefix and the union branches up to the row), the row, and a suffix that depends
on the row's LSN. What they mean is serialization's business; `Parts` carries them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from pycdc.errors import ConversionError, ProtocolError
from pycdc.model.change import UNCHANGED, Run
from pycdc.rows._codegen import identifier, shared_function
from pycdc.rows.avro import unsigned
from pycdc.rows.codecs.codec import Unrepresentable
from pycdc.rows.compiler import delete_source, full_update_source, insert_source, line_source, namespace
from pycdc.rows.plan import PlannedField, TablePlan
from pycdc.rows.tuples import ColumnBytes, split_line, split_tuple

EncodedParts = dict[str, Any]
"""``key`` and ``value`` (bytes or None), as Producer.produce_batch takes them; ``headers`` where there are any."""
Append = Callable[[EncodedParts], None]
OnNull = Callable[[str, str], None]
"""Called with table and column when a value without a representation became NULL."""

Slow = Callable[[Run, bytes], Append]
"""Writes a frame of a run that compiled code could not, and returns where the records behind it go."""
Lacking = Callable[[int, EncodedParts], Append]
"""Takes a record whose row was not sent whole, and its columns as bits; returns where those behind it go."""
Stamped = Iterable[tuple[Run, Any]]
"""Runs, and what the records of each one's transaction share: see `SourceBlock`."""
SourceBlock = tuple[bytes, bytes, bytes, bytes]
"""Avro bytes from the row to ``source.sequence``; its text up to the row's own LSN; from there to the table's name;
from that to ``lsn``. Where records have no envelope, `Parts` take its place."""


class Parts:
    """What surrounds the rows of one run.

    head      before the row: wire prefix, null ``before``, branch of ``after``
    key_head  wire prefix of the key
    sequence  the text of ``source.sequence`` up to the row's own LSN
    source    Avro bytes from the row to ``sequence``
    middle    Avro bytes between ``sequence`` and the zigzag varint of ``lsn``
    tail      Avro bytes after ``lsn``
    """

    __slots__ = ("_digits", "_start", "head", "key_head", "middle", "sequence", "source", "tail")

    def __init__(
        self, head: bytes, key_head: bytes, source: bytes, sequence: bytes, middle: bytes, tail: bytes
    ) -> None:
        self.head = head
        self.key_head = key_head
        self.source = source
        self.sequence = sequence
        self.middle = middle
        self.tail = tail
        self._digits = -1
        self._start = b""

    def start(self, digits: int) -> bytes:
        """`source` and the beginning of ``sequence`` for an LSN of that many digits."""
        if digits != self._digits:
            self._digits = digits
            length = len(self.sequence) + digits + 2
            self._start = self.source + b"\x02" + unsigned(length << 1) + self.sequence
        return self._start

    def suffix(self, lsn: int) -> bytes:
        text = b"%d" % lsn
        return b"".join((self.start(len(text)), text, b'"]', self.middle, unsigned(lsn << 1), self.tail))


class UnexpectedNull(Exception):
    """A whole row has NULL where the catalog says NOT NULL: the row is older than what the catalog says.

    `columns` are the names, `index` is the row's place in its transaction once `events` has set it, and `run` is the
    row's run.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        super().__init__(f"NULL in {', '.join(columns)}")
        self.columns = columns
        self.index = -1
        self.run: Run | None = None


class UnknownLabel(UnexpectedNull):
    """A row has labels of enums that were added since the table was described; `labels` by column."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        super().__init__(list(labels))
        self.labels = labels


class RowEncoder:
    """Encodes the rows of one plan.

    `on_null` is called for values that became NULL under the policy. `flat`: any `EncodedParts.suffix` stands behind a
    row, not the envelope's.
    """

    def __init__(self, plan: TablePlan, on_null: OnNull, *, flat: bool = False) -> None:
        self.plan = plan
        self._on_null = on_null
        self._columns = len(plan.table.columns)
        self._required = {field.index: field.column.name for field in (*plan.fields, *plan.key) if field.required}
        self._labels = _checked_labels(plan)
        self.keyed = bool(plan.key)
        self._flat = flat
        self._names = {**namespace(plan), "slow_read": self.slow_read}

    # Compiled when the first such row comes. See `compiler.ARGUMENTS`.

    @cached_property
    def inserts(self) -> Callable[..., None]:
        """Writes inserts, and updates without an old row."""
        return self._compiled("insert", partial(insert_source, flat=self._flat))

    @cached_property
    def full_updates(self) -> Callable[..., None]:
        """Writes updates under REPLICA IDENTITY FULL."""
        return self._compiled("update", partial(full_update_source, flat=self._flat))

    @cached_property
    def deletes(self) -> Callable[..., None]:
        """Writes deletes, by the envelope; a further argument says whether tombstones follow."""
        return self._compiled("delete", delete_source)

    @cached_property
    def reads(self) -> Callable[[list[bytes], Parts, Append], None]:
        """Writes lines of COPY text."""
        return self._compiled("read", line_source)

    def _compiled(self, what: str, source: Callable[[TablePlan, str], str]) -> Callable[..., None]:
        name = f"{what}_{identifier(str(self.plan.table))}"
        return shared_function(name, partial(source, self.plan), self._names)

    # The reference implementation.

    def columns(self, frame: bytes, start: int) -> tuple[list[ColumnBytes], int]:
        """Return the column texts of the tuple at `start`, and the offset behind it."""
        try:
            columns, end = split_tuple(frame, start)
        except ProtocolError as exc:
            raise ProtocolError(f"row of {self.plan.table} is malformed: {exc.fact}") from None
        if len(columns) != self._columns:
            raise ProtocolError(
                f"row of {self.plan.table} has {len(columns)} columns where {self._columns} were described"
            ) from None
        return columns, end

    def row(self, columns: Sequence[ColumnBytes]) -> bytes:
        """Return the record's fields as Avro."""
        return b"".join([self._encode(field, columns[field.index]) for field in self.plan.fields])

    def key(self, columns: Sequence[ColumnBytes]) -> bytes:
        self._require_sent(columns)
        return b"".join([self._encode(field, columns[field.index]) for field in self.plan.key])

    def _require_sent(self, columns: Sequence[ColumnBytes]) -> None:
        """Refuse a key with a TOASTed value that was not sent: a placeholder would name another row."""
        for field in self.plan.key:
            if columns[field.index] is UNCHANGED:
                raise ConversionError(
                    f"column {field.column.name!r} of table {self.plan.table} is part of the message key, and an "
                    "update that left it alone did not send it",
                    hint=f"ALTER TABLE {self.plan.table} REPLICA IDENTITY FULL, or choose other columns under "
                    "rules[].key",
                )

    def require_values(self, columns: Sequence[ColumnBytes]) -> None:
        """Raise UnexpectedNull for a whole row of another version of the table than this one."""
        if None in columns:
            lacking = [name for index, name in self._required.items() if columns[index] is None]
            if lacking:
                raise UnexpectedNull(lacking)
        if self._labels:
            new = [
                (name, text)
                for index, name, labels in self._labels
                if type(text := columns[index]) is bytes and text not in labels
            ]
            if new:
                raise UnknownLabel({name: text.decode("utf-8", "replace") for name, text in new})

    def require_key(self, *, partial: bool) -> None:
        """Refuse an old row that does not hold the message key: its record would name another row."""
        if partial and not all(field.column.identity for field in self.plan.key):
            raise ConversionError(
                f"old rows of {self.plan.table} do not hold the message key: the replica identity does not cover it",
                hint=f"ALTER TABLE {self.plan.table} REPLICA IDENTITY FULL, or choose columns of the replica identity "
                "under rules[].key",
            )

    def datums(self, columns: Sequence[ColumnBytes]) -> dict[str, Any]:
        """Return the record's fields as Connect values."""
        return {field.name: self._datum(field, columns[field.index]) for field in self.plan.fields}

    def key_datums(self, columns: Sequence[ColumnBytes]) -> dict[str, Any]:
        self._require_sent(columns)
        return {field.name: self._datum(field, columns[field.index]) for field in self.plan.key}

    def line(self, line: bytes) -> list[ColumnBytes]:
        """Return the column texts of a line of COPY text."""
        columns = split_line(line) if line or self._columns else []
        if len(columns) != self._columns:
            fact = f"line of {self.plan.table} has {len(columns)} columns instead of {self._columns}"
            raise ProtocolError(fact) from None
        return list(columns)

    def _encode(self, field: PlannedField, text: ColumnBytes) -> bytes:
        if text is None or field.codec.always_null:
            return field.null
        if text is UNCHANGED:
            return field.unavailable
        try:
            return field.branch + field.codec.encode(text)
        except Unrepresentable as exc:
            self._refuse(field, str(exc))
            return field.null
        except ValueError as exc:
            raise self._broken(field, exc) from None

    def _datum(self, field: PlannedField, text: ColumnBytes) -> Any:
        if text is None or field.codec.always_null:
            return field.null_datum
        if text is UNCHANGED:
            return field.unavailable_datum
        try:
            return field.codec.value(text)
        except Unrepresentable as exc:
            self._refuse(field, str(exc))
            return field.null_datum
        except ValueError as exc:
            raise self._broken(field, exc) from None

    def _refuse(self, field: PlannedField, why: str) -> None:
        """Apply `compatibility.unrepresentable`: stop, or count a NULL.

        The errors that led here quote the value: a traceback must not show them.
        """
        table, column = str(self.plan.table), field.column.name
        if self.plan.compatibility.unrepresentable == "stop":
            raise ConversionError(
                f"column {column!r} of table {table} ({field.column.type.name}) holds a value that its schema "
                f"cannot express: {why}",
                hint="choose another form for the type (values.decimal: string …), leave the column out "
                "(rules[].exclude_columns), or accept NULL with compatibility.unrepresentable: 'null'",
            ) from None
        self._on_null(table, column)

    def _broken(self, field: PlannedField, exc: ValueError) -> ConversionError:
        return ConversionError(
            f"column {field.column.name!r} of table {self.plan.table} is not a {field.column.type.name} "
            f"as Postgres writes it ({type(exc).__name__})",
            hint="report this with the column's type and the server's version; exclude the column to go on",
        )

    def slow_read(self, line: bytes, parts: Parts, append: Append) -> None:
        columns = self.line(line)
        self.require_values(columns)
        key = parts.key_head + self.key(columns) if self.keyed else None
        append({"key": key, "value": parts.head + self.row(columns) + parts.tail})


def _checked_labels(plan: TablePlan) -> list[tuple[int, str, frozenset[bytes]]]:
    """Place, name and labels of the columns whose labels the schema has to name."""
    if plan.compatibility.enum_labels == "kept":
        return []
    return [
        (field.index, field.column.name, frozenset(label.encode() for label in field.column.type.labels))
        for field in plan.fields
        if field.column.type.labels and field.codec.inline
    ]
