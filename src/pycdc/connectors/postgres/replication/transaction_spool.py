"""The frames of a transaction that is not committed yet: in memory, or on disk where they are too many.

A spool's file has no name: it belongs to this process alone and is gone with it, however that ends. What it holds is
compressed, not encrypted.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator
from itertools import accumulate, pairwise
from struct import Struct
from tempfile import TemporaryFile, gettempdir
from typing import IO, Final

from pycdc.errors import EnvironmentNotReady

_BLOCK: Final = 1024 * 1024
_OVERHEAD: Final = 48
"""What Python adds to a frame, in bytes."""
_LEVEL: Final = 1
_head = Struct(">II")


class SpoolFolder:
    """Where spools have their files; None: the system's folder for temporary files."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self.on_disk = 0
        """Bytes of all its files."""

    def check(self) -> None:
        """Raise EnvironmentNotReady where no file can be made."""
        self.open().close()

    def open(self) -> IO[bytes]:
        """Make a file that nobody else can open (mode 0600, and without a name)."""
        try:
            return TemporaryFile(dir=self._path, buffering=0)
        except OSError as error:
            raise self.failed(error) from None

    def failed(self, error: OSError) -> EnvironmentNotReady:
        return EnvironmentNotReady(
            f"a transaction in progress cannot be kept in the folder {self._path or gettempdir()}: {error.strerror}",
            hint="free space there, name a larger folder in source.postgres.spool_folder, or set "
            "`source.postgres.streaming: off`; nothing of the transaction was delivered yet, so nothing is lost",
        )


class TransactionSpool:
    """Takes frames, and gives them back in order, in blocks of about `block` bytes. `size`: bytes in memory."""

    def __init__(self, folder: SpoolFolder, block: int = _BLOCK) -> None:
        self._folder = folder
        self._block = min(block, _BLOCK)
        self._file: IO[bytes] | None = None
        self._blocks: list[list[bytes]] = []
        self._space = 0
        self._written = 0
        self.size = 0

    def append(self, frames: list[bytes]) -> None:
        """Keep `frames`, in memory for now."""
        for frame in frames:
            if self._space <= 0:
                self._blocks.append([])
                self._space = self._block
            self._blocks[-1].append(frame)
            size = len(frame) + _OVERHEAD
            self._space -= size
            self.size += size

    def to_disk(self) -> None:
        """Write what is in memory. Raises EnvironmentNotReady where there is no space."""
        if self._file is None:
            self._file = self._folder.open()
        try:
            for block in self._blocks:
                self._write(_packed(block))
        except OSError as error:
            raise self._folder.failed(error) from None
        self._blocks, self._space, self.size = [], 0, 0

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        rest = memoryview(data)
        while rest:
            done = self._file.write(rest) or 0
            rest = rest[done:]
            self._written += done
            self._folder.on_disk += done

    def blocks(self) -> Iterator[list[bytes]]:
        """All that was kept, once."""
        try:
            if self._file is not None:
                self._file.seek(0)
                while head := self._read(_head.size):
                    size, count = _head.unpack(head)
                    yield _unpacked(self._read(size), count)
        except OSError as error:
            raise self._folder.failed(error) from None
        except (zlib.error, ValueError):
            raise EnvironmentNotReady(
                "a transaction that was kept on disk cannot be read back",
                hint="check the disk, and start again: the server still has the transaction",
            ) from None
        yield from self._blocks

    def _read(self, size: int) -> bytes:
        assert self._file is not None
        parts = []
        while size and (part := self._file.read(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Forget all of it. Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._folder.on_disk -= self._written
        self._blocks, self._space, self._written, self.size = [], 0, 0, 0


def _packed(frames: list[bytes]) -> bytes:
    lengths = array("L", map(len, frames))
    data = zlib.compress(lengths.tobytes() + b"".join(frames), _LEVEL)
    return _head.pack(len(data), len(frames)) + data


def _unpacked(data: bytes, count: int) -> list[bytes]:
    """Return the frames of a block. Raises zlib.error or ValueError where it is not what was written."""
    raw = memoryview(zlib.decompress(data))
    lengths = array("L")
    start = count * lengths.itemsize
    lengths.frombytes(raw[:start])
    places = list(accumulate(lengths, initial=start))
    if places[-1] != len(raw):
        raise ValueError("a block of another length")
    return [bytes(raw[begin:end]) for begin, end in pairwise(places)]
