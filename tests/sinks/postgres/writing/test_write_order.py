"""Whatever a source's transactions did under its own constraints, the target's rows are the source's."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from tests.sinks.postgres.random_source import RandomSource
from tests.sinks.postgres.rig import Rig

pytestmark = pytest.mark.pg("newest")


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    rig = Rig(database)
    yield rig
    rig.close()


ACTIONS = {
    "cascade": "ON DELETE CASCADE",
    "set null": "ON DELETE SET NULL",
    "set default": "ON DELETE SET DEFAULT",
    "restrict": "ON DELETE RESTRICT",
    "no action": "",
    "deferred": "DEFERRABLE INITIALLY DEFERRED",
    "deferrable cascade": "ON DELETE CASCADE DEFERRABLE",
    "keys that change": "ON DELETE CASCADE ON UPDATE CASCADE",
}


def shop(action: str) -> dict[str, str]:
    return {
        "orders": "CREATE TABLE orders (id int PRIMARY KEY, code text UNIQUE, n int DEFAULT 7)",
        "lines": f"CREATE TABLE lines (id int PRIMARY KEY, order_id int DEFAULT 0 REFERENCES orders {action}, n int)",
        "parts": f"CREATE TABLE parts (id int PRIMARY KEY, line_id int REFERENCES lines {action}, n int)",
    }


def a_purchase(random: Random) -> list[str]:
    """What applications do: rows that come, change, go, are saved as a whole, exchange values, get another parent."""
    order, line, part, other, n = (random.randint(0, 5) for _ in range(5))
    return random.choice(
        [
            [f"INSERT INTO orders VALUES ({order}, 'c{n}', {n})"],
            [f"INSERT INTO orders (id) VALUES ({order})"],
            [f"INSERT INTO lines VALUES ({line}, {order}, {n})", f"INSERT INTO parts VALUES ({part}, {line}, {n})"],
            [f"UPDATE orders SET n = {n}, code = 'c{other}' WHERE id = {order}"],
            [f"UPDATE lines SET order_id = {order} WHERE id = {line}"],
            [f"UPDATE parts SET line_id = {line} WHERE id = {part}"],
            [f"DELETE FROM orders WHERE id = {order}"],
            [f"DELETE FROM parts WHERE id = {part}", f"DELETE FROM lines WHERE id = {line}"],
            [
                f"DELETE FROM orders WHERE id = {order}",
                f"INSERT INTO orders VALUES ({order}, 'c{n}', {n})",
                f"INSERT INTO lines VALUES ({line}, {order}, {n}) "
                f"ON CONFLICT (id) DO UPDATE SET order_id = excluded.order_id",
            ],
            [
                f"DELETE FROM lines WHERE order_id = {order}",
                f"DELETE FROM orders WHERE id = {order}",
                f"INSERT INTO orders VALUES ({order}, 'c{n}', {n})",
                f"INSERT INTO lines VALUES ({line}, {order}, {n})",
            ],
            [f"UPDATE orders SET id = {other} WHERE id = {order}"],
            [
                f"UPDATE lines SET order_id = {other} WHERE order_id = {order}",
                f"DELETE FROM orders WHERE id = {order}",
            ],
        ]
    )


@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
@pytest.mark.parametrize("torn", [False, True], ids=["whole", "torn"])
@pytest.mark.parametrize("action", ACTIONS)
def test_random_transactions_end_in_the_same_rows_whatever_their_foreign_keys_do(
    rig: Rig, action: str, torn: bool, told: bool
) -> None:
    random = Random(f"{action} {torn} {told}")
    tables = shop(ACTIONS[action])
    source = RandomSource(rig, random, tables, told=told)
    process = rig.process(*({"topic": name, "table": name} for name in tables))
    for _ in range(10 if torn else 20):
        for _ in range(random.randint(1, 4)):
            source.transaction([s for _ in range(random.randint(1, 4)) for s in a_purchase(random)])
        source.feed(process, torn=torn)
        assert source.differences() == {}
    source.close()


def a_move(random: Random) -> list[str]:
    """Within a tree whose rows name each other."""
    node, other, n = (random.randint(0, 7) for _ in range(3))
    return random.choice(
        [
            [f"INSERT INTO nodes VALUES ({node}, {other}, {n})"],
            [f"INSERT INTO nodes VALUES ({node}, NULL, {n})"],
            [f"UPDATE nodes SET parent = {other} WHERE id = {node}"],
            [f"DELETE FROM nodes WHERE id = {node}"],
            [f"DELETE FROM nodes WHERE id = {node}", f"INSERT INTO nodes VALUES ({node}, NULL, {n})"],
            [f"UPDATE nodes SET id = {other} WHERE id = {node}"],
        ]
    )


@pytest.mark.parametrize("torn", [False, True], ids=["whole", "torn"])
@pytest.mark.parametrize("action", ACTIONS)
def test_random_transactions_in_a_table_whose_rows_name_each_other(rig: Rig, action: str, torn: bool) -> None:
    random = Random(f"{action} {torn}")
    ddl = f"CREATE TABLE nodes (id int PRIMARY KEY, parent int DEFAULT 0 REFERENCES nodes {ACTIONS[action]}, n int)"
    source = RandomSource(rig, random, {"nodes": ddl})
    process = rig.process({"topic": "nodes", "table": "nodes"})
    for _ in range(15):
        source.transaction([s for _ in range(random.randint(1, 6)) for s in a_move(random)])
        source.feed(process, torn=torn)
        assert source.differences() == {}
    source.close()
