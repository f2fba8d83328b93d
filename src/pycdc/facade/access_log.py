"""Envoy's access log: the share of the reads that are sampled, as lines of JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class AccessLog:
    """Reads what comes to the file from now on; it may be replaced, or not be there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb") if path.exists() else None
        self._rest = b""
        if self._file is not None:
            self._file.seek(0, os.SEEK_END)

    def requests(self) -> Iterator[dict[str, Any]]:
        """Yield what came since the last call."""
        yield from self._read()
        if self._is_another():
            self.close()
            self._file, self._rest = self._path.open("rb"), b""
            yield from self._read()

    def _read(self) -> Iterator[dict[str, Any]]:
        if self._file is None:
            return
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            try:
                found = json.loads(line)
            except ValueError:  # Envoy was killed in the middle of it
                continue
            if isinstance(found, dict) and isinstance(found.get("path"), str):
                yield found

    def _is_another(self) -> bool:
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return self._file is None or os.fstat(self._file.fileno()).st_ino != there.st_ino

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
