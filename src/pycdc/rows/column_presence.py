"""What an event really tells: which values of its row were sent, and what its old row is known to hold.

Everything that reads a row asks here. Records of pycdc say it in headers (see `pycdc.model.absence_headers`). Those of
Debezium have a placeholder for a value that was not sent, where its type has one, and say nothing of the old row.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Collection, Iterable, Sequence
from datetime import date, timedelta
from hashlib import md5
from typing import Any, Final
from uuid import UUID

from pycdc.config.values import octets_of_placeholder
from pycdc.model.absence_headers import KNOWN, UNSENT, names_in
from pycdc.model.change import Row
from pycdc.model.event import Event, Unwritable
from pycdc.rows.old_rows import is_whole

_PLAIN: Final = re.compile(r"[A-Za-z0-9_. -]+")
"""Placeholders that stand in JSON as they are."""


class ColumnPresence:
    """`placeholder` is what stands for a value that was not sent: a text, or ``hex:`` and bytes, as in Debezium."""

    def __init__(self, placeholder: str) -> None:
        octets = octets_of_placeholder(placeholder)
        text = octets.decode("utf-8", "replace")
        # Java's bytes are signed.
        codes = [octet - 256 if octet > 127 else octet for octet in octets]
        days = [(date(1970, 1, 1) + timedelta(code)).isoformat() for code in codes]
        identity = UUID(bytes=md5(octets, usedforsecurity=False).digest(), version=3)
        base64 = b64encode(octets).decode()
        self.octets = octets
        self.mark = octets if _PLAIN.fullmatch(text) else b""
        """What is in the bytes of a record that may hold it. Not so for arrays of numbers, dates and uuids, and bytes
        that JSON spells in base64: who reads such a column looks at its value."""
        maps = (f'{{"{text}":"{text}"}}', f'{{"{text}": "{text}"}}')
        self._scalars = {text, octets, base64, *maps}
        self._map = {text: text}
        self.lengths = frozenset((1, len(codes)))
        lists = ([text], [octets], [base64], codes, days, [str(identity)], [identity])
        self._lists = {tuple(items) for items in lists if items}
        self.is_plain = bool(self.mark)

    def was_not_sent(self, value: Any) -> bool:
        """Return whether it is the placeholder, in any of the forms that it has by the types of columns."""
        if isinstance(value, str | bytes):
            return value in self._scalars or (not self.is_plain and self._is_map(value))
        if isinstance(value, dict):
            return value == self._map
        if not isinstance(value, list) or len(value) not in self.lengths:
            return False
        try:
            return tuple(value) in self._lists
        except TypeError:
            return False  # of lists or objects

    def _is_map(self, value: str | bytes) -> bool:
        """Return whether it is an hstore's JSON, however that spells the signs of the placeholder."""
        try:
            return bool(isinstance(value, str) and value[:1] == "{" and json.loads(value) == self._map)
        except (ValueError, RecursionError):
            return False

    def any_not_sent(self, values: Sequence[Any]) -> bool:
        """Return whether one of a column's values is."""
        try:
            return not self._scalars.isdisjoint(values)
        except TypeError:
            return any(map(self.was_not_sent, values))

    def settle(self, event: Event) -> None:
        """Leave out of the event's rows the fields that were not sent, and those that the old row does not hold.

        This is done once: what functions make of the rows afterwards holds as it is.
        """
        if event.settled:
            return
        event.settled = True
        if event.row is not None:
            named = names_in(event.headers, UNSENT)
            if named is None:
                named = frozenset(name for name, value in event.row.items() if self.was_not_sent(value))
            event.unsent = named & event.row.keys()
            event.row = _without(event.row, event.unsent)
        if event.before is not None:
            self._settle_before(event, event.before)

    def _settle_before(self, event: Event, before: Row) -> None:
        """Leave out of an old row the fields that it does not hold: they are NULL, the default or zero in it.

        Postgres sends an old row with an update where it is whole, or where the key changed, which comes as a delete:
        so with an update it is taken for whole. With a delete, Debezium names no field of it but the message key's.
        """
        known = names_in(event.headers, KNOWN)
        if known is not None:
            event.missing_before = frozenset(before.keys() - known)
        elif event.deleted:
            event.doubtful = frozenset(before.keys() - _names_of_key(event, before))
        event.missing_before |= {name for name, value in before.items() if self.was_not_sent(value)}
        event.before = _without(before, event.missing_before)


def _names_of_key(event: Event, before: Row) -> Iterable[str]:
    """Return the fields of the old row that the message key holds.

    A key that is no record may be one field's value (`ExtractField$Key`), and the fields of one that is may have been
    renamed: these are found by their values. Where no field has the key's, it is not Debezium's and casts no doubt. Of
    a key that cannot be read nobody knows: then what may be a filling is doubtful.
    """
    try:
        key = event.key
    except Unwritable:
        return [name for name, value in before.items() if value]
    if key is None:
        return before
    if isinstance(key, dict) and key.keys() <= before.keys():
        return key
    values = [str(value) for value in (key.values() if isinstance(key, dict) else [key])]
    named = {name for name, value in before.items() if value is not None and str(value) in values}
    return named if named or isinstance(key, dict) else before


def holds_field(event: Event, path: str, *, full: bool = False) -> bool | None:
    """Return whether a settled event's old row holds the field that a path begins in; None where that is not known.

    It is held, too, where it is known that there is no such field. `full`: the configuration says that old rows are
    whole.
    """
    if head_of(path, event.missing_before) in event.missing_before:
        return False
    field = head_of(path, event.doubtful)
    return True if full or field not in event.doubtful or is_whole(event) else None


def _without(row: Row, names: Collection[str]) -> Row:
    return {name: value for name, value in row.items() if name not in names} if names else row


def head_of(path: str, row: Iterable[str]) -> str:
    """Return the field that a path begins in. A field whose own name has dots goes before a path."""
    return path if path in row else path.partition(".")[0]
