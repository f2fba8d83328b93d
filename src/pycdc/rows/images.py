"""A change's rows as Python values, for library users and row-level transforms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pycdc.config.values import CompatibilityConfig, ValuesConfig
from pycdc.errors import ConversionError, ProtocolError
from pycdc.model.change import UNCHANGED, Change, Column, Op, Row, Table
from pycdc.rows.codecs import codec_for
from pycdc.rows.tuples import ROW, ColumnBytes, merge_unchanged, split_line, split_tuple

_KEY, _OLD = 0x4B, 0x4F  # 'K', 'O': what kind of old tuple a message holds
# Where text that is not UTF-8 is to stop the pipeline, Postgres does not even send it.
_PLAIN = ValuesConfig(encoding_errors="replace")


def loosened(table: Table, names: Sequence[str]) -> Table:
    """Return the table with these columns nullable, as they were when rows with NULL were written."""
    columns = tuple(replace(one, nullable=one.nullable or one.name in names) for one in table.columns)
    return replace(table, columns=columns, images=Images(columns))


def relabelled(table: Table, missing: Mapping[str, str]) -> Table:
    """Return the table with the labels that its enums have now.

    `missing` ones, by column, are among them in any case: they may have been renamed since.
    """
    now = table if table.relabelled is None else table.relabelled(table)
    columns = []
    for column in now.columns:
        label = missing.get(column.name)
        if label is not None and label not in column.type.labels:
            column = replace(column, type=replace(column.type, labels=(*column.type.labels, label)))
        columns.append(column)
    return replace(now, columns=tuple(columns), images=Images(columns))


class Images:
    """Decodes frames of one table version to (before, after). Columns whose type has no codec keep their text.

    Raises ProtocolError for a frame that is malformed, ConversionError for a text that is none of its type's.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = tuple(columns)
        codecs = [
            codec_for(column.type, _PLAIN, CompatibilityConfig(), dimensions=column.dimensions) for column in columns
        ]
        self._parse: list[Callable[[bytes], object]] = [_plain if codec is None else codec.parse for codec in codecs]

    def __call__(self, change: Change) -> tuple[Row | None, Row | None]:
        op, frame = change.op, change.frame
        if op is Op.READ:
            return None, self._row(change, split_line(frame) if frame or self._columns else [])
        if op is Op.CREATE:
            return None, self._row(change, split_tuple(frame, ROW)[0])
        if op in (Op.UPDATE, Op.DELETE):
            return self._changed(change)
        return None, None

    def _changed(self, change: Change) -> tuple[Row | None, Row | None]:
        old, old_kind, new = old_and_new(change.frame, change.op)
        if old is None:
            return None, None if new is None else self._row(change, new)
        if old_kind == _OLD:
            return self._row(change, old), None if new is None else self._row(change, merge_unchanged(new, old))
        before = self._key_row(change, old)
        if new is None:
            return before, None
        return before, self._row(change, merge_unchanged(new, identity_row(self._columns, old)))

    def values(self, change: Change, columns: Sequence[ColumnBytes]) -> list[object]:
        """Return a row's values in the table's order."""
        if len(columns) != len(self._columns):
            raise ProtocolError(
                f"row of {change.table} has {len(columns)} columns where {len(self._columns)} were described"
            )
        try:
            return [
                parse(text) if type(text) is bytes else text for parse, text in zip(self._parse, columns, strict=True)
            ]
        except ValueError:
            # Once more, to name the column.
            return [
                self._value(change, column, parse, text)
                for column, parse, text in zip(self._columns, self._parse, columns, strict=True)
            ]

    def parsed(self, name: str, text: bytes) -> object:
        """Parse one column's text into a new value. Raises ValueError for a text that is none of its type's."""
        return next(parse for column, parse in zip(self._columns, self._parse, strict=True) if column.name == name)(
            text
        )

    def _row(self, change: Change, columns: Sequence[ColumnBytes]) -> Row:
        values = self.values(change, columns)
        return {column.name: value for column, value in zip(self._columns, values, strict=True)}

    def _key_row(self, change: Change, columns: Sequence[ColumnBytes]) -> Row:
        row = self._row(change, columns)
        return {column.name: row[column.name] for column in self._columns if column.identity}

    @staticmethod
    def _value(change: Change, column: Column, parse: Callable[[bytes], object], text: ColumnBytes) -> object:
        try:
            return parse(text) if isinstance(text, bytes) else text
        except ValueError as exc:
            raise ConversionError(
                f"column {column.name!r} of table {change.table} is not a {column.type.name} as Postgres writes it "
                f"({type(exc).__name__})",
                hint="report this with the column's type and the server's version",
            ) from None


def _plain(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def identity_row(columns: Sequence[Column], old: Sequence[ColumnBytes]) -> list[ColumnBytes]:
    """Return an old tuple of the replica identity, UNCHANGED where it does not hold the value.

    Postgres sends one although no key changed where the key has a TOASTed value, and leaves that out of the new tuple.
    """
    return [text if column.identity else UNCHANGED for column, text in zip(columns, old, strict=True)]


def old_and_new(frame: bytes, op: Op) -> tuple[list[ColumnBytes] | None, int, list[ColumnBytes] | None]:
    """Return the old and the new tuple of an update's or delete's frame, and between them the old one's kind.

    The kind is 'K' or 'O', 0 if there is no old tuple.
    """
    if len(frame) < ROW:
        raise ProtocolError("row message ends before its tuple")
    kind = frame[ROW - 1]
    if kind not in (_KEY, _OLD):
        return None, 0, split_tuple(frame, ROW)[0]
    old, end = split_tuple(frame, ROW)
    return old, kind, split_tuple(frame, end + 1)[0] if op is Op.UPDATE else None
