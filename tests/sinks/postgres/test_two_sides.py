"""Two databases that both write and follow each other end with the same rows, whatever the order."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.sinks.postgres.rig import Process, Rig

ROWS = 5


class Side:
    """A database, its applications, and the pipeline that brings the other side's events."""

    def __init__(self, dsn: str, rule: dict[str, Any]) -> None:
        self.rig = Rig(dsn)
        self.rig.sql(
            "CREATE TABLE items (id int PRIMARY KEY, name text, changed timestamptz, quantity int NOT NULL DEFAULT 0)"
        )
        self.pipeline: Process = self.rig.process({"topic": "items", "table": "items", "conflict": rule})
        self.inbox: deque[Any] = deque()

    def close(self) -> None:
        self.rig.close()

    def write(self, key: int, name: str, change: int) -> Any:
        """An application's transaction; what a capture with REPLICA IDENTITY FULL makes of it."""
        connection = self.rig.connection
        with connection.transaction():
            before = self._row(key)
            connection.execute(
                "INSERT INTO items VALUES (%s, %s, clock_timestamp(), %s) ON CONFLICT (id) DO UPDATE "
                "SET name = excluded.name, changed = excluded.changed, quantity = items.quantity + excluded.quantity",
                (key, name, change),
            )
            after = self._row(key)
        committed = "floor(extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000)::bigint"
        ((time,),) = self.rig.sql(f"SELECT {committed} FROM items WHERE id = {key}")
        op = "u" if before else "c"
        return key, {"op": op, "before": before, "after": after, "source": {"ts_ms": time}}

    def _row(self, key: int) -> dict[str, Any] | None:
        row = self.rig.connection.execute("SELECT to_jsonb(i) FROM items i WHERE id = %s", (key,)).fetchone()
        return None if row is None else dict(row[0])

    def receive(self, count: int) -> None:
        events = [self.inbox.popleft() for _ in range(min(count, len(self.inbox)))]
        if events:
            self.pipeline.apply(*events)

    def rows(self) -> list[Any]:
        return self.rig.sql("SELECT * FROM items ORDER BY id")

    def follow(self, other: Side, chance: random.Random) -> dict[int, int]:
        """Both write and receive, in a random order, until nothing is on its way; what was added to each row."""
        total = dict.fromkeys(range(ROWS), 0)
        for key in range(ROWS):
            other.inbox.append(self.write(key, "new", 0))
        other.receive(ROWS)
        for number in range(150):
            here, there = chance.sample([self, other], 2)
            if chance.random() < 0.6:
                key, change = chance.randrange(ROWS), chance.randint(-9, 9)
                there.inbox.append(here.write(key, f"n{number}", change))
                total[key] += change
            else:
                here.receive(chance.randint(1, 6))
        for side in (self, other):
            side.receive(10**6)
        return total


@pytest.fixture
def made(database: str, postgres: Any) -> Iterator[Callable[..., list[Side]]]:
    """Two sides with a rule."""
    other, sides = postgres.create_database(), list[Side]()

    def make(**rule: Any) -> list[Side]:
        for dsn, tie in ((database, "incoming"), (other, "existing")):
            sides.append(Side(dsn, {"default": "last_write_wins", "tie": tie, **rule}))
        return sides

    yield make
    for side in sides:
        side.close()
    postgres.drop_database(other)


@pytest.mark.pg("!=17")
@pytest.mark.parametrize("seed", range(3))
def test_both_sides_end_with_the_row_that_was_written_last(made: Callable[..., list[Side]], seed: int) -> None:
    a, b = made()
    a.follow(b, random.Random(seed))
    assert a.rows() == b.rows()
    for side in (a, b):
        assert side.rig.sql("SELECT * FROM pycdc.conflicts"), "nothing met, so nothing was tried"


@pytest.mark.pg("!=17")
@pytest.mark.parametrize("seed", range(3))
def test_no_change_of_a_counter_is_lost_or_counted_twice(made: Callable[..., list[Side]], seed: int) -> None:
    a, b = made(row_time="changed", event_time="changed", columns={"quantity": "delta"})
    total = a.follow(b, random.Random(seed))
    assert a.rows() == b.rows()
    assert [row[-1] for row in a.rows()] == list(total.values())
