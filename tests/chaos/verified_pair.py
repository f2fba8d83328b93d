"""Two databases, a capture and an apply pipeline between them, and writers that never rest: what is verified.

Rows are of two kinds. Writers change those whose `id` is below `QUIET`, keys that are in flight; the others lie still
unless a test plants a fault in the target.
"""

from __future__ import annotations

import random
import threading
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import psycopg

from pycdc.config import validate, validate_capture
from pycdc.config.pipeline import require_apply
from pycdc.errors import EnvironmentNotReady
from pycdc.operations.verify.options import VerifyOptions
from pycdc.operations.verify.result import Difference, Verification
from pycdc.operations.verify.verification import Verifier, verify
from tests.reading import PATIENCE
from tests.running import Running

QUIET = 1000
"""The first id that no writer touches."""
LAST = 1400
"""Behind the last of those."""

SOURCE = """
CREATE TABLE items (id int PRIMARY KEY, name text, price numeric(12,2), note text, at timestamptz, rate float8);
ALTER TABLE items ALTER COLUMN note SET STORAGE EXTERNAL;
CREATE TABLE stock (place text, item int, amount bigint NOT NULL, told jsonb, PRIMARY KEY (place, item));
CREATE TABLE people (code text PRIMARY KEY, name varchar(40), age int);
"""
TARGET = """
CREATE TABLE items (id int PRIMARY KEY, name text, price numeric, note text, at timestamptz, rate float8);
CREATE TABLE stock (place text, item int, amount bigint NOT NULL, told jsonb, PRIMARY KEY (place, item));
CREATE TABLE persons (code text PRIMARY KEY, full_name text, years bigint, origin text);
"""
FILL = f"""
INSERT INTO items SELECT n, 'item ' || n, n / 7.0, CASE WHEN n % 8 = 0 THEN '' ELSE repeat(md5(n::text), 90) END,
    '2026-01-01'::timestamptz + n * interval '1 h', CASE WHEN n % 2 = 0 THEN 0 ELSE sqrt(n) END
    FROM generate_series({QUIET}, {LAST - 1}) n;
INSERT INTO stock SELECT 'hall ' || n % 5, n, n * 10, jsonb_build_object('n', n)
    FROM generate_series({QUIET}, {LAST - 1}) n;
INSERT INTO people SELECT 'code-' || n, 'Näme ' || n, n % 90 FROM generate_series({QUIET}, {LAST - 1}) n;
"""


class Writer:
    """Commits transactions of every kind: several rows, rolled back ones, deletes and new inserts, keys that change,
    updates that leave a TOASTed value alone; with and without waiting for the WAL."""

    def __init__(self, dsn: str, seed: int, pause: float, first: int = 0) -> None:
        """`first` is the first of the 200 ids that it writes."""
        self._dsn, self._pause, self._first = dsn, pause, first
        self._chance = random.Random(seed)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"writer-{seed}")
        self.failure: BaseException | None = None
        self.transactions = 0

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            with psycopg.connect(self._dsn, autocommit=True) as connection:
                while not self._end.is_set():
                    self._transaction(connection)
                    self.transactions += 1
                    self._end.wait(self._pause * self._chance.random() * 2)
        except BaseException as error:
            self.failure = error

    def _transaction(self, connection: psycopg.Connection[Any]) -> None:
        chance = self._chance
        connection.execute(f"SET synchronous_commit = {chance.choice(('on', 'off', 'local'))}".encode())
        try:
            with connection.transaction():
                for _ in range(chance.choice((1, 1, 2, 5, 20))):
                    connection.execute(self._statement().encode())
                if chance.random() < 0.1:
                    raise psycopg.Rollback
        except (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected):
            pass

    def _statement(self) -> str:
        chance = self._chance
        n = self._first + chance.randrange(200)
        note = "repeat(md5(random()::text), 90)" if chance.random() < 0.3 else "'short'"
        return chance.choice(
            (
                f"INSERT INTO items VALUES ({n}, 'new', random()::numeric(12,2), {note}, now(), random())"
                " ON CONFLICT (id) DO UPDATE SET name = items.name || 'x', price = excluded.price",
                f"UPDATE items SET price = price + 1, name = left(name, 20) || '!' WHERE id = {n}",
                f"UPDATE items SET note = {note}, name = 'again' WHERE id = {n}",
                f"DELETE FROM items WHERE id = {n}",
                f"UPDATE items SET id = {self._first + chance.randrange(200)}, note = 'moved' WHERE id = {n}",
                f"INSERT INTO stock VALUES ('hall {n % 5}', {n}, {n}, '{{\"a\": [1, 2.50]}}') ON CONFLICT (place, item)"
                " DO UPDATE SET amount = stock.amount + 1, told = excluded.told",
                f"DELETE FROM stock WHERE item = {n}",
                f"UPDATE stock SET place = 'hall {chance.randrange(5)}' WHERE item = {n}",
                f"INSERT INTO people VALUES ('p{n}', 'Zoë', {n}) ON CONFLICT (code) DO UPDATE SET age = people.age + 1",
                f"DELETE FROM people WHERE code = 'p{n}'",
            )
        )


