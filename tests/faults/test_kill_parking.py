"""kill -9 while rows are parked, wait behind others and are tried again: each comes once, in the order of its key."""

from __future__ import annotations

import json
import random
import signal
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from pycdc.cli import main
from tests.faults.harness import Rig
from tests.reading import wait_for
from tests.services.kafka import KafkaAddress

KEYS = 12
POINTS = {
    "exactly_once": {
        "after a batch of a table with parked rows": 4,
        "after parked rows were tried again": 1,
        "after the end, before the acknowledgement": 2,
    },
    "at_least_once": {
        "after parked rows were tried again": 1,
        "after the flush, before the position": 2,
    },
}
"""Where the process is killed, and at which passage."""
TABLE = f"""
CREATE TABLE counters (id int PRIMARY KEY, n int NOT NULL, v numeric(9, 2));
INSERT INTO counters SELECT i, 0, 0 FROM generate_series(1, {KEYS}) AS i;
"""


class Counting:
    """Counts up rows of `counters`, one or several a transaction; now and then with a value that cannot be encoded."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.transactions = 0

    def __enter__(self) -> Counting:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        dice = random.Random(1)
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._end.wait(0.05):
                ids = dice.sample(range(1, KEYS + 1), dice.randint(1, 4))
                value = "NaN" if dice.random() < 0.1 else "1.5"
                connection.execute("UPDATE counters SET n = n + 1, v = %s WHERE id = ANY(%s)", [value, ids])
                self.transactions += 1


def configured(rig: Rig, delivery: str, **sections: Any) -> Path:
    return rig.config(
        source={"snapshot": "never", "max_batch_changes": 40, "tables": ["counters"]},
        kafka={"format": "json", "delivery": delivery},
        rules=[{"tables": "public.counters", "on_error": "park"}],
        **sections,
    )


def retry(config: Path) -> None:
    done = CliRunner().invoke(main, ["parked", "retry", str(config), "--all"])
    assert done.exit_code == 0, done.output


def counts(rig: Rig, kafka: KafkaAddress) -> dict[int, list[int]]:
    """What a read_committed consumer sees of each key, in its order."""
    found: dict[int, list[int]] = {}
    for message in kafka.consume_all(f"{rig.name}.public.counters"):
        row = json.loads(message.value() or b"")["after"]
        found.setdefault(row["id"], []).append(row["n"])
    return found


@pytest.mark.pg("newest")
@pytest.mark.parametrize("delivery", POINTS)
def test_no_parked_row_is_lost_doubled_or_overtaken_wherever_the_process_is_killed(
    rig: Rig, kafka: KafkaAddress, delivery: str
) -> None:
    """At-least-once delivery may repeat a row, never skip one."""
    rig.execute(TABLE)
    config = configured(rig, delivery)
    first = rig.start(config)
    wait_for(lambda: rig.execute("SELECT 1 FROM pg_replication_slots WHERE confirmed_flush_lsn IS NOT NULL"))
    with Counting(rig.dsn) as writer:
        wait_for(lambda: writer.transactions > 40)
        first.kill()
        for point, passage in POINTS[delivery].items():
            retry(config)
            victim = rig.start(config, point, str(passage))
            assert victim.wait() == -signal.SIGKILL, f"{point}: {victim.log}"
    expected = dict(rig.execute("SELECT id, n FROM counters"))
    corrected = configured(rig, delivery, compatibility={"unrepresentable": "null"})
    heir = rig.start(corrected)
    retry(corrected)
    wait_for(lambda: {key: max(found) for key, found in counts(rig, kafka).items()} == expected)
    heir.stop()
    found = counts(rig, kafka)
    if delivery == "at_least_once":
        found = {key: list(dict.fromkeys(numbers)) for key, numbers in found.items()}
    assert found == {key: list(range(1, n + 1)) for key, n in expected.items()}
    assert "parking a row" in first.log
