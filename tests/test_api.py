"""pycdc inside another program: iterating over changes, and pipelines with sinks of one's own."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pytest

import pycdc
from pycdc.config import validate
from pycdc.offsets.memory import MemoryOffsetStore
from tests.reading import wait_for
from tests.running import Running

newest = pytest.mark.pg("newest")


class Source:
    """A database with a table of items, and what its slot says."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.execute("CREATE TABLE items (id int PRIMARY KEY, v text)")

    def execute(self, statement: str) -> list[Any]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def insert(self, *transactions: list[int]) -> None:
        """Each list of ids in a transaction of its own."""
        for ids in transactions:
            self.execute("INSERT INTO items (id) VALUES " + ", ".join(f"({number})" for number in ids))

    def capture(self, **options: Any) -> Any:
        return closing(pycdc.capture(self.dsn, ["items"], **options))

    def captured(self, count: int, **options: Any) -> list[int]:
        """The ids of the next changes, at least `count`, all of them acknowledged."""
        deadline = time.monotonic() + 30
        with self.capture(idle=True, **options) as changes:
            found: list[int] = []
            for change in changes:
                assert time.monotonic() < deadline, f"only {found} came in time"
                if change is None and len(found) >= count:
                    break
                if change is not None:
                    found.append(change.after["id"])
                    change.ack()
        return found

    def make_slot(self, **options: Any) -> None:
        assert self.captured(0, **options) == []


@pytest.fixture
def source(database: str) -> Source:
    return Source(database)


# -- capture


def test_changes_have_python_values(source: Source) -> None:
    source.execute("CREATE TYPE mood AS ENUM ('sad', 'ok'); ALTER TABLE items ADD m mood, ADD n numeric, ADD a int[];")
    source.execute("ALTER TABLE items ADD big text; ALTER TABLE items ALTER big SET STORAGE EXTERNAL")
    source.make_slot()
    source.execute(f"INSERT INTO items VALUES (1, 'x', 'ok', 1.50, ARRAY[1, NULL], '{'b' * 9000}')")
    source.execute("UPDATE items SET v = 'y'")
    source.execute("UPDATE items SET id = 2")
    source.execute("DELETE FROM items")
    source.execute("TRUNCATE items")
    source.execute("SELECT pg_logical_emit_message(true, 'audit', 'hello')")
    with source.capture() as found:
        created, updated, moved, deleted, emptied, message = islice(found, 6)
    row = {"id": 1, "v": "x", "m": "ok", "n": Decimal("1.50"), "a": [1, None], "big": "b" * 9000}
    assert (created.op, created.before, created.after) == (pycdc.Op.CREATE, None, row)
    assert updated.after == {**row, "v": "y", "big": pycdc.UNCHANGED}
    assert (moved.before, moved.after["id"]) == ({"id": 1}, 2)
    assert (deleted.op, deleted.before, deleted.after) == (pycdc.Op.DELETE, {"id": 2}, None)
    assert (emptied.op, emptied.before, emptied.after) == (pycdc.Op.TRUNCATE, None, None)
    assert (message.table, message.message.prefix, message.message.content) == (None, "audit", b"hello")
    changes = [created, updated, moved, deleted, emptied, message]
    assert [change.position for change in changes] == sorted({change.position for change in changes})
    assert str(created.table) == "public.items"
    assert abs((datetime.now(UTC) - created.commit_time).total_seconds()) < 600


@newest
def test_a_change_that_was_left_comes_again_and_those_before_do_not(source: Source) -> None:
    source.make_slot()
    source.insert([1], [2], [3, 4], [5])
    for expected in ([1, 2], [2, 3], [3, 4, 5]):
        with source.capture() as changes:
            found = [change.after["id"] for change in islice(changes, len(expected))]
        assert found == expected