class Toggler(Writer):
    """Writes the same two keys without rest, so that they are nearly always in flight."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn, 0, 0.005)

    def _transaction(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(
            "INSERT INTO stock VALUES ('hall x', 7000, 0, NULL) ON CONFLICT (place, item)"
            " DO UPDATE SET amount = stock.amount + 1"
        )
        connection.execute("INSERT INTO people VALUES ('gone', 'there', 1)")
        connection.execute("DELETE FROM people WHERE code = 'gone'")


class Pair:
    """A context manager: both pipelines run from entering to leaving it."""

    def __init__(self, source: str, target: str, brokers: str, registry: str | None, name: str, **options: Any) -> None:
        """`options`: `tables` are the statements for source and target, `partitions` those of a topic, and the others
        sections of both configurations."""
        self.source, self.target = source, target
        self._source_tables, self._target_tables = options.get("tables", (SOURCE + FILL, TARGET))
        kafka = {"brokers": brokers, **({"registry": registry} if registry else {})}
        form = options.get("format", "avro" if registry else "json_schema")
        partitions = options.get("partitions", 1)
        self.capture: dict[str, Any] = {
            "name": name,
            "source": {"postgres": {"dsn": source, "tables": ["public.*"], **options.get("reading", {})}},
            "sink": {
                "kafka": {
                    **kafka,
                    "format": form,
                    "topics": {"partitions": partitions},
                    "delivery": options.get("delivery", "at_least_once"),
                }
            },
            "checkpoint": {"interval": 0.1},
            "retries": {"max_delay": 0.5},
            "http": {"enabled": False},
            **options.get("capture", {}),
        }
        self.apply: dict[str, Any] = {
            "name": f"{name}-apply",
            "source": {"kafka": {**kafka, "topics": [f"{name}.public.*"], **options.get("kafka", {})}},
            "sink": {"postgres": {"dsn": target, "routes": self.routes(name), **options.get("sink", {})}},
            "retries": {"max_delay": 0.5},
            "http": {"enabled": False},
            **options.get("apply", {}),
        }
        self._stack = ExitStack()

    @staticmethod
    def routes(name: str) -> list[dict[str, Any]]:
        people = {"full_name": "name", "years": "age"}
        return [
            {"topic": f"{name}.public.items", "table": "items"},
            {"topic": f"{name}.public.stock", "table": "stock"},
            {"topic": f"{name}.public.people", "table": "persons", "set": people, "constants": {"origin": name}},
        ]

    def __enter__(self) -> Pair:
        self.sql(self.source, self._source_tables)
        self.sql(self.target, self._target_tables)
        try:
            self.start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def start(self) -> None:
        """Run both pipelines, and wait until what there is was applied."""
        self.start_capture()
        self.capturing.until_streaming()
        self.applying = self._stack.enter_context(Running(self.apply))
        self.applying.until(self.caught_up)

    def start_capture(self) -> None:
        self.capturing = self._stack.enter_context(Running(self.capture))

    def caught_up(self) -> bool:
        """Whether a verification comes to an end, which waits until what there is was applied."""
        try:
            with self.verifier(timeout=2.0) as verifier:
                verifier.run()
        except EnvironmentNotReady:
            return False
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def verifier(self, **options: Any) -> Verifier:
        return Verifier(
            validate(self.apply),
            VerifyOptions(capture=validate_capture(self.capture), **{"values": True, "timeout": PATIENCE, **options}),
        )

    def verify_with(self, back: Pair) -> Verification:
        """Verify this direction; `back` is the other one."""
        options = VerifyOptions(
            capture=validate_capture(self.capture),
            other_apply=require_apply(validate(back.apply)),
            other_capture=validate_capture(back.capture),
            timeout=PATIENCE,
        )
        return verify(validate(self.apply), options)

    @staticmethod
    def sql(dsn: str, statement: str) -> list[Any]:
        with psycopg.connect(dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def leftovers(self) -> list[Any]:
        """Slots and sessions that a verification left behind."""
        return self.sql(self.source, "SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'pycdc_verify%'")


def ordered(verification: Verification) -> list[Difference]:
    """The differences in the order of `told`."""
    return sorted(verification.differences, key=_named)


def told(verification: Verification) -> list[tuple[str, str, tuple[str, ...], tuple[str, ...]]]:
    """The differences as table, kind, key and columns."""
    return sorted(map(_named, verification.differences))


def _named(one: Difference) -> tuple[str, str, tuple[str, ...], tuple[str, ...]]:
    return one.table, one.kind.value, tuple(one.key.values()), tuple(sorted(one.columns))
