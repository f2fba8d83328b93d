"""Frames to rows of Python values, and changed rows back to frames: what a row costs that a user's function has seen.

A value that the function left alone keeps the very text that Postgres sent, so that its record does not change by a
byte. Only what was replaced is written anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import is_
from struct import Struct
from typing import Any, Final

from pycdc.config.values import CompatibilityConfig, ValuesConfig
from pycdc.model.change import UNCHANGED, Change, Column, Op, Row, Table
from pycdc.rows.images import Images, identity_row, old_and_new
from pycdc.rows.literals import ColumnText, NotWritable
from pycdc.rows.tuples import ROW, ColumnBytes, merge_unchanged, split_line

_HEADER: Final = 25
_LETTERS: Final = {Op.CREATE: b"I", Op.UPDATE: b"U", Op.DELETE: b"D"}
_MUTABLE: Final = (list, dict)
_NOTHING: Final[tuple[ColumnBytes, Any]] = (None, object())
_u16, _u32 = Struct(">H").pack, Struct(">I").pack
_ESCAPES: Final = {0x5C: rb"\\", 0x09: rb"\t", 0x0A: rb"\n", 0x0D: rb"\r", 0x08: rb"\b", 0x0C: rb"\f", 0x0B: rb"\v"}


class Image:
    """One row as it came: the texts and the values of the columns that it has, in the table's order."""

    __slots__ = ("names", "row", "texts", "values", "whole")

    def __init__(self, names: list[str], texts: list[ColumnBytes], values: list[Any], *, whole: bool) -> None:
        self.names = names
        self.texts = texts
        self.values = values
        self.whole = whole
        self.row: Row = dict(zip(names, values, strict=True))