@newest
@pytest.mark.parametrize("kept", ["slot", "file", "store"])
def test_what_was_acknowledged_by_hand_does_not_come_again(source: Source, kept: str, tmp_path: Path) -> None:
    store = {"slot": None, "file": tmp_path / "position", "store": MemoryOffsetStore()}[kept]
    source.make_slot(ack="manual", offsets=store)
    source.insert([1, 2], [3], [4, 5], [6])
    with source.capture(ack="manual", offsets=store) as changes:
        found = list(islice(changes, 6))
        found[3].ack()  # the first of its transaction: those before are covered, it is not
    assert [change.after["id"] for change in found] == [1, 2, 3, 4, 5, 6]
    with source.capture(ack="manual", offsets=store) as changes:
        again = list(islice(changes, 3))
    assert [change.after["id"] for change in again] == [4, 5, 6]
    assert [change.position for change in again] == [change.position for change in found[3:]]
    assert source.captured(3, ack="manual", offsets=store) == [4, 5, 6]
    source.insert([7])
    assert source.captured(1, ack="manual", offsets=store) == [7]


@newest
def test_nothing_is_acknowledged_where_nobody_said_so(source: Source) -> None:
    source.make_slot(ack="manual")
    source.insert([1], [2])
    for _ in range(2):
        with source.capture(ack="manual") as changes:
            assert [change.after["id"] for change in islice(changes, 2)] == [1, 2]


@newest
def test_an_idle_iteration_yields_none_and_lets_the_slot_advance(source: Source) -> None:
    source.execute("CREATE TABLE elsewhere (id int)")
    source.make_slot()
    source.execute("INSERT INTO elsewhere SELECT generate_series(1, 1000)")
    (end,) = source.execute("SELECT pg_current_wal_lsn()")[0]
    with source.capture(idle=True) as changes:
        assert next(changes) is None
        wait_for(lambda: next(changes) is None and confirmed(source) >= pycdc.Lsn.parse(end))
        source.insert([1])
        assert next(change for change in changes if change is not None).after["id"] == 1


def confirmed(source: Source) -> pycdc.Lsn:
    ((lsn,),) = source.execute(
        "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE database = current_database()"
    )
    return pycdc.Lsn.parse(lsn)


@newest
@pytest.mark.parametrize("offsets", [True, False])
def test_a_snapshot_comes_first_and_once_where_the_position_is_stored(
    source: Source, offsets: bool, tmp_path: Path
) -> None:
    source.insert([1, 2])
    options = {"snapshot": "initial", "offsets": tmp_path / "position" if offsets else None}
    assert source.captured(2, **options) == [1, 2]
    source.insert([3])
    # Without a stored position the rows are read again, behind the changes that the slot holds.
    assert source.captured(1 if offsets else 4, **options) == ([3] if offsets else [3, 1, 2, 3])


@newest
def test_only_a_snapshot_ends_the_iteration(source: Source) -> None:
    source.insert([1, 2])
    with source.capture(snapshot="only") as changes:
        assert [(change.op, change.after["id"]) for change in changes] == [(pycdc.Op.READ, 1), (pycdc.Op.READ, 2)]


def test_a_lost_connection_is_told_and_capturing_again_goes_on(source: Source) -> None:
    source.make_slot()
    source.insert([1], [2])
    found: list[int] = []
    with source.capture() as changes:
        found += [change.after["id"] for change in islice(changes, 2)]
        source.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database()"
        )
        source.insert([3])
        with pytest.raises(pycdc.ConnectionLost):
            found += [change.after["id"] for change in changes]
    while 3 not in found:
        found += source.captured(1)
    # What the server had not heard to be acknowledged comes again.
    assert list(dict.fromkeys(found)) == [1, 2, 3]


@newest
def test_bad_options_are_configuration_errors(source: Source) -> None:
    for options in ({"no_such_option": 1}, {"snapshot": "sometimes"}, {"name": "a b"}):
        with pytest.raises(pycdc.ConfigError):
            next(pycdc.capture(source.dsn, **options))


# -- pipelines


class Kept:
    """A sink that keeps ids, for all instances of a label."""

    written: ClassVar[dict[str, list[int]]] = {}
    durable: ClassVar[dict[str, list[int]]] = {}
    closed: ClassVar[list[str]] = []

    def __init__(self, label: str) -> None:
        self._label = label
        self._new: list[int] = []

    def write(self, batch: pycdc.Batch) -> None:
        self._new += [change.after["id"] for change in batch if change.after is not None]
        self.written.setdefault(self._label, []).extend(self._new[-batch.size :] if batch.size else [])

    def commit(self, checkpoint: pycdc.Checkpoint) -> None:
        self.durable.setdefault(self._label, []).extend(self._new)
        self._new = []

    def close(self) -> None:
        self.closed.append(self._label)


