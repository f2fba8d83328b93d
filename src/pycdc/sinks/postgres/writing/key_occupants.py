"""Which of several rows under one key a record is about: that which its old row tells."""

from __future__ import annotations

from dataclasses import dataclass

from pycdc.model.change import Row
from pycdc.model.event import Event, Unwritable
from pycdc.rows.old_rows import is_whole
from pycdc.sinks.postgres.writing.key_rules import mark_of
from pycdc.sinks.postgres.writing.known_rows import KeyTexts
from pycdc.sinks.postgres.writing.writes import RowWrite


@dataclass(slots=True)
class Occupant:
    """A row that is under a key in the middle of a transaction. `place` is the key that it has meanwhile.

    Of one that the batch tells of it is known what its records told last, and of which message key they were.
    """

    place: KeyTexts
    raw_key: bytes | None = None
    image: Row | None = None
    write: RowWrite | None = None


def old_row(event: Event) -> Row | None:
    """Return what an event tells of its old row beside the message key; None where that is nothing.

    Where pycdc marks a table, its headers name the fields of an old row that is not whole.
    """
    before = event.before
    if before is None:
        return None
    told = before
    if event.doubtful and mark_of(event) is None and not is_whole(event):
        told = {name: value for name, value in before.items() if name not in event.doubtful}
    try:
        key = event.key
    except Unwritable:
        return told
    return told if not isinstance(key, dict) or told.keys() - key.keys() else None


def is_of(event: Event, told: Row, occupant: Occupant) -> bool:
    """Return whether the old row of an event is what is known of a row."""
    image = occupant.image or {}
    return event.raw_key == occupant.raw_key and all(image[name] == told[name] for name in told.keys() & image.keys())