class RowRewriter:
    """Reads rows of the table version `source`, writes rows of `target`, which is `source` but for its columns."""

    def __init__(self, source: Table, target: Table, values: ValuesConfig, compatibility: CompatibilityConfig) -> None:
        self._source = source
        self._target = target
        self._images = Images(source.columns)
        self._all = [column.name for column in source.columns]
        self._key = [index for index, column in enumerate(source.columns) if column.identity]
        self._key_names = [self._all[index] for index in self._key]
        self._same = source.columns == target.columns
        self._mutable = any(_is_mutable(column) for column in source.columns)
        self._columns = [(column, ColumnText(column, values, compatibility)) for column in target.columns]
        self._kept = _kept(source, target)
        self._identity = {column.name for column in target.columns if column.identity}

    # Frames to rows.

    def images(self, change: Change) -> tuple[Image | None, Image | None]:
        """Before and after. Raises ProtocolError and ConversionError as `Images` does."""
        op, frame = change.op, change.frame
        if op is Op.READ:
            return None, self._image(change, list(split_line(frame)) if frame or self._all else [])
        old, kind, new = old_and_new(frame, op)
        if old is None:
            return None, None if new is None else self._image(change, new)
        whole = kind == 0x4F  # 'O': the whole old row, 'K' only what identifies it
        before = self._image(change, old) if whole else self._key_image(change, old)
        if new is None:
            return before, None
        known = old if whole else identity_row(self._source.columns, old)
        return before, self._image(change, merge_unchanged(new, known))

    def _image(self, change: Change, texts: list[ColumnBytes]) -> Image:
        return Image(self._all, texts, self._images.values(change, texts), whole=True)

    def _key_image(self, change: Change, texts: Sequence[ColumnBytes]) -> Image:
        values = self._images.values(change, texts)
        key = self._key
        return Image(self._key_names, [texts[i] for i in key], [values[i] for i in key], whole=False)

    def untouched(self, image: Image | None, row: Row | None) -> bool:
        """Return whether `row` is the image's, with nothing changed."""
        if image is None or row is None:
            return image is None and row is None
        return (
            self._same
            and [*row] == image.names
            and all(map(is_, row.values(), image.values))
            and not (self._mutable and any(type(value) in _MUTABLE for value in image.values))
        )

    # Rows to frames.

    def frame(
        self, op: Op, frame: bytes, images: tuple[Image | None, Image | None], before: Row | None, after: Row | None
    ) -> bytes:
        """Return the change's `frame` with other rows. Raises NotWritable."""
        if op is Op.READ:
            texts = self._texts(images[1], _required(after, op), "after")
            return copy_line(texts)
        body = [frame[:_HEADER], _LETTERS[op], frame[_HEADER + 1 : ROW - 1]]
        if op is Op.DELETE:
            before = _required(before, op, "before")
        if op is not Op.CREATE and before is not None:
            kind, texts = self._old(images[0], before)
            body += [kind, tuple_data(texts)]
        if op is not Op.DELETE:
            body += [b"N", tuple_data(self._texts(images[1], _required(after, op), "after"))]
        return b"".join(body)

    def _old(self, image: Image | None, row: Row) -> tuple[bytes, list[ColumnBytes]]:
        whole = len(row) == len(self._columns)
        needed = self._identity if image is None or not image.whole else {column.name for column, _ in self._columns}
        if not whole and not needed <= row.keys():
            raise NotWritable(f"before lacks column {sorted(needed - row.keys())[0]!r}")
        return b"O" if whole else b"K", self._texts(image, row, "before", partial=not whole)

    def _texts(self, image: Image | None, row: Row, side: str, *, partial: bool = False) -> list[ColumnBytes]:
        if image is not None and self._same and [*row] == image.names == self._all:
            return self._replaced(image, row, side)
        strange = row.keys() - {column.name for column, _ in self._columns}
        if strange:
            raise NotWritable(f"{side} has column {sorted(strange)[0]!r}, which is not declared")
        known = (
            {} if image is None else dict(zip(image.names, zip(image.texts, image.values, strict=True), strict=True))
        )
        return [self._column(column, write, row, known, side, partial) for column, write in self._columns]

    def _replaced(self, image: Image, row: Row, side: str) -> list[ColumnBytes]:
        """Return the image's texts but for what was replaced: that is what most functions do."""
        texts = list(image.texts)
        for index, (value, was) in enumerate(zip(row.values(), image.values, strict=True)):
            if value is not was or type(value) in _MUTABLE:
                column, write = self._columns[index]
                texts[index] = self._text(column, write, value, texts[index], was, side)
        return texts

    def _column(
        self,
        column: Column,
        write: ColumnText,
        row: Row,
        known: Mapping[str, tuple[ColumnBytes, Any]],
        side: str,
        partial: bool,
    ) -> ColumnBytes:
        if column.name in row:
            return self._text(column, write, row[column.name], *known.get(column.name, _NOTHING), side)
        if partial:
            return None
        raise NotWritable(f"{side} lacks column {column.name!r}")

    def _text(
        self, column: Column, write: ColumnText, value: Any, text: ColumnBytes, was: Any, side: str
    ) -> ColumnBytes:
        """Return the text of a value; the text that came, where the value is the one that came."""
        name = column.name
        if value is was and (value is UNCHANGED or (name in self._kept and type(value) not in _MUTABLE)):
            return text
        if value is UNCHANGED:
            raise NotWritable(
                f"{side} column {name!r} cannot become UNCHANGED: only a value that came as it may stay it"
            )
        if value is None:
            if not column.nullable:
                raise NotWritable(f"{side} column {name!r} is NOT NULL")
            return None
        try:
            if type(value) in _MUTABLE and type(text) is bytes and self._unaltered(name, write, value, text):
                return text
            return write(value)
        except NotWritable as error:
            raise NotWritable(f"{side} column {name!r} {error}") from None

    def _unaltered(self, name: str, write: ColumnText, value: Any, text: bytes) -> bool:
        """Return whether a list or dict, which may have been changed in place, is still what the text says.

        Compared as written, because to Python ``[True]`` equals ``[1]``.
        """
        was = self._images.parsed(name, text)
        return name in self._kept and type(was) is type(value) and write.plain(was) == write.plain(value)


def _is_mutable(column: Column) -> bool:
    """Return whether its values may be lists or dicts."""
    return column.type.element is not None or column.type.name in ("json", "jsonb", "hstore", "vector", "halfvec")


def _kept(source: Table, target: Table) -> set[str]:
    """Columns whose texts mean the same on both sides; whether they may be NULL does not matter."""
    types = {column.name: column.type for column in source.columns}
    return {
        column.name
        for column in target.columns
        if (was := types.get(column.name)) is not None
        if (was.name, was.typmod, was.kind) == (column.type.name, column.type.typmod, column.type.kind)
    }


def _required(row: Row | None, op: Op, side: str = "after") -> Row:
    if row is None:
        raise NotWritable(f"{side} is None, and a change with op {op.value} needs it")
    return row


def tuple_data(texts: Sequence[ColumnBytes]) -> bytes:
    """TupleData, as pgoutput writes it."""
    out = [_u16(len(texts))]
    for text in texts:
        out.append(b"n" if text is None else b"u" if text is UNCHANGED else b"t" + _u32(len(text)) + text)
    return b"".join(out)


def copy_line(texts: Sequence[ColumnBytes]) -> bytes:
    """Write a line of COPY text."""
    return b"\t".join([_escaped(text) if isinstance(text, bytes) else rb"\N" for text in texts])


def _escaped(text: bytes) -> bytes:
    """Escape as COPY does."""
    if not any(code in text for code in _ESCAPES):
        return text
    return b"".join([_ESCAPES.get(code) or bytes((code,)) for code in text])
