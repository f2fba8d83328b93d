"""Checkpoints that live as long as the process: for tests and for embedding."""

from __future__ import annotations

from pycdc.interfaces import Checkpoint
from pycdc.offsets.encoding import dump, load, require_forward


class MemoryOffsetStore:
    """Keeps the encoded form, so that what comes back is what any other store would give."""

    def __init__(self) -> None:
        self._data: bytes | None = None

    def load(self) -> Checkpoint | None:
        return None if self._data is None else load(self._data)

    def store(self, checkpoint: Checkpoint) -> None:
        require_forward(self.load(), checkpoint, "the memory")
        self._data = dump(checkpoint)

    def clear(self) -> None:
        self._data = None

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
