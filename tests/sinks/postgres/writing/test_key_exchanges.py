"""Rows that exchange their keys in one transaction arrive, with all that only the target knows of them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pycdc.errors import ApplyError
from pycdc.model.event import Event, Partition
from pycdc.sinks.postgres.failures.failure_policy import Routed
from pycdc.sinks.postgres.writing import free_keys
from pycdc.sinks.postgres.writing.key_exchanges import apart
from tests.sinks.postgres.rig import Process, Rig
from tests.sinks.postgres.routing.test_key_changes import BIG, header
from tests.sinks.postgres.writing.test_writes import moved, write

pytestmark = pytest.mark.pg("newest")


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    rig = Rig(database)
    rig.sql(
        "CREATE TABLE docs (id int PRIMARY KEY, name text, body text, own text);"
        "CREATE TABLE notes (id int PRIMARY KEY, doc int REFERENCES docs ON UPDATE CASCADE)"
    )
    yield rig
    rig.close()


def process(rig: Rig, **route: Any) -> Process:
    return rig.process({"topic": "docs", "table": "docs", "set": {"name": "name", "body": "body"}, **route})


def move(old: Any, new: Any, name: str, body: str = "__debezium_unavailable_value", tx: int | None = 9) -> list[Any]:
    to, of = header("new", {"id": new}), header("old", {"id": old})
    source = {"ts_ms": 1, **({} if tx is None else {"txId": tx})}
    deleted = {"op": "d", "before": {"id": old, "name": None, "body": None}, "after": None, "source": source}
    created = {"op": "c", "before": None, "after": {"id": new, "name": name, "body": body}, "source": source}
    return [
        ("docs", {"id": old}, deleted, (to, ("__pycdc.before", b"id"))),
        ("docs", {"id": old}, None, (to,)),
        ("docs", {"id": new}, created, (of,)),
    ]


def begin(sink: Process, rig: Rig, *keys: Any) -> None:
    sink.feed(*(("docs", {"id": key}, {"id": key, "name": f"n{key}", "body": f"{BIG}{key}"}) for key in keys))
    rig.sql("UPDATE docs SET own = 'own of ' || name")


def rows(rig: Rig, table: str = "docs") -> list[Any]:
    return rig.sql(f"SELECT id, name, right(body, 1), right(own, 1) FROM {table} ORDER BY id")


MOVES: dict[str, tuple[list[tuple[int, int, int]], dict[int, int]]] = {
    "two exchange": ([(1, 2, 1), (2, 1, 2)], {2: 1, 1: 2}),
    "a circle of three": ([(1, 2, 1), (2, 3, 2), (3, 1, 3)], {2: 1, 3: 2, 1: 3}),
    "all move on": ([(1, 2, 1), (2, 3, 2), (3, 4, 3)], {2: 1, 3: 2, 4: 3}),
    "all move on, the last one first": ([(3, 4, 3), (2, 3, 2), (1, 2, 1)], {2: 1, 3: 2, 4: 3}),
    "by a third key": ([(1, -1, 1), (2, 1, 2), (-1, 2, 1)], {1: 2, 2: 1, 3: 3}),
    "there and back": ([(1, 9, 1), (9, 1, 1)], {1: 1, 2: 2, 3: 3}),
    "on and on": ([(1, 8, 1), (8, 9, 1)], {9: 1, 2: 2, 3: 3}),
}


@pytest.mark.parametrize("kind", MOVES)
@pytest.mark.parametrize("tx", [9, None])
def test_rows_are_where_their_moves_led_with_values_that_were_not_sent(rig: Rig, kind: str, tx: int | None) -> None:
    moves, ends = MOVES[kind]
    sink = process(rig)
    begin(sink, rig, 1, 2, 3)
    rig.sql("INSERT INTO notes VALUES (1, 1), (2, 2), (3, 3)")
    assert sink.feed(*itertools.chain(*(move(old, new, f"m{name}", tx=tx) for old, new, name in moves))) is None
    moved = {name for _, _, name in moves}
    ends = {**{key: key for key in (1, 2, 3) if key not in moved}, **ends}
    expected = [(key, f"{'m' if name in moved else 'n'}{name}", f"{name}", f"{name}") for key, name in ends.items()]
    assert rows(rig) == sorted(expected)
    assert sorted(rig.sql("SELECT id, doc FROM notes")) == sorted((name, key) for key, name in ends.items())


def test_a_key_in_between_that_somebody_has_is_not_taken(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a smallint there are few: neither a row of the target nor another one that stands aside is overwritten."""
    monkeypatch.setattr(free_keys, "randbelow", _answers(5, 7, 7, 5, 8))
    sink = process(rig)
    begin(sink, rig, 1, 2, 3, 4)
    rig.sql(f"INSERT INTO docs VALUES ({-(2**31) + 5}, 'n0', 'b0', 'of 0')")
    sink.feed(*itertools.chain(*(move(old, new, f"m{old}") for old, new in ((1, 3), (2, 4), (3, 1), (4, 2)))))
    assert [(key, name) for key, name, _, _ in rows(rig)] == [
        (-(2**31) + 5, "n0"),
        (1, "m3"),
        (2, "m4"),
        (3, "m1"),
        (4, "m2"),
    ]