@pytest.fixture
def label(topic_prefix: str) -> Iterator[str]:
    yield topic_prefix
    Kept.written.pop(topic_prefix, None)
    Kept.durable.pop(topic_prefix, None)


def document(source: Source, label: str, folder: Path, **sections: Any) -> dict[str, Any]:
    return {
        "name": label,
        "source": {"postgres": {"dsn": source.dsn, "tables": ["items"]}},
        "sink": {"custom": {"factory": f"{Kept.__module__}:Kept", "options": {"label": label}}},
        "offsets": {"file": {"path": str(folder / "position")}},
        "http": {"enabled": False},
        **sections,
    }


@newest
def test_a_sink_of_ones_own_gets_everything_once_over_restarts(source: Source, label: str, tmp_path: Path) -> None:
    source.insert([1, 2])
    for number in (3, 4):
        with Running(document(source, label, tmp_path)) as pipeline:
            pipeline.until_streaming()
            source.insert([number])
            pipeline.until(lambda: len(Kept.written.get(label, [])) >= number)  # noqa: B023  (called within the loop)
    assert Kept.durable[label] == Kept.written[label] == [1, 2, 3, 4]
    assert Kept.closed.count(label) == 2


@newest
@pytest.mark.parametrize("given", ["mapping", "config", "file", "text"])
def test_a_pipeline_takes_its_configuration_in_four_forms(
    source: Source, label: str, tmp_path: Path, given: str
) -> None:
    source.insert([1])
    mapping = document(source, label, tmp_path)
    mapping["source"]["postgres"]["snapshot"] = "only"
    path = tmp_path / "pipeline.yaml"
    path.write_text(json.dumps(mapping))
    forms: dict[str, Any] = {"mapping": mapping, "config": validate(mapping), "file": path, "text": json.dumps(mapping)}
    pycdc.Pipeline(forms[given]).run()
    assert Kept.durable[label] == [1]


@newest
def test_stop_from_another_thread_stores_what_was_delivered(source: Source, label: str, tmp_path: Path) -> None:
    pipeline = pycdc.Pipeline(document(source, label, tmp_path, checkpoint={"interval": 3600}))
    source.insert([1])

    def insert_then_stop() -> None:
        wait_for(lambda: pipeline.progress.state == "streaming")
        source.insert([2])
        wait_for(lambda: Kept.written.get(label) == [1, 2])
        pipeline.stop()

    thread = threading.Thread(target=insert_then_stop)
    thread.start()
    pipeline.run()
    thread.join()
    assert Kept.durable[label] == [1, 2]
    assert pipeline.progress.state == "stopped"
    assert pipeline.progress.events == 2
    stored = json.loads((tmp_path / "position").read_text())
    assert str(pipeline.progress.position) in json.dumps(stored)


@newest
def test_an_async_program_runs_a_pipeline_beside_other_things(source: Source, label: str, tmp_path: Path) -> None:
    source.insert([1])

    async def program() -> None:
        pipeline = pycdc.Pipeline(document(source, label, tmp_path))
        running = asyncio.create_task(asyncio.to_thread(pipeline.run))
        while pipeline.progress.events < 1:
            await asyncio.sleep(0.01)
        pipeline.stop()
        await running

    asyncio.run(program())
    assert Kept.durable[label] == [1]


@newest
@pytest.mark.parametrize(
    ("factory", "fact"),
    [
        ("nowhere.at:all", "cannot be imported"),
        ("tests.test_api:NoSuch", "cannot be imported"),
        ("tests.test_api:newest", "without write and commit"),
        ("tests.test_api:__name__", "cannot be called"),
    ],
)
def test_a_factory_that_makes_no_sink_is_a_configuration_error(
    source: Source, label: str, tmp_path: Path, factory: str, fact: str
) -> None:
    custom = {"custom": {"factory": factory, "options": {"func": print} if "newest" in factory else {}}}
    with Running(document(source, label, tmp_path, sink=custom)) as pipeline:
        error = pipeline.failure()
    assert isinstance(error, pycdc.ConfigError)
    assert fact in error.fact
