"""Wishes to a running pipeline, sent through its own stream: transactional logical messages, with a signature.

Anybody who may connect to a database may write such messages, so they carry an HMAC by the password of the source's
dsn: sender and pipeline have the same configuration. A condition of a snapshot is SQL that the pipeline's role runs.
The same prefix carries the marks by which a pipeline knows again where it read a chunk of rows; these are its own.
What comes by a signal topic is passed on in the same way, and so has its place in the stream too.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args
from uuid import uuid4

import psycopg
from psycopg import conninfo

from pycdc.config import Config
from pycdc.connectors.postgres.catalog import Catalog
from pycdc.connectors.postgres.debezium_signals import DebeziumSignal
from pycdc.connectors.postgres.facts import SlotFacts
from pycdc.connectors.postgres.session import connect, translate
from pycdc.connectors.postgres.snapshot import check_condition
from pycdc.errors import ConfigError, EnvironmentNotReady
from pycdc.model import Lsn

PREFIX: Final = "pycdc.snapshot"
Action = Literal["snapshot", "pause", "resume", "cancel"]
_DEBEZIUM: Final = "debezium"
_EMIT: Final = "SELECT pg_logical_emit_message(true, %s, %s)::text"
_FLUSH: Final = "SET synchronous_commit = local"
"""Only flushed WAL is sent; what standbys have of it does not matter."""


@dataclass(frozen=True, slots=True)
class Signal:
    """`tables` are patterns as in source.postgres.tables. Without any, cancelling means all that signals asked for."""

    action: Action
    tables: tuple[str, ...] = ()
    where: str | None = field(default=None, repr=False)
    id: str = field(default_factory=lambda: uuid4().hex)


def sign(signal: Signal | DebeziumSignal, slot: str, dsn: str) -> str:
    """The content of the message for the pipeline that reads `slot`."""
    said: dict[str, Any] = {"slot": slot, "id": signal.id}
    if isinstance(signal, Signal):
        said |= {"action": signal.action, "tables": list(signal.tables), "where": signal.where}
    else:
        said |= {"action": _DEBEZIUM, "type": signal.type, "data": signal.data}
    body = json.dumps(said)
    return json.dumps({"signal": body, "hmac": _digest(body, dsn)})


def verified(document: dict[str, Any], slot: str, dsn: str) -> Signal | DebeziumSignal | None:
    """The signal for the reader of `slot`; None for another's, and for what was not signed by our configuration."""
    body, digest = document.get("signal"), document.get("hmac")
    if not isinstance(body, str) or not isinstance(digest, str):
        return None
    if not hmac.compare_digest(_bytes(digest), _bytes(_digest(body, dsn))):
        return None
    content = json.loads(body)
    if content["slot"] == slot and content["action"] == _DEBEZIUM:
        return DebeziumSignal(content["id"], content["type"], content["data"], "topic")
    if content["slot"] != slot or content["action"] not in get_args(Action):
        return None
    return Signal(content["action"], tuple(content["tables"]), content["where"], content["id"])


def mark(slot: str, chunk: str) -> str:
    return json.dumps({"slot": slot, "chunk": chunk})


def content(data: bytes) -> dict[str, Any]:
    """What a message with our prefix says; nothing where it is none of ours."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def send(dsn: str, slot: str, signals: Sequence[Signal | DebeziumSignal]) -> Lsn:
    """Write the signals into the WAL; return where. The pipeline need not run. Raises PycdcError."""
    with connect(dsn) as connection:
        try:
            connection.execute(_FLUSH)
            lsns = [emit(connection, sign(signal, slot, dsn)) for signal in signals]
        except psycopg.Error as error:
            raise translate(error) from None
    return max(lsns, default=Lsn(0))


def emit(connection: psycopg.Connection[Any], text: str) -> Lsn:
    row = connection.execute(_EMIT, (PREFIX, text)).fetchone()
    assert row is not None
    return Lsn.parse(row[0])


def ask(config: Config, signal: Signal) -> bool:
    """Send `signal` to the pipeline of `config`; tell whether that runs: if not, it obeys when it is started.

    Raises PycdcError where nobody would ever hear it, or would have to refuse.
    """
    source = config.capture
    dsn = source.dsn.get_secret_value()
    with Catalog(dsn) as catalog:
        slot = catalog.slot(config.slot)
        captured = {ref.oid: ref for ref in catalog.tables(source.tables, source.exclude_tables)}
        for pattern in signal.tables:
            named = [captured[ref.oid] for ref in catalog.tables([pattern]) if ref.oid in captured]
            if not named:
                raise ConfigError(f"{pattern} is not a captured table", hint="name one of source.postgres.tables")
            if signal.where is not None:
                check_condition(dsn, named[0].schema, named[0].name, signal.where)
    active = _require_hearing(config.slot, slot).active_pid
    send(dsn, config.slot, [signal])
    return active is not None


def pass_on(config: Config, signal: DebeziumSignal) -> None:
    """Give a signal of the topic its place in the stream. Raises PycdcError where nobody would ever hear it."""
    dsn = config.capture.dsn.get_secret_value()
    with Catalog(dsn) as catalog:
        _require_hearing(config.slot, catalog.slot(config.slot))
    send(dsn, config.slot, [signal])


def _require_hearing(name: str, slot: SlotFacts | None) -> SlotFacts:
    """What commits before a slot has its consistent point is never decoded."""
    if slot is None:
        raise EnvironmentNotReady(f"slot {name} does not exist", hint="start the pipeline: `pycdc run`")
    if slot.confirmed_flush is None:
        raise EnvironmentNotReady(
            f"slot {name} is still being made", hint="wait until the transactions that it waits for have ended"
        )
    return slot


def _digest(body: str, dsn: str) -> str:
    parameters = conninfo.conninfo_to_dict(dsn)
    # Without a password everybody who is let in by the same rule of pg_hba.conf may sign.
    secret = str(parameters.get("password") or parameters.get("user") or "")
    return hmac.new(b"pycdc.snapshot\0" + secret.encode(), _bytes(body), hashlib.sha256).hexdigest()


def _bytes(text: str) -> bytes:
    """Of any text that JSON can spell, also of what is no Unicode."""
    return text.encode("utf-8", "surrogatepass")
