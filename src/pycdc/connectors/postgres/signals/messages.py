"""Requests to a running pipeline, sent through its own stream: transactional logical messages, with a signature.

Anybody who may connect to a database may write such messages, so they carry an HMAC by a key that only this pipeline
has (`signing`). A condition of a snapshot is SQL that the pipeline's role runs.
The same prefix carries the marks by which a pipeline knows again where it read a chunk of rows; these are its own.
What comes by a signal topic is passed on in the same way, and so has its place in the stream too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args
from uuid import uuid4

import psycopg

from pycdc.clients.postgres_errors import source_error
from pycdc.clients.postgres_sessions import connect_to_source
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import SlotMetadata
from pycdc.connectors.postgres.catalog.row_filter import check_condition
from pycdc.connectors.postgres.replication.control_message import PREFIX, TransactionTime
from pycdc.connectors.postgres.signals import signing
from pycdc.connectors.postgres.signals.debezium import DebeziumSignal, Unusable
from pycdc.connectors.postgres.signals.signing import SigningKey, key_of
from pycdc.errors import ConfigError, EnvironmentNotReady
from pycdc.model.change import Lsn

SignalAction = Literal["snapshot", "pause", "resume", "cancel", "apply", "retry", "drop"]
_DEBEZIUM: Final = "debezium"
_EMIT: Final = "SELECT pg_logical_emit_message(true, %s, %s)::text"
_MOMENT: Final = """SELECT pg_current_xact_id()::text::int8, extract(epoch FROM clock_timestamp())::float8"""
_LONGEST: Final = 1_048_576
"""Bytes of a message that is read: our own are shorter by far."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A request of `pycdc snapshot` or `pycdc parked`.

    `tables` are patterns as in source.postgres.tables. Without any, cancelling means all that signals asked for. apply:
    take in what matches the configuration now. retry, drop: the `parked` rows of these ids.
    """

    action: SignalAction
    tables: tuple[str, ...] = ()
    where: str | None = field(default=None, repr=False)
    id: str = field(default_factory=lambda: uuid4().hex)
    parked: tuple[str, ...] = ()


def sign(signal: Signal | DebeziumSignal, slot: str, key: bytes, moment: TransactionTime) -> str:
    """Return the content of the message for the pipeline that reads `slot`, in the transaction of `moment`."""
    said: dict[str, Any] = {"slot": slot, "id": signal.id, "xid": moment.xid, "at": moment.at}
    if isinstance(signal, Signal):
        said |= {"action": signal.action, "tables": list(signal.tables), "where": signal.where}
        said |= {"parked": list(signal.parked)} if signal.parked else {}
    else:
        said |= {"action": _DEBEZIUM, "type": signal.type, "data": signal.data}
    body = json.dumps(said)
    return json.dumps({"signal": body, "hmac": signing.digest(body, key)})


def verified(
    document: dict[str, Any], slot: str, key: bytes, moment: TransactionTime
) -> Signal | DebeziumSignal | None:
    """Return the signal for the reader of `slot`; None for another's. Raises Unusable for one without its signature."""
    body, digest = document.get("signal"), document.get("hmac")
    said = content(signing.encoded(body)) if isinstance(body, str) else {}
    if said.get("slot", slot) != slot:
        return None
    signed = isinstance(body, str) and isinstance(digest, str) and signing.same(digest, signing.digest(body, key))
    if not signed:
        raise Unusable("it is not signed with this pipeline's key", "ask by `pycdc snapshot` with its configuration")
    if not signing.belongs(said.get("xid"), said.get("at"), moment):
        raise Unusable("it is a copy of one that was sent before", "ask by `pycdc snapshot`, which signs it anew")
    if said["action"] == _DEBEZIUM:
        return DebeziumSignal(said["id"], said["type"], said["data"], "topic")
    if said["action"] not in get_args(SignalAction):
        raise Unusable("its action is none that this version knows", "use the same version of pycdc on both sides")
    return Signal(said["action"], tuple(said["tables"]), said["where"], said["id"], tuple(said.get("parked", ())))


def mark(slot: str, chunk: str) -> str:
    return json.dumps({"slot": slot, "chunk": chunk})


def content(data: bytes) -> dict[str, Any]:
    """Return the content of a message with pycdc's prefix; nothing where it is none of pycdc's."""
    if len(data) > _LONGEST:
        return {}
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def send(dsn: str, slot: str, key: bytes, signals: Sequence[Signal | DebeziumSignal]) -> Lsn:
    """Write the signals into the WAL; return where. The pipeline need not run. Raises PycdcError."""
    lsns = []
    with connect_to_source(dsn) as connection:
        try:
            for signal in signals:
                with connection.transaction():
                    row = connection.execute(_MOMENT).fetchone()
                    assert row is not None
                    lsns.append(emit(connection, sign(signal, slot, key, TransactionTime(*row))))
        except psycopg.Error as error:
            raise source_error(error) from None
    return max(lsns, default=Lsn(0))


def emit(connection: psycopg.Connection[Any], text: str) -> Lsn:
    row = connection.execute(_EMIT, (PREFIX, text)).fetchone()
    assert row is not None
    return Lsn.parse(row[0])


def ask(config: CapturePipeline, signal: Signal, stored: Mapping[str, Any] | None = None) -> bool:
    """Send `signal` to the pipeline of `config`; tell whether that runs: if not, it obeys when it is started.

    `stored` is the source of its last checkpoint, which holds the key where the configuration does not. Raises
    PycdcError where nobody would ever hear it, or would have to refuse.
    """
    source = config.source.postgres
    dsn = source.dsn.get_secret_value()
    with Catalog(dsn) as catalog:
        slot = catalog.slot(config.slot)
        captured = {ref.oid: ref for ref in catalog.tables(source.tables, source.exclude_tables)}
        for pattern in signal.tables:
            named = [captured[ref.oid] for ref in catalog.tables([pattern]) if ref.oid in captured]
            if not named:
                raise ConfigError(f"{pattern} is not a captured table", hint="name one of source.postgres.tables")
            if signal.where is not None:
                check_condition(dsn, named[0].schema, named[0].name, signal.where, config.signals.filter_role)
    active = _require_decodable_slot(config.slot, slot).active_pid
    send(dsn, config.slot, key_of(config, stored), [signal])
    return active is not None


def pass_on(config: CapturePipeline, key: SigningKey, signal: DebeziumSignal) -> None:
    """Give a signal of the topic its place in the stream. Raises PycdcError where nobody would ever hear it."""
    dsn = config.source.postgres.dsn.get_secret_value()
    with Catalog(dsn) as catalog:
        _require_decodable_slot(config.slot, catalog.slot(config.slot))
    send(dsn, config.slot, key.value, [signal])


def _require_decodable_slot(name: str, slot: SlotMetadata | None) -> SlotMetadata:
    """Require a slot that decodes the message: what commits before its consistent point is never decoded."""
    if slot is None:
        raise EnvironmentNotReady(f"slot {name} does not exist", hint="start the pipeline: `pycdc run`")
    if slot.confirmed_flush is None:
        raise EnvironmentNotReady(
            f"slot {name} is still being made", hint="wait until the transactions that it waits for have ended"
        )
    return slot
