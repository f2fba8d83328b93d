"""A function that fails at some rows until it is told that it was corrected."""

from __future__ import annotations

import threading

from pycdc import DecodedChange

corrected = threading.Event()


def fails_at_bad(change: DecodedChange) -> DecodedChange:
    row = change.after or change.before or {}
    if row.get("note") == "bad" and not corrected.is_set():
        raise ValueError("the note is bad")
    return change
