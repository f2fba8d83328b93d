"""Any number of processes in the group, killed, frozen and added: nothing lost, nothing doubled, order per key kept.

A few seconds in `make test`; `make chaos` gives it minutes, by PYCDC_CHAOS_SECONDS.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time

import pytest
from confluent_kafka import Producer

from tests.faults.harness import Process
from tests.reading import wait_for
from tests.reverse.conftest import Rig

SECONDS = float(os.environ.get("PYCDC_CHAOS_SECONDS", "8"))
ITEMS = 60
RATE = 500
MOST, FEWEST = 4, 2

WATCH = """
ALTER TABLE items ADD last bigint NOT NULL DEFAULT 0;
CREATE TABLE disorder (id int, before bigint, after bigint);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.last <= OLD.last THEN INSERT INTO disorder VALUES (NEW.id, OLD.last, NEW.last); END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER watch BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION watch();
"""
"""Every event tells a number that grows within its key: a row that goes back has been written out of order."""


class Traffic:
    """Events of all items at a fixed rate, until it is left."""

    def __init__(self, rig: Rig) -> None:
        self._producer = Producer({"bootstrap.servers": rig.kafka.bootstrap, "linger.ms": 2})
        self._topic = rig.topic
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = 0

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join()
        assert self._producer.flush(30) == 0

    def _run(self) -> None:
        began = time.monotonic()
        while not self._end.wait(0.01):
            while self.sent < (time.monotonic() - began) * RATE:
                self.sent += 1
                event = {"item": self.sent % ITEMS, "by": self.sent, "number": self.sent}
                self._producer.produce(self._topic, json.dumps(event).encode(), str(event["item"]).encode())
            self._producer.poll(0)


def total(item: int, sent: int) -> int:
    return sum(number for number in range(1, sent + 1) if number % ITEMS == item)


@pytest.mark.slow
@pytest.mark.pg("newest" if SECONDS <= 20 else ">=15")
def test_processes_come_and_go_and_every_event_is_applied_once_in_the_order_of_its_key(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic, partitions=8)
    rig.sql(WATCH)
    rig.sql(f"INSERT INTO items (id) SELECT generate_series(0, {ITEMS - 1})")
    route = {"operation": "delta", "key": {"id": "item"}, "delta": {"quantity": "by"}, "set": {"last": "number"}}
    options = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500}
    document = rig.document(route, source={"max_batch_events": 100, "options": options})
    chance = random.Random(8)
    running = [rig.start(document) for _ in range(FEWEST)]
    frozen: list[Process] = []
    done = {"killed": 0, "frozen": 0, "added": 0}
    with Traffic(rig) as traffic:
        wait_for(lambda: rig.offsets() > 0)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            deed = chance.choice(list(done))
            if deed == "added" and len(running) < MOST:
                running.append(rig.start(document))
            elif deed == "killed" and len(running) > FEWEST:
                running.pop(chance.randrange(len(running))).kill()
            elif deed == "frozen" and len(running) > FEWEST:
                frozen.append(running.pop(chance.randrange(len(running))))
                frozen[-1].freeze()
            else:
                continue
            done[deed] += 1
            time.sleep(chance.uniform(0.5, 3))
            if len(frozen) > 1:
                # Awake again: fenced, it ends or begins anew; whatever it does, it writes nothing twice.
                frozen.pop(0).thaw()
    assert all(done.values()), f"the seed's first {SECONDS:g} seconds have one of each: {done}"
    wait_for(lambda: rig.offsets() == traffic.sent)
    for process in running:
        process.stop()
    assert rig.sql("SELECT * FROM disorder") == []
    expected = [(item, total(item, traffic.sent)) for item in range(ITEMS)]
    assert rig.sql("SELECT id, quantity FROM items ORDER BY id") == expected
