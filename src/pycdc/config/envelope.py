"""What records look like: `envelope`, `flatten` and `outbox`."""

from __future__ import annotations

import re
from string import Formatter
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator, model_validator

from pycdc.config.section import (
    InvalidValue,
    Section,
)

Adjustment = bool | Literal["strict"]


class EnvelopeConfig(Section):
    """What is emitted beside the rows. The defaults are Debezium's."""

    tombstones: bool = True
    """A null value after each delete, so that compaction forgets the key."""
    skip: list[Literal["c", "u", "d", "t"]] = ["t"]
    """Operations that are not emitted."""
    transaction_metadata: bool = False
    """The transaction block in each event, and BEGIN and END records in `{name}.transaction`."""
    heartbeat_interval: Annotated[float, Field(ge=0)] = 0.0
    """Seconds between records in `__debezium-heartbeat.{name}`; 0 for none. The slot advances without them."""
    notification_topic: str | None = None
    """Topic of Debezium's notifications: that a snapshot began, where it is, that tables and all of it were read, that
    it was paused or given up. Default: none are made."""
    context_headers: bool = False
    """Debezium's `__debezium.context.*` headers on every record; they rule out batched producing."""
    adjust_names: Adjustment = True
    """Make schema and field names legal for Avro, as Debezium's schema.name.adjustment.mode=avro does. `strict` also
    puts an underscore before schemas and tables that begin with a digit, in the names of records: some registries
    refuse those (Apicurio: `public.2024_sales`)."""


METADATA: Final = (
    "op",
    "ts_ms",
    "ts_us",
    "ts_ns",
    *(
        f"source.{name}"
        for name in (
            "version",
            "connector",
            "name",
            "ts_ms",
            "snapshot",
            "db",
            "sequence",
            "ts_us",
            "ts_ns",
            "schema",
            "table",
            "txId",
            "lsn",
            "xmin",
            "origin",
            "origin_lsn",
        )
    ),
    "transaction.id",
    "transaction.total_order",
    "transaction.data_collection_order",
)
"""What an envelope says beside the rows, by path."""


def metadata_path(name: str) -> str:
    """Return the path of METADATA that `name` stands for, as Debezium resolves it; "" where there is none."""
    return next((path for path in METADATA if name and name in (path, path.partition(".")[2])), "")


class FlattenConfig(Section):
    """Records that are the row itself in place of Debezium's envelope, as its ExtractNewRecordState makes them.

    Updates and inserts become the new row; truncates are left out. Sinks that get changes and not records (the console,
    sinks of your own) do not notice.
    """

    deletes: Literal["tombstone", "drop", "rewrite", "rewrite_with_tombstone", "delete_to_tombstone"] = "tombstone"
    """A delete becomes a null value (tombstone, for which delete_to_tombstone is another word), nothing (drop), or
    the old row with `__deleted: "true"`, followed by a null value or not; with either rewrite, other rows have
    `__deleted: "false"`."""
    add_fields: list[str] = []
    """Fields behind the row's own, from the envelope: `op`, `ts_ms`, `lsn`, `source.ts_ms`, `transaction.id` …; with
    `:` another name, `source.ts_ms:committed`."""
    add_headers: list[str] = []
    """The same as headers; they rule out batched producing."""
    fields_prefix: str = "__"
    """Before the names of `add_fields`: `op` is `__op`, `source.ts_ms` is `__source_ts_ms`."""
    headers_prefix: str = "__"
    """Before the names of `add_headers`."""

    @field_validator("add_fields", "add_headers")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            path, _, alias = name.partition(":")
            if not metadata_path(path) or ":" in alias or name.endswith(":"):
                raise InvalidValue("names something that envelopes do not have", f"take from {', '.join(METADATA)}")
        return names


class OutboxColumnConfig(Section):
    """A column of the outbox table that goes into its events."""

    column: str
    """The column."""
    to: Literal["header", "envelope", "partition"]
    """header: a header of the record; envelope: a field beside `payload` (which makes the value a record of both);
    partition: the number of the partition that the record goes to, an integer."""
    name: str | None = None
    """Name of the header or field; default: the column's."""


