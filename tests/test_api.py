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
from pycdc.testing import MemoryConnector, MemorySink
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
        deadline = time.monotonic() + 180
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


# -- objects in the place of servers


def in_memory(**options: Any) -> tuple[MemoryConnector, MemorySink, pycdc.Pipeline]:
    source = MemoryConnector.of_rows("public.items", [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}])
    sink = MemorySink(**options)
    return source, sink, pycdc.Pipeline({"name": "shop"}, source=source, sink=sink)


def test_a_pipeline_runs_from_a_source_into_a_sink_of_the_programs_own() -> None:
    source, sink, pipeline = in_memory()
    pipeline.run()
    assert [change.after for change in sink.durable] == [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}]
    assert source.acknowledged[-1] == sink.checkpoints[-1].position == pycdc.Position(pycdc.Lsn(200))


def test_a_sink_of_the_programs_own_is_used_again_after_a_fault_and_closed_at_the_end() -> None:
    class Closing(MemorySink):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    sink = Closing(faults={"commit": [pycdc.DeliveryError("the disk is full")]})
    document = {"name": "shop", "retries": {"first_delay": 0.01}, "checkpoint": {"changes": 1}}
    source = MemoryConnector.of_rows("public.items", [{"id": 1}, {"id": 2}])
    pycdc.Pipeline(document, source=source, sink=sink).run()
    assert [(change.after or {})["id"] for change in sink.durable] == [1, 1, 2]
    assert sink.closed == 1


def test_offsets_of_the_programs_own_say_where_it_goes_on() -> None:
    source, _, _ = in_memory()
    kept = MemoryOffsetStore()
    kept.store(pycdc.Checkpoint(pycdc.Position(pycdc.Lsn(100))))
    sink = MemorySink()
    pycdc.Pipeline({"name": "shop"}, source=source, sink=sink, offsets=kept).run()
    assert [(change.after or {})["id"] for change in sink.durable] == [2]


@newest
def test_rules_and_transforms_of_the_configuration_apply_before_a_sink_of_the_programs_own(
    source: Source, tmp_path: Path
) -> None:
    source.execute("INSERT INTO items VALUES (1, 'secret')")
    captured = {"postgres": {"dsn": source.dsn, "tables": ["items"], "snapshot": "only"}}
    rules = [{"tables": "public.items", "mask": {"v": 3}}]
    sink = MemorySink()
    pycdc.Pipeline({"name": "own", "source": captured, "rules": rules}, sink=sink).run()
    assert [change.after for change in sink.durable] == [{"id": 1, "v": "***"}]


def test_a_pipeline_connects_to_nothing_before_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        raise AssertionError("a client was made")

    for client in ("clients.kafka_topics.AdminClient", "offsets.kafka.Producer", "offsets.kafka.Consumer"):
        monkeypatch.setattr(f"pycdc.{client}", refuse)
    monkeypatch.setattr("psycopg.Connection.connect", refuse)
    kafka = {"brokers": "nowhere:9092", "format": "json"}
    document = {"name": "shop", "source": {"postgres": {"dsn": "host=nowhere"}}, "sink": {"kafka": kafka}}
    pipeline = pycdc.Pipeline(document)
    with pytest.raises(AssertionError, match="a client was made"):
        pipeline.run()


def test_as_a_context_manager_a_pipeline_is_stopped_and_waited_for() -> None:
    source = MemoryConnector.of_rows("public.items", [{"id": 1}], idle=True)
    sink = MemorySink()
    with pycdc.Pipeline({"name": "shop"}, source=source, sink=sink) as pipeline:
        thread = threading.Thread(target=pipeline.run)
        thread.start()
        wait_for(lambda: sink.written)
    assert [(change.after or {})["id"] for change in sink.durable] == [1]
    assert pipeline.progress.state == "stopped"
    thread.join()


def test_a_pipeline_that_was_stopped_before_it_ran_delivers_nothing() -> None:
    _, sink, pipeline = in_memory()
    pipeline.stop()
    pipeline.run()
    assert sink.written == []


def test_a_pipeline_from_kafka_takes_no_objects() -> None:
    document = {
        "name": "back",
        "source": {"kafka": {"brokers": "b:1", "topics": ["t"]}},
        "sink": {"postgres": {"dsn": "x", "routes": [{"topic": "t", "table": "t"}]}},
    }
    with pytest.raises(pycdc.ConfigError, match="source and sink belong together"):
        pycdc.Pipeline(document, sink=MemorySink())


def test_a_source_of_the_programs_own_has_no_server_to_ask() -> None:
    _, _, pipeline = in_memory()
    for ask in (pipeline.status, pipeline.lag, pipeline.doctor, lambda: pipeline.snapshot("items")):
        with pytest.raises(pycdc.ConfigError, match="there is no server to ask"):
            ask()


# -- what the servers tell


@newest
def test_status_lag_and_doctor_of_a_capture_are_data(source: Source, label: str, tmp_path: Path) -> None:
    pipeline = pycdc.Pipeline(document(source, label, tmp_path))
    before = {finding.title: finding for finding in pipeline.doctor()}
    assert all(finding.status is not pycdc.FindingStatus.FAILED for finding in before.values())
    assert {finding.group for finding in before.values()} >= {"postgres", "tables", "publication", "position"}
    asked = pipeline.status()
    assert isinstance(asked, pycdc.CaptureState)
    assert asked.slot is None
    with Running(document(source, label, tmp_path)) as running:
        running.until_streaming()
        asked = pipeline.status()
        assert isinstance(asked, pycdc.CaptureState)
        assert asked.slot is not None
        assert asked.slot.active_pid is not None
        assert asked.problem is None
        measured = pipeline.lag(0.5)
    assert (measured.running, measured.unit) == (True, "bytes")