def test_where_all_keys_in_between_are_taken_the_event_is_a_problem(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_keys, "randbelow", lambda most: 5)
    sink = process(rig)
    begin(sink, rig, 1, 2)
    rig.sql(f"INSERT INTO docs VALUES ({-(2**31) + 5}, 'n0', 'b0', 'of 0')")
    with pytest.raises(ApplyError, match="exchange their keys within a transaction"):
        sink.feed(*move(1, 2, "m1"), *move(2, 1, "m2"))
    assert [name for _, name, _, _ in rows(rig)] == ["n0", "n1", "n2"]


def _answers(*numbers: int) -> Callable[[int], int]:
    left = iter(numbers)
    return lambda most: next(left)


def trickle(sink: Process, rig: Rig, records: list[Any]) -> list[Any]:
    """Feed batches of one record, with what was not taken before them, as the source does. Returns what waits still."""
    waiting: list[Any] = []
    for record in records:
        waiting.append(record)
        begin = rig.ends["docs"]
        sink.feed(*waiting)
        waiting = waiting[rig.ends["docs"] - begin :]
    return waiting


@pytest.mark.parametrize("kind", MOVES)
@pytest.mark.parametrize("tx", [9, None])
def test_rows_are_where_their_moves_led_though_each_record_is_a_batch(rig: Rig, kind: str, tx: int | None) -> None:
    moves, ends = MOVES[kind]
    sink = process(rig)
    begin(sink, rig, 1, 2, 3)
    assert (
        trickle(sink, rig, [*itertools.chain(*(move(old, new, f"m{name}", tx=tx) for old, new, name in moves))]) == []
    )
    moved = {name for _, _, name in moves}
    ends = {**{key: key for key in (1, 2, 3) if key not in moved}, **ends}
    expected = [(key, f"{'m' if name in moved else 'n'}{name}", f"{name}", f"{name}") for key, name in ends.items()]
    assert rows(rig) == sorted(expected)


EXCHANGE = [*move(1, 2, "m1"), *move(2, 1, "m2")]
BEGUN = 3
"""Records of an exchange behind which its other half is missing."""


def test_half_of_an_exchange_waits_whatever_else_comes_of_its_transaction(rig: Rig) -> None:
    sink = process(rig)
    begin(sink, rig, 1, 2, 3)
    other = {"op": "u", "after": {"id": 3, "name": "m3", "body": "3"}, "source": {"txId": 9}}
    begun = [*EXCHANGE[:BEGUN], ("docs", {"id": 3}, other)]
    taken = sink.feed(*begun)
    assert taken is not None
    assert len(taken.unapplied) == len(begun)
    assert [row[1] for row in rows(rig)] == ["n1", "n2", "n3"]
    assert sink.feed(*begun, *EXCHANGE[BEGUN:]) is None
    assert rows(rig) == [(1, "m2", "2", "2"), (2, "m1", "1", "1"), (3, "m3", "3", "3")]


def test_a_row_whose_key_is_taken_waits_no_longer_than_its_transaction_lasts(rig: Rig) -> None:
    """Then the row that has the key is somebody else's, who is overwritten as ever."""
    sink = process(rig)
    begin(sink, rig, 1, 2)
    following = {"op": "c", "after": {"id": 5, "name": "n5", "body": "5"}, "source": {"txId": 10}}
    assert sink.feed(*EXCHANGE[:BEGUN], ("docs", {"id": 5}, following)) is None
    assert [row[:2] for row in rows(rig)] == [(2, "m1"), (5, "n5")]


