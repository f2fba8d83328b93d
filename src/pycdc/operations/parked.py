"""What a capture could not deliver: rows that are parked, and dead letters. Shown, retried, dropped."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pycdc.build.offsets import stored_source
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.signals.messages import Signal, ask
from pycdc.errors import ConfigError, EnvironmentNotReady
from pycdc.model.dead_letter import DeadLetter
from pycdc.model.parked_row import ParkedEntry, ParkedRow
from pycdc.parking.build import dead_letters, parked_topic

Action = Literal["retry", "drop"]


@dataclass(frozen=True, slots=True)
class ParkedItems:
    """What is parked at present, by id, in its order."""

    rows: dict[str, ParkedEntry]
    letters: dict[str, DeadLetter]

    def of_table(self, table: str | None) -> ParkedItems:
        """Return what is of a table; all without one."""
        return ParkedItems(
            {name: one for name, one in self.rows.items() if table in (None, one.table)},
            {name: one for name, one in self.letters.items() if table in (None, one.table)},
        )

    def named(self, ids: Collection[str]) -> ParkedItems:
        """Return what has these ids. Raises ConfigError for one that is not parked."""
        strange = sorted(set(ids) - self.rows.keys() - self.letters.keys())
        if strange:
            raise ConfigError(f"{strange[0]} is not parked", hint="take ids from `pycdc parked list`")
        return ParkedItems(
            {name: one for name, one in self.rows.items() if name in ids},
            {name: one for name, one in self.letters.items() if name in ids},
        )


def undelivered(config: CapturePipeline) -> ParkedItems:
    """Return all that is parked. Raises PycdcError."""
    with closing(parked_topic(config)) as topic:
        rows = topic.entries()
    return ParkedItems(rows, {letter.id: letter for letter in dead_letters(config).open()})


def shown(config: CapturePipeline, identity: str, *, values: bool) -> dict[str, Any]:
    """Return what is known of a row or a letter. Raises ConfigError where it is not parked."""
    with closing(parked_topic(config)) as topic:
        row = next(topic.rows({identity}), None)
    if row is not None:
        return row_told(row.entry) | (_row_values(row) if values else {})
    letter = next((letter for letter in dead_letters(config).open() if letter.id == identity), None)
    if letter is None:
        raise ConfigError(f"{identity} is not parked", hint="take ids from `pycdc parked list`")
    told = letter_told(letter)
    return told | {"key": _legible(letter.key), "value": _legible(letter.value)} if values else told


def ask_for(config: CapturePipeline, action: Action, rows: Collection[str]) -> bool:
    """Ask the pipeline to handle parked rows; return whether it runs: if not, it obeys when it is started."""
    return ask(config, Signal(action, parked=tuple(rows)), stored_source(config))


def settle(config: CapturePipeline, action: Action, letters: list[DeadLetter], *, out_of_order: bool) -> None:
    """Copy dead letters to their topics, or give them up. Raises PycdcError.

    Rows that came later must not be in the topics yet: the pipeline has to be stopped, unless `out_of_order`.
    """
    found = dead_letters(config)
    if action == "retry":
        for letter in letters:
            _require_copy(letter)
        if not out_of_order:
            _require_order(config, letters)
    with closing(parked_topic(config)) as topic:
        topic.prepare()
    found.settle(letters, "retried" if action == "retry" else "dropped")


def _require_copy(letter: DeadLetter) -> None:
    if not letter.can_be_copied:
        raise ConfigError(
            f"{letter.id} ({letter.error}) is not the record that its topic would have got, and cannot be retried",
            hint="set rules[].on_error: park, so that rows can be tried again; drop what is not needed any more",
        )


def _require_order(config: CapturePipeline, letters: list[DeadLetter]) -> None:
    hint = "with --out-of-order consumers see old states of rows behind new ones; see docs/schema-changes.md"
    with Catalog(config.source.postgres.dsn.get_secret_value()) as catalog:
        slot = catalog.slot(config.slot)
    if slot is not None and slot.active_pid is not None:
        raise EnvironmentNotReady(f"pipeline {config.name} runs, and may deliver later rows", hint=f"stop it; {hint}")
    found = dead_letters(config)
    for topic in sorted({letter.target for letter in letters}):
        newest, oldest = found.newest(topic), min(letter.at for letter in letters if letter.target == topic)
        if newest is not None and newest > oldest:
            raise EnvironmentNotReady(f"topic {topic} has records that are newer than what is parked", hint=hint)


def row_told(entry: ParkedEntry) -> dict[str, Any]:
    """Return what is known of a row without its values."""
    return {
        "id": entry.id,
        "table": entry.table,
        "op": entry.op.value,
        "lsn": str(entry.position.lsn),
        "position": str(entry.position),
        "xid": entry.xid,
        "parked_at": _time(entry.parked_at),
        "error": entry.reason.error,
        "reason": entry.reason.fact,
    }


def letter_told(letter: DeadLetter) -> dict[str, Any]:
    """Return what is known of a dead letter without its values."""
    return {
        "id": letter.id,
        "table": letter.table,
        "topic": letter.target,
        "position": letter.position,
        "parked_at": _time(letter.at),
        "error": letter.error,
        "reason": letter.reason,
    }


def _row_values(row: ParkedRow) -> dict[str, Any]:
    [change] = row.run()
    return {"before": _texts(change.before), "after": _texts(change.after)}


def _texts(image: dict[str, Any] | None) -> dict[str, str] | None:
    return None if image is None else {name: str(value) for name, value in image.items()}


def _legible(data: bytes | None) -> Any:
    """Return a record's key or value: JSON as it is, other bytes in base64."""
    try:
        return None if data is None else json.loads(data)
    except ValueError:
        return b64encode(data or b"").decode()


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
