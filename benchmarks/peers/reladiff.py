"""reladiff, which compares tables that nobody writes, in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict
from tests.services.availability import Unavailable
from tests.services.process import temporary_folder

VERSION = "0.6.0"
NAME = f"reladiff {VERSION}"
OPTIONS = ("--key-columns", "id", "--columns", "%", "--threads", "2")
_DRIVER = "psycopg2-binary"

_installed: list[Path] = []


def program() -> Path:
    """Return its program, installed when it is first asked for. Raises Unavailable."""
    if not _installed:
        folder = temporary_folder("reladiff")
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(folder / "bin" / "pip"), "install", "--quiet", f"reladiff=={VERSION}", _DRIVER],
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise Unavailable(f"reladiff cannot be installed: {done.stderr.strip()[-300:]}", excused=False)
        _installed.append(folder / "bin" / "reladiff")
    return _installed[0]


def compare(source: str, target: str, table: str) -> None:
    """Compare a table of two databases that are equal. Raises RuntimeError where it says otherwise."""
    command = [str(program()), _uri(source), table, _uri(target), table, *OPTIONS]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or done.stdout.strip():
        raise RuntimeError(f"reladiff: {done.stdout[-500:]}{done.stderr[-500:]}")


def _uri(dsn: str) -> str:
    parts = conninfo_to_dict(dsn)
    user = quote(str(parts.get("user", "postgres")))
    secret = f":{quote(str(parts['password']))}" if parts.get("password") else ""
    return f"postgresql://{user}{secret}@{parts['host']}:{parts.get('port', 5432)}/{parts['dbname']}"
