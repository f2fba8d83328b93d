"""Verifications under writers: no false alarm, and every planted fault found and named.

200 verifications in `make test`, 10,000 in `make chaos-verify` (PYCDC_CHAOS_VERIFICATIONS).
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pycdc.errors import PycdcError
from pycdc.model.origin import mark
from pycdc.operations.verify.result import Verification
from tests.chaos.disturbed_pair import DisturbedPair
from tests.chaos.verified_pair import FILL, LAST, SOURCE, Pair, Toggler, Writer, ordered, told
from tests.reading import wait_for

VERIFICATIONS = int(os.environ.get("PYCDC_CHAOS_VERIFICATIONS", "200"))
PAUSE = 0.01 if "PYCDC_CHAOS_VERIFICATIONS" in os.environ else 0.03
"""Seconds between two transactions of a writer. Beside the other tests, pipelines would not catch up with faster ones,
and a verification waits for them."""

pytestmark = pytest.mark.pg("newest")


@pytest.fixture
def pair(postgres: Any, kafka: Any, registry: Any, topic_prefix: str) -> Iterator[Pair]:
    source, target = postgres.create_database(), postgres.create_database()
    try:
        with Pair(source, target, kafka.bootstrap, registry.url, topic_prefix, partitions=3) as pair:
            yield pair
    finally:
        postgres.drop_database(source)
        postgres.drop_database(target)


@pytest.mark.slow
def test_no_verification_under_writers_raises_a_false_alarm(pair: Pair) -> None:
    with ExitStack() as stack:
        for seed in range(3):
            stack.enter_context(Writer(pair.source, seed, PAUSE))
        verifier = stack.enter_context(pair.verifier())
        flown = 0
        for _ in range(VERIFICATIONS):
            found = verifier.run()
            assert told(found) == [], found.points
            flown += sum(table.in_flight for table in found.tables)
    assert flown > VERIFICATIONS  # else the writers slept, and nothing was shown


@pytest.mark.slow
@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_kills_rebalances_and_schema_changes_raise_no_false_alarm(
    postgres: Any, kafka: Any, registry: Any, topic_prefix: str, tmp_path: Path, delivery: str
) -> None:
    """A capture that is killed sends again what it sent: the rows that it takes back for a moment are predicted too.

    With transactions the topics' ends are those of what was committed, and markers lie between the records."""
    source, target = postgres.create_database(), postgres.create_database()
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    servers = kafka.bootstrap, registry.url, topic_prefix
    pair = DisturbedPair(tmp_path, seed, source, target, *servers, partitions=seed % 2 + 1, delivery=delivery)
    try:
        with pair, ExitStack() as stack:
            for number in range(2):
                stack.enter_context(Writer(pair.source, seed + number, 2 * PAUSE))
            verifier = stack.enter_context(pair.verifier())
            for _ in range(max(3, VERIFICATIONS // 80)):
                try:
                    assert told(verifier.run()) == [], pair.done
                except PycdcError as error:
                    raise AssertionError(pair.logs()) from error
        assert pair.done
    finally:
        postgres.drop_database(source)
        postgres.drop_database(target)


@pytest.mark.slow
def test_two_databases_that_follow_each_other_raise_no_false_alarm(
    postgres: Any, kafka: Any, registry: Any, topic_prefix: str
) -> None:
    """Both are written, each its own rows; a fault is found all the same, from either side."""
    one, other = postgres.create_database(), postgres.create_database()
    names = f"{topic_prefix}_a", f"{topic_prefix}_b"
    sinks = [
        {"routes": [{"topic": f"{name}.public.{table}", "table": table} for table in ("items", "stock", "people")]}
        for name in names
    ]
    servers = kafka.bootstrap, registry.url
    try:
        with ExitStack() as stack:
            there = stack.enter_context(
                Pair(one, other, *servers, names[0], tables=(SOURCE + FILL, SOURCE), sink=sinks[0])
            )
            Pair.sql(other, "INSERT INTO items VALUES (999, 'one of each', 1, '', now(), 0)")
            Pair.sql(other, "INSERT INTO stock VALUES ('hall', 999, 1, NULL); INSERT INTO people VALUES ('x', 'x', 1)")
            back = stack.enter_context(Pair(other, one, *servers, names[1], tables=("", ""), sink=sinks[1]))
            stack.enter_context(Writer(one, 1, 2 * PAUSE))
            stack.enter_context(Writer(other, 2, 2 * PAUSE, first=500))
            for _ in range(max(3, VERIFICATIONS // 40)):
                assert told(there.verify_with(back)) == []
                assert told(back.verify_with(there)) == []
            plant_silently(other, "UPDATE items SET name = 'planted' WHERE id = 1010")
            wanted = [("public.items", "changed", ("1010",), ("name",))]
            assert told(there.verify_with(back)) == wanted
            assert told(back.verify_with(there)) == wanted
    finally:
        postgres.drop_database(one)
        postgres.drop_database(other)


def plant_silently(dsn: str, statement: str) -> None:
    """Change rows as a pipeline would, so that no capture passes it on."""
    with psycopg.connect(dsn) as connection:
        connection.execute("SELECT pg_logical_emit_message(true, 'pycdc.origin', %s::text)", (mark("nobody"),))
        connection.execute(statement.encode())


Fault = tuple[str, str, tuple[str, ...], tuple[str, ...]]

PLANTED: tuple[tuple[str, str, list[Fault]], ...] = (
    ("a value", "UPDATE items SET name = 'other' WHERE id = 1010", [("items", "changed", ("1010",), ("name",))]),
    ("a row dropped", "DELETE FROM items WHERE id = 1011", [("items", "missing", ("1011",), ())]),
    ("a row added", "INSERT INTO items VALUES (500, 'x')", [("items", "extra", ("500",), ())]),
    ("before the first key", "INSERT INTO items VALUES (-7, 'x')", [("items", "extra", ("-7",), ())]),
    ("behind the last key", "INSERT INTO items VALUES (9999, 'x')", [("items", "extra", ("9999",), ())]),
    ("the last row", f"DELETE FROM items WHERE id = {LAST - 1}", [("items", "missing", (str(LAST - 1),), ())]),
    (
        "two equal faults",
        "UPDATE items SET name = 'same', price = 1, note = 'n', at = NULL, rate = 5 WHERE id IN (1012, 1013)",
        [("items", "changed", (str(n),), ("at", "name", "note", "price", "rate")) for n in (1012, 1013)],
    ),
    (
        "two values swapped",
        "UPDATE items a SET name = b.name FROM items b WHERE (a.id, b.id) IN ((1014, 1015), (1015, 1014))",
        [("items", "changed", (str(n),), ("name",)) for n in (1014, 1015)],
    ),
    (
        "NULL for an empty text",
        "UPDATE items SET note = NULL WHERE id = 1016",
        [("items", "changed", ("1016",), ("note",))],
    ),
    (
        "one unit",
        "UPDATE items SET rate = rate + 7.2e-15 WHERE id = 1017",
        [("items", "changed", ("1017",), ("rate",))],
    ),
    ("scale only", "UPDATE items SET price = price::numeric(20, 9) WHERE id = 1018", []),
    ("zero's sign", "UPDATE items SET rate = '-0' WHERE id = 1020", []),
    (
        "a renamed column",
        "UPDATE persons SET full_name = 'Name 1019' WHERE code = 'code-1019'",
        [("persons", "changed", ("code-1019",), ("full_name",))],
    ),
    (
        "a constant",
        "UPDATE persons SET origin = '' WHERE code = 'code-1020'",
        [("persons", "changed", ("code-1020",), ("origin",))],
    ),
    (
        "in a document",
        "UPDATE stock SET told = '{\"n\": 1021.0}' WHERE item = 1021",
        [("stock", "changed", ("hall 1", "1021"), ("told",))],
    ),
    (
        "a text key",
        "INSERT INTO persons VALUES ('a-Ä', 'x', 1, 'x'), ('Z', 'x', 1, 'x'), ('ä', 'x', 1, 'x')",
        [("persons", "extra", (key,), ()) for key in ("Z", "a-Ä", "ä")],
    ),
    (
        "an update lost in flight",
        "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.amount := -1; RETURN NEW; END';"
        "CREATE TRIGGER lose BEFORE INSERT OR UPDATE ON stock FOR EACH ROW WHEN (NEW.item = 7000)"
        " EXECUTE FUNCTION lose()",
        [("stock", "changed", ("hall x", "7000"), ("amount",))],
    ),
    (
        "a delete lost in flight",
        "CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO persons SELECT OLD.*;"
        " RETURN NULL; END'; CREATE TRIGGER stay AFTER DELETE ON persons FOR EACH ROW WHEN (OLD.code = 'gone')"
        " EXECUTE FUNCTION stay()",
        [("persons", "extra", ("gone",), ())],
    ),
)


@pytest.mark.slow
def test_every_planted_fault_is_found_and_named_and_nothing_else(pair: Pair) -> None:
    """One after another, each left where it is: what was found before is found again."""
    with ExitStack() as stack:
        for seed in range(2):
            stack.enter_context(Writer(pair.source, seed, PAUSE))
        stack.enter_context(Toggler(pair.source))
        verifier = stack.enter_context(pair.verifier())
        expected: list[Any] = []
        flickering: list[Any] = []

        def shows(fault: Any) -> bool:
            return fault in flown(verifier.run())

        for name, statement, faults in PLANTED:
            pair.sql(pair.target, statement)
            planted = [(f"public.{table}", *rest) for table, *rest in faults]
            if name.endswith("in flight"):
                flickering += planted
                wait_for(partial(shows, *planted))
                continue
            found = [one for one in told(verifier.run()) if one not in flickering]
            assert found == sorted([*expected, *planted]), name
            expected += planted
    wait_for(lambda: pair.leftovers() == [])


def flown(found: Verification) -> list[Any]:
    """The differences of keys that events were in flight for."""
    return [one for one, difference in zip(told(found), ordered(found), strict=True) if difference.in_flight]
