"""Pipelines in processes, a writer that never rests, and what must hold of a topic afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg

from pycdc.cli.arguments import load_config
from pycdc.config.pipeline import require_capture
from pycdc.operations.stored_position import stored_position
from tests.faults.process import READY
from tests.reading import PATIENCE, Read, Reader, wait_for

ROOT = Path(__file__).parents[2]


class Writer:
    """Commits transactions of several rows, updates, deletes and COPY, until told to end."""

    def __init__(self, dsn: str, pause: float = 0.03) -> None:
        self._dsn = dsn
        self._pause = pause
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.transactions = 0
        self.reconnects = 0

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True) as connection:
                    self._write(connection)
            except psycopg.OperationalError:
                self.reconnects += 1
                self._end.wait(0.05)

    def _write(self, connection: psycopg.Connection[Any]) -> None:
        row = connection.execute("SELECT max(id) / 10 * 10 FROM items").fetchone()
        number = row[0] if row else 0
        while not self._end.is_set():
            with connection.transaction():
                number += 10
                with connection.cursor().copy("COPY items (id, v) FROM STDIN") as copy:
                    for offset in range(4):
                        copy.write_row((number + offset, 0))
                connection.execute("UPDATE items SET v = v + 1 WHERE id = %s", [number])
                connection.execute("UPDATE items SET v = v + 1 WHERE id %% 7 = 0 AND id > %s", [number - 100])
                connection.execute("DELETE FROM items WHERE id = %s", [number - 49])
            self.transactions += 1
            self._end.wait(self._pause)


class Process:
    """A pipeline in a process of its own; `point` kills it from within."""

    def __init__(self, config: Path, *point: str) -> None:
        self._errors = config.with_suffix(f".{time.monotonic_ns()}.log")
        self._log = self._errors.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.process", str(config), *point],
            cwd=ROOT,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._errors.read_text()

    def alive(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout: float = PATIENCE) -> int:
        return self._process.wait(timeout)

    def stop(self) -> None:
        """SIGTERM, once it is heard: it must deliver, store and end with 0."""
        wait_for(lambda: READY in self.log or not self.alive())
        self._process.send_signal(signal.SIGTERM)
        assert self.wait() == 0, self.log

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self.alive():
            self._process.kill()
            self._process.wait()
        self._log.close()

    def peak_rss_mb(self) -> float:
        """The most memory that the process has had, in MB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise AssertionError("no VmHWM")


class Rig:
    """One database, one topic prefix, one reader; `config` writes the pipeline's configuration."""

    def __init__(self, dsn: str, brokers: str, registry: str, name: str, folder: Path) -> None:
        self.dsn = dsn
        self.name = name
        self.items = f"{name}.public.items"
        self.reader = Reader(brokers, registry)
        self.brokers = brokers
        self.registry = registry
        self.folder = folder
        self._processes: list[Process] = []

    def execute(self, statement: str) -> list[Any]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def config(self, *, dsn: str | None = None, brokers: str | None = None, **sections: Any) -> Path:
        source = {"dsn": dsn or self.dsn, **sections.pop("source", {})}
        kafka = {"brokers": brokers or self.brokers, "registry": self.registry, **sections.pop("kafka", {})}
        document = {
            "name": self.name,
            "source": {"postgres": source},
            "sink": {"kafka": kafka},
            "checkpoint": {"interval": 0.2},
            "retries": {"max_delay": 0.5},
            "http": {"enabled": False},
            **sections,
        }
        path = self.folder / "config.json"
        path.write_text(json.dumps(document))
        return path

    def start(self, config: Path, *point: str) -> Process:
        process = Process(config, *point)
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            print(process.log[-2000:])  # shown where the test failed
        self.reader.close()

    def records(self) -> list[Read]:
        return self.reader.read(self.items)

    def wait_for_more(self, count: int, timeout: float = PATIENCE) -> None:
        """Until that many records came beyond those there are now."""
        seen = len(self.records())
        wait_for(lambda: len(self.records()) >= seen + count, timeout)

    def finish(self, timeout: float = PATIENCE) -> dict[int, int]:
        """Write a last row, wait until it came by the stream; return the table as it is.

        The first may come by a snapshot, before changes that are older than it; the second cannot. Rows that a snapshot
        has still to read come behind both: it is waited for too.
        """
        self._mark(timeout)
        wait_for(lambda: snapshot_finished(self.folder / "config.json"), timeout)
        return self._mark(timeout)

    def _mark(self, timeout: float) -> dict[int, int]:
        number = self.execute("INSERT INTO finish DEFAULT VALUES RETURNING id")[0][0]
        expected = dict(self.execute("SELECT id, v FROM items"))
        topic = f"{self.name}.public.finish"
        wait_for(lambda: any(r.value and r.value["after"]["id"] == number for r in self.reader.read(topic)), timeout)
        return expected


def snapshot_finished(config: Path) -> bool:
    """Whether the stored position says that no row is still to be read."""
    stored = stored_position(require_capture(load_config(str(config))))
    return stored is not None and stored.snapshot_done and not stored.snapshot


def replayed(records: list[Read]) -> dict[int, int]:
    """The table as a consumer of the topic has it."""
    state: dict[int, int] = {}
    for record in records:
        key = record.key["id"]
        if record.value is None or record.value["op"] == "d":
            state.pop(key, None)
        else:
            state[key] = record.value["after"]["v"]
    return state


def identity(record: Read) -> str:
    """What a consumer may deduplicate by: everything but the processing time."""
    value = {name: item for name, item in record.value.items() if not name.startswith("ts_")}
    return json.dumps([record.key, value], sort_keys=True, default=str)


def streamed(records: list[Read]) -> list[Read]:
    return [record for record in records if record.value is not None and record.value["op"] != "r"]


def assert_order_and_identity(records: list[Read], deliveries: int) -> None:
    """First deliveries come in commit order, whole transactions at a time; a repeated event is the same event."""
    events = streamed(records)
    identities = [identity(record) for record in events]
    assert max(Counter(identities).values(), default=0) <= deliveries, "an event came more often than it was sent"
    firsts: dict[str, Read] = {}
    by_event: dict[tuple[Any, ...], str] = {}
    for record, name in zip(events, identities, strict=True):
        source = record.value["source"]
        event = (source["txId"], source["lsn"], record.value["op"], record.key["id"])
        assert by_event.setdefault(event, name) == name, "a repeated event differs from its first delivery"
        firsts.setdefault(name, record)
    # `sequence` begins with the commit before the event's own: it never goes back among first deliveries.
    previous = [int(json.loads(record.value["source"]["sequence"])[0] or 0) for record in firsts.values()]
    assert previous == sorted(previous)
    copied = Counter(record.value["source"]["txId"] for record in firsts.values() if record.value["op"] == "c")
    assert set(copied.values()) <= {4}, "the four rows that a transaction copied came together or not at all"
