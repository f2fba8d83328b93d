"""Rows keep their keys wherever batches end, in however many partitions, though keys are taken before they are left."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.connectors.kafka.record_decoder import Decoder
from pycdc.errors import ApplyError
from pycdc.model.event import Applied, Event, EventBatch, Partition, PartitionOffsets
from pycdc.sinks.postgres.bookkeeping.apply_offsets import ApplyOffsets
from pycdc.sinks.postgres.sink import PostgresSink
from tests.sinks.postgres.rig import Rig
from tests.sinks.postgres.writing.random_keys import Record, Row, Source

SEEDS = int(os.environ.get("PYCDC_CHAOS_KEYS", "8"))
STOPS = 0.02

pytestmark = pytest.mark.pg("newest")


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    rig = Rig(database)
    rig.sql("CREATE TABLE seats (id int PRIMARY KEY, name text)")
    yield rig
    rig.close()


class Apply:
    """Hands records of partitions to a sink, as the source does: what was not applied comes again with what follows."""

    def __init__(self, rig: Rig, wait: float = 30.0, **route: Any) -> None:
        routes = [{"topic": "seats*", "table": "seats", **route}]
        self._settings = PostgresSinkConfig.model_validate({"dsn": rig.dsn, "routes": routes, "wait_for_parents": wait})
        self.logs: dict[Partition, list[Record]] = {}
        self.start()

    def start(self) -> None:
        """Begin with a process that remembers nothing."""
        self._apply_offsets = ApplyOffsets.of(self._settings, "back")
        self._sink = PostgresSink(self._settings, "back", self._apply_offsets)
        self._decoder = Decoder(None, record_at=self._event_at)
        self.claim()

    def begin(self, topic: str, partitions: int) -> None:
        """Go on with a new topic."""
        self.logs = {Partition(topic, number): [] for number in range(partitions)}
        self.claim()

    def claim(self) -> None:
        self.next = dict(self._apply_offsets.claim(list(self.logs), lambda partition: 0))
        self.unapplied: list[Event] = []

    def close(self) -> None:
        self._sink.close()
        self._apply_offsets.close()

    def send(self, records: list[Record]) -> None:
        places = list(self.logs)
        for record in records:
            self.logs[places[record.key % len(places)]].append(record)

    def left(self, partition: Partition) -> int:
        return len(self.logs[partition]) - self.next[partition]

    def step(self, counts: dict[Partition, int]) -> None:
        """Read so many records of each partition, and apply them behind what was left."""
        events = self.unapplied
        starts = {event.partition: event.offset for event in reversed(events)}
        for partition, number in counts.items():
            for _ in range(min(number, self.left(partition))):
                events = [*events, self._event(partition, self.next[partition])]
                starts.setdefault(partition, self.next[partition])
                self.next[partition] += 1
        if not events:
            return
        ends = PartitionOffsets({event.partition: event.offset + 1 for event in events})
        self._sink.write(EventBatch(events, ends, starts=starts))
        taken = self._sink.commit(Applied(ends))
        self.unapplied = [] if taken is None else list(taken.unapplied)

    def _event_at(self, partition: Partition, offset: int) -> Event:
        return self._event(partition, offset, Decoder(None))

    def _event(self, partition: Partition, offset: int, decoder: Decoder | None = None) -> Event:
        record = self.logs[partition][offset]
        value = None if record.value is None else json.dumps(record.value).encode()
        key = json.dumps({"id": record.key}).encode()
        return (decoder or self._decoder).event(partition, offset, 0, key, value, record.headers)

    def drain(self, chance: random.Random, most: int) -> None:
        """Read all there is in pieces. Now and then a process stops, and another one goes on."""
        while any(map(self.left, self.next)):
            if chance.random() < STOPS:
                self.close()
                self.start()
            self.step({partition: chance.randint(0, most) for partition in self.next})
        self.step({})


def different(rig: Rig, apply: Apply, seed: int, partitions: int, *, inserts: bool) -> str:
    """Return what is wrong behind random transactions that were read in random pieces; "" where nothing is."""
    chance = random.Random(seed)
    source = Source(chance, inserts=inserts)
    rows = ", ".join(f"({row.key}, '{row.name}')" for row in source.rows)
    rig.sql(f"TRUNCATE seats; INSERT INTO seats VALUES {rows}")
    apply.begin(f"seats{seed}", partitions)
    told = [record for _ in range(chance.randint(2, 8)) for record in source.transaction()]
    apply.send([*told, *source.end(partitions)])
    try:
        apply.drain(chance, chance.choice((1, 1, 2, 4, 20)))
    except ApplyError as error:
        apply.close()
        apply.start()
        return f"seed {seed}: {error}"
    found = rig.sql("SELECT id, name FROM seats ORDER BY 1")
    expected = sorted((row.key, row.name) for row in source.rows)
    if found == expected and not apply.unapplied:
        return ""
    return f"seed {seed}: {found} for {expected}, {len(apply.unapplied)} unapplied"


@pytest.mark.parametrize("inserts", [False, True])
@pytest.mark.parametrize("partitions", [1, 3])
def test_random_transactions_arrive(rig: Rig, partitions: int, inserts: bool) -> None:
    apply = Apply(rig)
    found = [different(rig, apply, seed, partitions, inserts=inserts) for seed in range(SEEDS)]
    apply.close()
    wrong = [one for one in found if one]
    assert not wrong, f"{len(wrong)} of {SEEDS}:\n" + "\n".join(wrong[:5])


def test_where_records_do_not_say_that_a_key_is_deferrable_the_route_does(rig: Rig) -> None:
    apply, source = Apply(rig, deferrable_key=True), Source(random.Random(1), rows=[Row(1, "old")])
    rig.sql("INSERT INTO seats VALUES (1, 'old')")
    apply.begin("seats", 1)
    new = Row(1, "new")
    source.rows.append(new)
    told = [*source.told("c", 1, None, new.image), *source.removed(source.rows[0])]
    apply.send([record._replace(headers=()) for record in told])
    for _ in told:
        apply.step(dict.fromkeys(apply.next, 1))
    apply.step({})
    apply.close()
    assert rig.sql("SELECT id, name FROM seats") == [(1, "new")]


@pytest.mark.parametrize("partitions", [1, 3])
def test_what_is_told_twice_and_last_is_known_by_its_values(rig: Rig, partitions: int) -> None:
    rig.sql("INSERT INTO seats VALUES (1, 'same')")
    apply, source = Apply(rig, wait=0), Source(random.Random(1), rows=[])
    apply.begin("seats", partitions)
    apply.send(source.told("c", 1, None, Row(1, "same").image))
    apply.step(dict.fromkeys(apply.next, 1))
    assert apply.unapplied == []
    apply.send(source.told("c", 1, None, Row(1, "other").image))
    with pytest.raises(ApplyError, match=r"seats\[.\] offset 1 cannot be applied: its row gets a key that another row"):
        apply.step(dict.fromkeys(apply.next, 1))
    apply.close()
    assert rig.sql("SELECT id, name FROM seats") == [(1, "same")]


def test_a_change_of_one_of_two_rows_that_does_not_tell_which_is_refused_by_name(rig: Rig) -> None:
    apply, source = Apply(rig), Source(random.Random(1), rows=[Row(1, "old")])
    rig.sql("INSERT INTO seats VALUES (1, 'old')")
    apply.begin("seats", 1)
    made, changed = source.told("c", 1, None, Row(1, "new").image), source.told("u", 1, None, Row(1, "newer").image)
    apply.send([*made, *changed, *source.removed(source.rows[0])])
    with pytest.raises(
        ApplyError, match=r"offset 0 cannot be applied: within a transaction.* does not tell which of the two"
    ):
        apply.step(dict.fromkeys(apply.next, 4))
    apply.close()
    assert rig.sql("SELECT id, name FROM seats") == [(1, "old")]
