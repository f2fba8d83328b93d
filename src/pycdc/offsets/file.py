"""The checkpoint in a file: a temporary one is written, synced and renamed over the old, then the folder is synced.

So a crash or a full disk at any moment leaves the old checkpoint or the new one, never a mixture.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from pycdc.errors import EnvironmentNotReady
from pycdc.interfaces import Checkpoint
from pycdc.offsets.encoding import dump, load, require_forward


class FileOffsetStore:
    """One file, readable by its owner only. The folder must be on a disk that outlives the process."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._temporary = self._path.with_name(self._path.name + ".new")

    def load(self) -> Checkpoint | None:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable("read", error) from error
        return load(data, f"the offset file {self._path}")

    def store(self, checkpoint: Checkpoint) -> None:
        require_forward(self.load(), checkpoint, f"the offset file {self._path}")
        try:
            self._replace(dump(checkpoint))
        except OSError as error:
            with contextlib.suppress(OSError):
                self._temporary.unlink(missing_ok=True)
            raise self._unusable("write", error) from error

    def clear(self) -> None:
        try:
            self._path.unlink(missing_ok=True)
            if self._path.parent.exists():
                self._sync_folder()
        except OSError as error:
            raise self._unusable("remove", error) from error

    def require_room(self) -> None:
        """Raise EnvironmentNotReady where `store` certainly could not write. Changes nothing."""
        if self._path.is_dir():
            raise self._unusable("write", IsADirectoryError(errno.EISDIR, "is a directory"))
        folder = next(one for one in self._path.absolute().parents if one.exists())
        if not folder.is_dir():
            raise self._unusable("write", NotADirectoryError(errno.ENOTDIR, f"{folder} is no directory"))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise self._unusable("write", PermissionError(errno.EACCES, f"{folder} is not writable"))

    def close(self) -> None:
        """Do nothing: nothing is held open between calls."""

    def _replace(self, data: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb", buffering=0) as file:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        os.replace(self._temporary, self._path)
        self._sync_folder()

    def _sync_folder(self) -> None:
        # Without this a crash may undo the rename: the folder's entry is data of its own.
        descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _unusable(self, verb: str, error: OSError) -> EnvironmentNotReady:
        return EnvironmentNotReady(
            f"cannot {verb} the offset file {self._path}: {error.strerror or error}",
            hint="make the folder of `offsets.file.path` writable, with room to spare",
        )
