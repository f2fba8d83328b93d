"""kill -9 of `pycdc run` at any moment of a snapshot too large to look at row by row: the topic equals the table."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from array import array
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from tests.faults.harness import ROOT, Rig, Writer
from tests.reading import PATIENCE, Reader, wait_for

ROWS = int(os.environ.get("PYCDC_SNAPSHOT_ROWS", "60000"))
KILLS = int(os.environ.get("PYCDC_SNAPSHOT_KILLS", "2"))
METHODS = [("pinned", 2)] if "PYCDC_SNAPSHOT_ROWS" not in os.environ else [("pinned", 1), ("pinned", 2), ("chunks", 1)]
"""`make chaos-snapshot` has 10,000,000 and 3, and every way of reading; test_kill_keys has them small."""
BETWEEN_CHECKPOINTS = 150_000
"""More rows than are read between two checkpoints, which a kill repeats; far fewer than `make chaos-snapshot` has."""
TIMEOUT = 60 + ROWS / 10_000
GONE = -1


class Replay(Reader):
    """The table as a consumer has it, in eight bytes a row: `v` by `id`."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig.brokers, rig.registry)
        self._partition = TopicPartition(rig.items, 0, 0)
        self.state = array("q")
        self.reads = 0

    def high(self) -> int:
        """How many records the topic has, without reading them."""
        if self._partition.topic not in self._consumer.list_topics(timeout=60).topics:
            return 0
        return int(self._consumer.get_watermark_offsets(self._partition, timeout=60)[1])

    def run(self) -> None:
        high = self.high()
        self._consumer.assign([self._partition])
        position = 0
        while position < high:
            for message in self._consumer.consume(min(10_000, high - position), 1.0):
                assert message.error() is None, message.error()
                position = message.offset() + 1
                self._apply(self.decode(message.key())["id"], self.decode(message.value()))

    def _apply(self, number: int, value: dict[str, object] | None) -> None:
        if number >= len(self.state):
            self.state.extend([GONE] * (number + 100_000 - len(self.state)))
        if value is None or value["op"] == "d":
            self.state[number] = GONE
            return
        after = value["after"]
        assert isinstance(after, dict)
        self.state[number] = after["v"]
        self.reads += value["op"] == "r"


class Run:
    """`pycdc run`, as a user starts it."""

    def __init__(self, config: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pycdc", "run", str(config), "--no-live"],
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def end(self, signum: signal.Signals) -> int:
        self._process.send_signal(signum)
        return self._process.wait(PATIENCE)

    def running(self) -> bool:
        return self._process.poll() is None

    def peaks(self) -> list[int]:
        """The most memory that the process and its workers have had, each, in MB."""
        pid = self._process.pid
        threads = Path(f"/proc/{pid}/task").glob("*/children")
        started = [number for thread in threads for number in thread.read_text().split()]
        states = [Path(f"/proc/{number}/status").read_text() for number in (pid, *started)]
        return [int(state.partition("VmHWM:")[2].split()[0]) // 1024 for state in states]


def run_until_killed(config: Path, replay: Replay, records: int) -> None:
    victim = Run(config)
    wait_for(lambda: replay.high() > records or not victim.running(), TIMEOUT)
    peaks = victim.peaks()
    assert victim.end(signal.SIGKILL) == -signal.SIGKILL, "it had ended by itself"
    print(f"killed at {replay.high()} records, due at {records}; MB at most {peaks}")


@pytest.mark.slow
@pytest.mark.pg("newest")
@pytest.mark.parametrize(("method", "workers"), METHODS)
def test_a_snapshot_killed_at_random_moments_goes_on_and_the_topic_equals_the_table(
    rig: Rig, method: str, workers: int
) -> None:
    rig.execute("ALTER TABLE items ADD pad text NOT NULL DEFAULT repeat('x', 40)")
    rig.execute(f"INSERT INTO items SELECT i, 0 FROM generate_series(901, {ROWS}) AS i")
    rig.execute("ANALYZE items")
    config = rig.config(source={"snapshot_method": method, "workers": workers}, checkpoint={"interval": 0.2})
    replay = Replay(rig)
    with Writer(rig.dsn, pause=0.02):
        for kill in range(KILLS):
            run_until_killed(config, replay, int(ROWS * (kill + random.uniform(0.2, 0.8)) / (KILLS + 1)))
        heir = Run(config)
        wait_for(lambda: replay.high() >= ROWS, TIMEOUT)
    expected = rig.finish(TIMEOUT)
    print(f"MB at most {heir.peaks()}")
    assert heir.end(signal.SIGTERM) == 0
    replay.run()
    replay.close()
    assert {number: v for number, v in enumerate(replay.state) if v != GONE} == expected
    print(f"{ROWS} rows, {replay.reads} read by {KILLS + 1} processes")
    assert replay.reads < ROWS + KILLS * BETWEEN_CHECKPOINTS, "it did not go on where it was"
