"""What a pipeline says and does where a server answers, and says no: which refusals are waited for, and which end it.

One process for each direction meets those that are waited for, one after the other. One that is final ends the process
with its exit code and a remedy, and so does each start while it lasts; after the mend nothing is missing or doubled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from psycopg import sql

from tests.faults.chain import (
    FROM_BROKERS,
    SCHEMAS,
    SOURCE,
    TARGET,
    TO_BROKERS,
    Chain,
    Watched,
    is_final,
    recovers,
    says_so,
)
from tests.services.kafka import KafkaAddress
from tests.services.postgres import PostgresServer
from tests.services.registry import RegistryAddress

pytestmark = [pytest.mark.pg("newest"), pytest.mark.exclusive]


class Refusal(NamedTuple):
    """Who says no, how that is brought about and mended, and what the operator reads."""

    what: str
    begin: Callable[[Chain], None]
    mend: Callable[[Chain], None]
    words: str
    hint: str


def alter_role(options: str) -> Callable[[Chain], None]:
    def work(chain: Chain) -> None:
        chain.sql(chain.dsns[0], f"ALTER ROLE {chain.role} {options}")
        chain.end_sessions()

    return work


def privilege(statement: str) -> Callable[[Chain], None]:
    def work(chain: Chain) -> None:
        chain.sql(chain.dsns[1], statement.format(chain.role))

    return work


def http(status: int) -> Callable[[Chain], None]:
    body = json.dumps({"error_code": status, "message": "no"})
    head = f"HTTP/1.1 {status} No\r\nContent-Type: application/json\r\nConnection: close\r\n"
    answer = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    return lambda chain: chain.registry.answer(answer)


def heal_registry(chain: Chain) -> None:
    chain.registry.heal()


LIMIT = alter_role("CONNECTION LIMIT 0"), alter_role("CONNECTION LIMIT -1"), "too many connections", "CONNECTION LIMIT"
LOGIN = alter_role("PASSWORD 'another one'"), alter_role("PASSWORD 'hunter2'"), "authentication failed", "password"
HANGS_UP = (lambda chain: chain.kafka.cut_after(0)), (lambda chain: chain.kafka.heal()), ""
"""A broker that takes each connection, and resets it in place of its first answer."""
UNAVAILABLE = Refusal(SCHEMAS, http(503), heal_registry, "HTTP 503", "registry.url")
DENIED = {
    status: Refusal(
        "the registry at http://127.0.0.1", http(status), heal_registry, f"HTTP {status}", "registry.username"
    )
    for status in (401, 403)
}
"""One for each direction, which share what asks a registry."""

WAITED_FOR = {
    "capture": [
        Refusal(SOURCE, *LIMIT),
        Refusal(TO_BROKERS, *HANGS_UP, "enough replicas"),
        UNAVAILABLE,
    ],
    "apply": [
        Refusal(TARGET, *LIMIT),
        Refusal(
            TARGET,
            lambda chain: read_only(chain, "on"),
            lambda chain: read_only(chain, "off"),
            "read-only transaction",
            "name the primary in the dsn",
        ),
        Refusal(FROM_BROKERS, *HANGS_UP, "source.kafka"),
        UNAVAILABLE,
    ],
}
FINAL = {
    "capture": [
        Refusal(SOURCE, *LOGIN),
        Refusal(
            SOURCE,
            alter_role("NOREPLICATION"),
            alter_role("REPLICATION"),
            "permission denied",
            "ALTER ROLE … REPLICATION",
        ),
        DENIED[401],
    ],
    "apply": [
        Refusal(TARGET, *LOGIN),
        Refusal(
            TARGET,
            privilege("REVOKE INSERT ON items FROM {}"),
            privilege("GRANT INSERT ON items TO {}"),
            "permission denied for table items",
            "GRANT SELECT, INSERT",
        ),
        DENIED[403],
    ],
}


def read_only(chain: Chain, value: str) -> None:
    chain.sql(chain.dsns[1], f"ALTER ROLE {chain.role} SET default_transaction_read_only = {value}")
    chain.end_sessions()


@contextmanager
def password_wanted(dsn: str, role: str) -> Iterator[None]:
    """`role` has to give its password: pg_hba.conf is written through the server itself."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        found = connection.execute("SELECT setting, pg_read_file(setting) FROM pg_settings WHERE name = 'hba_file'")
        path, before = found.fetchone() or ("", "")

        def write(text: str) -> None:
            lines = [line for line in text.splitlines() if line and not line.startswith("#")]
            copy = sql.SQL("COPY (SELECT unnest({}::text[])) TO {} (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')")
            connection.execute(copy.format(sql.Literal(lines), sql.Literal(path)))
            connection.execute("SELECT pg_reload_conf()")

        both = "".join(f"host {what} {role} all scram-sha-256\n" for what in ("all", "replication"))
        write(both + before)
        try:
            yield
        finally:
            write(before)


@pytest.fixture
def chain(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    postgres: PostgresServer,
    kafka: KafkaAddress,
    registry: RegistryAddress,
    topic_prefix: str,
) -> Iterator[Chain]:
    role = f"{topic_prefix}_role"
    made = Chain(request.param, tmp_path, postgres, kafka, registry.url, topic_prefix, role=role)
    with password_wanted(made.dsns[0], role):
        yield made
    made.close()
    for dsn in made.dsns:
        postgres.drop_database(dsn)
    postgres.psql(f"DROP ROLE {role}")


@pytest.mark.parametrize("chain", ["capture", "apply"], indirect=True)
def test_a_refusal_that_may_pass_is_waited_for_and_told(chain: Chain) -> None:
    with chain.running(chain.other), chain.running(chain.direction) as watched:
        chain.write()
        watched.until(lambda: chain.arrived == [1])
        watched.until(watched.is_well)
        for refusal in WAITED_FOR[chain.direction]:
            watched.mark()
            refusal.begin(chain)
            chain.write()
            says_so(watched, refusal.what)
            told = [line for line in watched.news("warning") if refusal.words in str(line)]
            assert any(refusal.hint in str(line["hint"]) for line in told), watched.news("warning")
            refusal.mend(chain)
            recovers(chain, watched)
        assert watched.program.stop() == 0


def final(watched: Watched, refusal: Refusal) -> None:
    said = is_final(watched)
    assert refusal.what in said["fact"]
    assert refusal.words in said["fact"]
    assert refusal.hint in said["hint"]
    assert "hunter2" not in watched.program.log


@pytest.mark.parametrize("chain", ["capture", "apply"], indirect=True)
def test_a_refusal_that_stays_ends_it_with_3_and_each_start_until_it_is_mended(chain: Chain) -> None:
    with ExitStack() as stack:
        stack.enter_context(chain.running(chain.other))
        for refusal in FINAL[chain.direction]:
            with chain.running(chain.direction) as watched:
                chain.write()
                watched.until(chain.is_complete)
                watched.until(watched.is_well)
                refusal.begin(chain)
                chain.write()
                final(watched, refusal)
            with chain.running(chain.direction) as again:
                final(again, refusal)
            refusal.mend(chain)
        with chain.running(chain.direction) as watched:
            watched.until(chain.is_complete)
            watched.until(watched.is_well)
            assert watched.program.stop() == 0