def test_a_change_of_a_key_that_is_told_twice_waits_for_the_next_transaction(rig: Rig) -> None:
    """The old key was given to a new row since."""
    sink = process(rig)
    begin(sink, rig, 1)
    made = {"op": "c", "after": {"id": 1, "name": "new", "body": "0"}, "source": {"txId": 10}}
    records = [*move(1, 2, "m1", "1"), ("docs", {"id": 1}, made)]
    for _ in range(2):
        assert trickle(sink, rig, records) == []
        assert [row[:3] for row in rows(rig)] == [(1, "new", "0"), (2, "m1", "1")]


def test_half_of_an_exchange_that_nothing_follows_is_refused_by_name(rig: Rig) -> None:
    sink = process(rig)
    begin(sink, rig, 1, 2)
    refusing = rig.process(
        {"topic": "docs", "table": "docs", "set": {"name": "name", "body": "body"}}, wait_for_parents=0
    )
    with pytest.raises(ApplyError, match=r"docs\[0\] offset 2 cannot be applied: its row gets a key that another row"):
        refusing.feed(*EXCHANGE[:BEGUN])
    assert [row[:2] for row in rows(rig)] == [(1, "n1"), (2, "n2")]


def test_a_row_that_gets_other_keys_many_times_in_a_batch_arrives(rig: Rig) -> None:
    sink = process(rig)
    begin(sink, rig, 1, 2)
    records = itertools.chain(*(move(key, key + 1, "m1") for key in range(10, 60)))
    assert sink.feed(*move(1, 10, "m1"), *records) is None
    assert rows(rig) == [(2, "n2", "2", "2"), (60, "m1", "1", "1")]


@pytest.mark.parametrize("sizes", [(1, 1, 2, 5, 20), (1000,)])
@pytest.mark.parametrize("seed", range(12))
def test_rows_arrive_whatever_keys_they_exchange_and_wherever_batches_end(rig: Rig, seed: int, sizes: Any) -> None:
    chance = random.Random(seed)
    sink = process(rig)
    keys = range(1, 7)
    begin(sink, rig, *keys)
    there = {key: str(key) for key in keys}
    records = []
    for tx in range(1, 6):
        for _ in range(chance.randint(1, 2)):
            moving = chance.sample(sorted(there), chance.randint(1, len(there)))
            goals = chance.sample([*moving, *(key for key in range(1, 10) if key not in there)], len(moving))
            goes = {old: new for old, new in zip(moving, goals, strict=True) if old != new}
            for old, new in goes.items():
                records += move(old, new, f"m{there[old]}", there[old], tx=tx)
            there = {goes.get(key, key): name for key, name in there.items()}
    waiting: list[Any] = []
    while records:
        count = chance.choice(sizes)
        waiting, records = [*waiting, *records[:count]], records[count:]
        start = rig.ends["docs"]
        sink.feed(*waiting)
        waiting = waiting[rig.ends["docs"] - start :]
    assert waiting == []
    assert [(key, body, own) for key, _, body, own in rows(rig)] == [
        (k, name, name) for k, name in sorted(there.items())
    ]


def test_moves_of_several_transactions_come_one_after_another(rig: Rig) -> None:
    sink = process(rig)
    begin(sink, rig, 1, 2)
    sink.feed(*move(1, 3, "a", tx=1), *move(2, 1, "b", tx=2), *move(3, 2, "c", tx=3))
    assert rows(rig) == [(1, "b", "2", "2"), (2, "c", "1", "1")]


def test_a_new_row_may_take_the_key_of_one_that_goes(rig: Rig) -> None:
    sink = process(rig)
    begin(sink, rig, 1)
    made = {"op": "c", "after": {"id": 1, "name": "new", "body": "0"}, "source": {"txId": 9}}
    sink.feed(("docs", {"id": 1}, made), *move(1, 2, "old"))
    assert rows(rig) == [(1, "new", "0", None), (2, "old", "1", "1")]


@pytest.mark.parametrize("kind", [kind for kind in MOVES if kind != "there and back"])
def test_where_nothing_is_moved_whole_rows_arrive_and_others_are_refused(rig: Rig, kind: str) -> None:
    moves, ends = MOVES[kind]
    sink = process(rig)
    begin(sink, rig, 1, 2, 3)
    sink.apply_offsets.claim([Partition("docs", 1)], lambda partition: 0)
    with pytest.raises(ApplyError, match="not there"):
        sink.feed(*itertools.chain(*(move(old, new, f"m{name}") for old, new, name in moves)))
    sink = process(rig)
    rig.sql("DELETE FROM docs")
    begin(sink, rig, 1, 2, 3)
    sink.feed(*itertools.chain(*(move(old, new, f"m{name}", f"{name}") for old, new, name in moves)))
    moved = {name for _, _, name in moves}
    ends = {**{key: key for key in (1, 2, 3) if key not in moved}, **ends}
    assert [(key, body) for key, _, body, _ in rows(rig)] == sorted((key, str(name)) for key, name in ends.items())