class OutboxConfig(Section):
    """Rows inserted into an outbox table become events of their own, as Debezium's EventRouter makes them.

    Deletes from it and truncates are left out. Sinks that get changes and not records (the console, sinks of your own)
    do not notice.
    """

    table: str = "outbox"
    """Pattern over `schema.table` of the outbox tables; a name without a schema is in `public`."""
    messages: str | None = None
    """Prefix of transactional logical messages that are events too, without a table: JSON objects whose members are
    named as the columns are. One without `id` has its LSN for it. One that is no event goes to `{name}.dead-letter`."""
    id: str = "id"
    """Column of the event's id: the header `id`."""
    key: str | None = "aggregateid"
    """Column of the record's key; null: no key."""
    route: str = "aggregatetype"
    """Column that chooses the topic."""
    topic: str = "outbox.event.{route}"
    """The topic. `{route}` is the value of that column; named groups of `route_pattern` can be used in the same way."""
    route_pattern: str | None = None
    """Regular expression (Python's) that a value of `route` has to match as a whole; a value that does not is itself
    the topic."""
    payload: str = "payload"
    """Column of the record's value."""
    timestamp: str | None = None
    """Column of the record's timestamp, a timestamp with or without time zone. Default: the time it is written."""
    schema_version: str | None = None
    """Integer column: the version of the value's schema (connect.version), where the value is a record."""
    additional: list[OutboxColumnConfig] = []
    """Further columns, and where they go."""
    tombstone_on_empty_payload: bool = False
    """A payload that is NULL or blank becomes a null value."""
    expand_json_payload: bool = False
    """A payload of JSON becomes a value of its structure, with a schema inferred from it; with `format: json` the JSON
    itself and not a string that holds it. What is not JSON, or has no schema, is written as it is, with a warning."""
    empty_arrays: Literal["ignore", "optional_string"] = "ignore"
    """Members of such a payload that are empty arrays, of which nothing tells the type: left out, as Debezium does, so
    that their type is free when they have elements; or kept, as arrays of strings."""
    null_members: Literal["ignore", "optional_bytes"] = "ignore"
    """The same for members that are null: left out, or kept as null in a field of bytes."""
    updates: Literal["warn", "stop"] = "warn"
    """An UPDATE of an outbox row is no event: leave it out with a warning, or stop."""

    @field_validator("topic")
    @classmethod
    def _placeholders(cls, value: str) -> str:
        try:
            parts = [part[1:] for part in Formatter().parse(value) if part[1] is not None]
        except ValueError:
            parts = [("", "", None)]
        if not all(name and name.isidentifier() and not form and not conversion for name, form, conversion in parts):
            raise InvalidValue("has a placeholder that is no name", "write placeholders as `{route}`")
        return value

    @field_validator("messages")
    @classmethod
    def _prefix(cls, value: str | None) -> str | None:
        if value is not None and (not value or value.split(".")[0] == "pycdc"):
            raise InvalidValue("is no prefix of an application's messages", "take one that does not begin with `pycdc`")
        return value

    @field_validator("route_pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error:
            raise InvalidValue("is no regular expression", "write it as Python's re takes it") from None
        return value

    @model_validator(mode="after")
    def _expanded(self) -> OutboxConfig:
        if not self.expand_json_payload and (self.empty_arrays != "ignore" or self.null_members != "ignore"):
            raise InvalidValue(
                "says what becomes of members of payloads that stay text",
                "add `expand_json_payload: true`, or remove it",
            )
        return self

    @model_validator(mode="after")
    def _named(self) -> OutboxConfig:
        known = {"route", *re.compile(self.route_pattern or "").groupindex}
        if not {name for _, name, _, _ in Formatter().parse(self.topic) if name is not None} <= known:
            raise InvalidValue(
                "has a topic with a placeholder that nothing fills",
                f"use {', '.join(f'{{{name}}}' for name in sorted(known))}",
            )
        return self
