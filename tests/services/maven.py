"""Java programs by Maven, kept in the user's cache folder: the second run is offline.

A download is made in a folder beside its place and renamed when it is whole, so one that was killed poisons nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .availability import Unavailable
from .process import run

MINIMUM_JAVA = 17
ATTEMPTS = 3
TIMEOUT_SECONDS = 600

PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin"

POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>pycdc.tests</groupId>
  <artifactId>servers</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
{dependencies}
  </dependencies>
</project>
"""


@dataclass(frozen=True, slots=True)
class Libraries:
    """Jars with all that they need at run time. ``coordinates`` are ``group:name:version``."""

    name: str
    coordinates: tuple[str, ...]

    def prepare(self, work: Path) -> list[str]:
        """Write what Maven reads into ``work``; the arguments that fill ``work/libs``."""
        (work / "pom.xml").write_text(POM.format(dependencies="\n".join(map(_dependency, self.coordinates))))
        return [f"{PLUGIN}:3.6.1:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={work / 'libs'}"]


@dataclass(frozen=True, slots=True)
class Archive:
    """One ``tar.gz``, unpacked. ``coordinate`` is ``group:name:version:type:classifier``."""

    name: str
    coordinate: str

    def prepare(self, work: Path) -> list[str]:
        # 2.8 is the last that copies an archive without a look at its parent POM, which need not be published.
        return [f"{PLUGIN}:2.8:copy", f"-Dartifact={self.coordinate}", f"-DoutputDirectory={work / 'libs'}"]


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "pycdc" / "test-servers"


def java() -> str:
    """Path of a Java that is new enough; ``Unavailable`` without one."""
    path = shutil.which("java")
    if path is None:
        raise Unavailable("java is not on the PATH")
    answer = subprocess.run([path, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', answer)
    if version is None or int(version[1]) < MINIMUM_JAVA:
        raise Unavailable(f"Java {MINIMUM_JAVA} or newer is needed, {path} is {answer.partition(chr(10))[0]}")
    return path


def cached(wanted: Libraries | Archive) -> bool:
    return _place(wanted).is_dir()


def resolve(wanted: Libraries | Archive) -> Path:
    """The folder with what is wanted, downloaded on first use. ``Unavailable`` without Maven or where it fails."""
    place = _place(wanted)
    if place.is_dir():
        return place
    maven = shutil.which("mvn")
    if maven is None:
        raise Unavailable(f"mvn is not on the PATH, and {wanted.name} is not in {place.parent}")
    place.parent.mkdir(parents=True, exist_ok=True)
    with _lock(place.parent):
        if not place.is_dir():
            _download(maven, wanted, place)
    return place


def _place(wanted: Libraries | Archive) -> Path:
    return cache_folder() / f"{wanted.name}-{hashlib.sha256(repr(wanted).encode()).hexdigest()[:10]}"


def _dependency(coordinate: str) -> str:
    parts = zip(("groupId", "artifactId", "version"), coordinate.split(":"), strict=True)
    return f"    <dependency>{''.join(f'<{tag}>{text}</{tag}>' for tag, text in parts)}</dependency>"


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(maven: str, wanted: Libraries | Archive, place: Path) -> None:
    for left in place.parent.glob(".incomplete-*"):
        shutil.rmtree(left)
    work = Path(tempfile.mkdtemp(prefix=".incomplete-", dir=place.parent))
    try:
        _run_maven(maven, wanted, work)
        for archive in (work / "libs").glob("*.tar.gz"):
            shutil.unpack_archive(archive, work / "libs")
            archive.unlink()
        (work / "libs").rename(place)
    finally:
        shutil.rmtree(work)


def _run_maven(maven: str, wanted: Libraries | Archive, work: Path) -> None:
    # -U: Maven remembers a network that was down as an artifact that is not there.
    command = [maven, "-q", "-B", "-U", "-Dstyle.color=never", *wanted.prepare(work)]
    # Java takes the home of the password file, where there need not be one, and not $HOME.
    options = f"{os.environ.get('MAVEN_OPTS', '')} -Duser.home={Path.home()}"
    environment = {**os.environ, "MAVEN_OPTS": options}
    for _ in range(ATTEMPTS):
        code, output = run(command, cwd=work, timeout=TIMEOUT_SECONDS, environment=environment)
        if code == 0:
            return
    raise Unavailable(f"Maven cannot resolve {wanted.name}: {_first_error(output)}", excused=False)


def _first_error(output: str) -> str:
    _, found, rest = output.partition("[ERROR]")
    return rest.partition("\n")[0].strip() if found else output.strip()[-300:]