def test_a_key_that_is_not_the_message_key_is_exchanged_too(rig: Rig) -> None:
    rig.sql("CREATE TABLE codes (code text PRIMARY KEY, name text, own text)")
    sink = process(rig, table="codes", key={"code": "code"}, set={"name": "name"})
    old = {key: {"id": key, "code": code, "name": f"n{key}"} for key, code in ((1, "a"), (2, "b"))}
    sink.feed(*(("docs", {"id": key}, {"op": "c", "after": row, "source": {"txId": 1}}) for key, row in old.items()))
    rig.sql("UPDATE codes SET own = name")
    new = {1: {**old[1], "code": "b"}, 2: {**old[2], "code": "a"}}
    sink.feed(
        *(
            ("docs", {"id": key}, {"op": "u", "before": old[key], "after": new[key], "source": {"txId": 2}})
            for key in (1, 2)
        )
    )
    assert rig.sql("SELECT * FROM codes ORDER BY code") == [("a", "n2", "n2"), ("b", "n1", "n1")]


KEYS = {
    "smallint": ("smallint", 1, 2),
    "bigint": ("bigint", 1, 2),
    "numeric": ("numeric(4,1)", "1.5", "2.5"),
    "text": ("text", "a", "b"),
    "varchar": ("varchar(8)", "a", "b"),
    "uuid": ("uuid", "6f9619ff-8b86-d011-b42d-00c04fc964f1", "6f9619ff-8b86-d011-b42d-00c04fc964f2"),
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_in_between_is_made_for_many_types(rig: Rig, kind: str) -> None:
    declared, first, second = KEYS[kind]
    rig.sql(f"CREATE TABLE typed (id {declared} PRIMARY KEY, name text, body text, own text)")
    sink = process(rig, table="typed")
    sink.feed(*(("docs", {"id": key}, {"id": key, "name": f"{key}", "body": "x"}) for key in (first, second)))
    sink.feed(*move(first, second, "1"), *move(second, first, "2"))
    assert rig.sql("SELECT id::text, name FROM typed ORDER BY 1") == [(str(first), "2"), (str(second), "1")]


def test_where_there_is_none_the_exchange_is_refused_by_name(rig: Rig) -> None:
    rig.sql("CREATE TABLE days (id date PRIMARY KEY, name text, body text, own text)")
    sink = process(rig, table="days")
    days = "2026-01-01", "2026-01-02"
    sink.feed(*(("docs", {"id": key}, {"id": key, "name": key, "body": "x"}) for key in days))
    with pytest.raises(ApplyError, match="exchange their keys"):
        sink.feed(*move(days[0], days[1], "1"), *move(days[1], days[0], "2"))
    assert rig.sql("SELECT id::text, name FROM days ORDER BY 1") == [(day, day) for day in days]


@pytest.mark.parametrize("tx", [9, None])
def test_where_there_is_none_a_row_that_moves_on_and_on_arrives(rig: Rig, tx: int | None) -> None:
    """A key that no row has is taken from nobody, whatever was written under it before."""
    rig.sql("CREATE TABLE days (id date PRIMARY KEY, name text, body text, own text)")
    sink = process(rig, table="days")
    first, second, third = "2026-01-01", "2026-01-02", "2026-01-03"
    begin = {"id": first, "name": "1", "body": "x"}
    sink.feed(("docs", {"id": first}, begin), *move(first, second, "1", tx=tx), *move(second, third, "1", tx=tx))
    assert rig.sql("SELECT id::text, name FROM days") == [(third, "1")]
    source = {} if tx is None else {"txId": tx}
    sink.feed(
        ("docs", {"id": third}, {"op": "d", "before": begin, "after": None, "source": source}),
        ("docs", {"id": third}, None),
        (
            "docs",
            {"id": third},
            {"op": "c", "before": None, "after": {**begin, "id": third, "name": "2"}, "source": source},
        ),
        *move(third, first, "2", tx=tx),
    )
    assert rig.sql("SELECT id::text, name FROM days") == [(first, "2")]


@pytest.mark.parametrize("cut", range(1, 9))
def test_rows_that_exchange_keys_by_a_third_one_arrive_wherever_a_batch_ends(rig: Rig, cut: int) -> None:
    """The row that came under the third key in the batch before is the one that goes on from there."""
    rig.sql("CREATE TABLE named (id int UNIQUE NOT NULL, name text PRIMARY KEY, body text, own text)")
    sink = process(rig, table="named", key={"id": "id"})
    sink.feed(*(("docs", {"id": key}, {"id": key, "name": f"{key}", "body": "x"}) for key in (1, 2)))
    records = [*move(1, -1, "1", "x"), *move(2, 1, "2", "x"), *move(-1, 2, "1", "x")]
    sink.feed(*records[:cut])
    sink.feed(*records[cut:])
    assert rig.sql("SELECT id, name FROM named ORDER BY id") == [(1, "2"), (2, "1")]


def test_another_spelling_of_a_key_is_taken_from_nobody(rig: Rig) -> None:
    rig.sql("CREATE TABLE spelled (id numeric PRIMARY KEY, name text, body text)")
    sink = process(rig, table="spelled")
    sink.feed(("docs", {"id": "1"}, {"id": "1", "name": "a", "body": "x"}))
    sink.feed(*move("1", "1.0", "a", "x"), *move("1.0", "1.00", "a", "x"), *move("1.00", "2", "a", "x"))
    assert rig.sql("SELECT id::text, name FROM spelled") == [("2", "a")]


def test_a_key_that_is_left_in_a_later_transaction_is_exchanged_with_nobody(rig: Rig) -> None:
    """The tombstone behind the delete, which tells no transaction, does not change that."""
    sink = process(rig)
    begin(sink, rig, 1)
    sink.feed(*move(1, 5, "n1", tx=7), *move(5, 6, "n1", tx=8))
    assert rows(rig) == [(6, "n1", "1", "1")]


@pytest.mark.parametrize(("first", "second"), [("1", "01"), ("nan", "sNaN"), ("a", "A")])
def test_texts_that_are_nearly_equal_are_two_keys(rig: Rig, first: str, second: str) -> None:
    rig.sql("CREATE TABLE called (id text PRIMARY KEY, name text, body text)")
    sink = process(rig, table="called")
    sink.feed(*(("docs", {"id": key}, {"id": key, "name": key, "body": "x"}) for key in (first, second)))
    sink.feed(*move(first, second, first, "x"), *move(second, first, second, "x"))
    assert set(rig.sql("SELECT id, name FROM called")) == {(first, second), (second, first)}


def test_rows_exchange_their_keys_where_null_values_are_all_that_is_sent_of_deletes(rig: Rig) -> None:
    """As flattened records may be; a null value behind no delete is the delete itself."""
    sink = process(rig)
    begin(sink, rig, 1, 2)
    moves = [
        [record for record in move(old, new, f"n{old}", "x") if record[2] is None or record[2]["op"] == "c"]
        for old, new in ((1, 2), (2, 1))
    ]
    sink.feed(*(record for own in moves for record in own))
    assert [row[:2] for row in rows(rig)] == [(1, "n2"), (2, "n1")]


PLACE_OF_ITEMS = Partition("items", 0)


def test_a_row_that_is_updated_and_then_gets_another_key_takes_nobodys(database: str) -> None:
    """The old row of an update is there with REPLICA IDENTITY FULL, whether the key changed or not."""
    update = Event(PLACE_OF_ITEMS, 1, 0, row={"id": 1}, before={"id": 1}, envelope={"op": "u"})
    leaving = Event(PLACE_OF_ITEMS, 2, 0, deleted=True, before={"id": 1}, other_key={"id": 2}, envelope={"op": "d"})
    arriving = Event(PLACE_OF_ITEMS, 3, 0, row={"id": 2}, other_key={"id": 1}, envelope={"op": "c"})
    told = [write("upsert", assigned={"name": "a"})], moved(1, 2)[:2], [moved(1, 2)[0], write("upsert", key=2)]
    events = [Routed(event, writes) for event, writes in zip((update, leaving, arriving), told, strict=True)]
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE items (id int PRIMARY KEY, name text)")
        assert [routed.writes for routed in apart(connection, events)] == list(told)
