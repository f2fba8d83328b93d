"""A change's rows as Python values, for library users and row-level transforms."""

from __future__ import annotations

from collections.abc import Sequence

from pycdc.config import Compatibility, Values
from pycdc.model import UNCHANGED, Change, Column, Op, Row
from pycdc.rows.codecs import codec_for
from pycdc.rows.codecs.codec import Codec
from pycdc.rows.encoder import ROW
from pycdc.rows.tuples import Text, merge_unchanged, split_line, split_tuple

_KEY, _OLD = 0x4B, 0x4F  # 'K', 'O': what kind of old tuple a message holds
# Where text that is not UTF-8 is to stop the pipeline, Postgres does not even send it.
_PLAIN = Values(encoding_errors="replace")


class Images:
    """Decodes frames of one table version to (before, after). Columns whose type has no codec keep their text."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = tuple(columns)
        self._codecs: tuple[Codec | None, ...] = tuple(
            codec_for(column.type, _PLAIN, Compatibility(), dimensions=column.dimensions) for column in columns
        )

    def __call__(self, change: Change) -> tuple[Row | None, Row | None]:
        op, frame = change.op, change.frame
        if op is Op.READ:
            return None, self._row(split_line(frame))
        if op is Op.CREATE:
            return None, self._row(split_tuple(frame, ROW)[0])
        if op in (Op.UPDATE, Op.DELETE):
            return self._changed(frame, op)
        return None, None

    def _changed(self, frame: bytes, op: Op) -> tuple[Row | None, Row | None]:
        old, old_kind, new = old_and_new(frame, op)
        before = None
        if old is not None:
            before = self._row(old) if old_kind == _OLD else self._key_row(old)
        if new is None:
            return before, None
        return before, self._row(merge_unchanged(new, old if old_kind == _OLD else None))

    def _row(self, columns: Sequence[Text]) -> Row:
        return {
            column.name: self._value(codec, text)
            for column, codec, text in zip(self._columns, self._codecs, columns, strict=True)
        }

    def _key_row(self, columns: Sequence[Text]) -> Row:
        row = self._row(columns)
        return {column.name: row[column.name] for column in self._columns if column.identity}

    @staticmethod
    def _value(codec: Codec | None, text: Text) -> object:
        if text is None or text is UNCHANGED:
            return text
        return codec.parse(text) if codec is not None else text.decode("utf-8", "replace")


def old_and_new(frame: bytes, op: Op) -> tuple[list[Text] | None, int, list[Text] | None]:
    """The old tuple, its kind ('K' or 'O', 0 if there is none) and the new tuple of an update's or delete's frame."""
    kind = frame[ROW - 1]
    if kind not in (_KEY, _OLD):
        return None, 0, split_tuple(frame, ROW)[0]
    old, end = split_tuple(frame, ROW)
    return old, kind, split_tuple(frame, end + 1)[0] if op is Op.UPDATE else None
