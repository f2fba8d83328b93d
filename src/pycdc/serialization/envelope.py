"""Debezium's schemas: key, value, envelope, and those of the topics beside the tables' own.

Source: debezium.md 2.1, 2.5 and the recorded schemas; the order of fields and attributes is theirs, because a
registry tells schemas apart by their text.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Final

from pycdc.config.envelope import Adjustment
from pycdc.errors import ConfigError
from pycdc.model.change import Table
from pycdc.rows.plan import PlannedField, TablePlan
from pycdc.rows.schema import Schema
from pycdc.serialization.names import field_name, record_name, record_prefix

STRING: Final = Schema("string")
INT64: Final = Schema("int64")
OPTIONAL_STRING: Final = STRING.as_optional()
OPTIONAL_INT64: Final = INT64.as_optional()

_SNAPSHOT: Final = Schema(
    "string",
    optional=True,
    name="io.debezium.data.Enum",
    version=1,
    parameters=(("allowed", "true,first,first_in_data_collection,last_in_data_collection,last,false,incremental"),),
    default="false",
)
SOURCE: Final = Schema(
    "struct",
    name="io.debezium.connector.postgresql.Source",
    version=1,
    fields=(
        ("version", STRING),
        ("connector", STRING),
        ("name", STRING),
        ("ts_ms", INT64),
        ("snapshot", _SNAPSHOT),
        ("db", STRING),
        ("sequence", OPTIONAL_STRING),
        ("ts_us", OPTIONAL_INT64),
        ("ts_ns", OPTIONAL_INT64),
        ("schema", STRING),
        ("table", STRING),
        ("txId", OPTIONAL_INT64),
        ("lsn", OPTIONAL_INT64),
        ("xmin", OPTIONAL_INT64),
        ("origin", OPTIONAL_STRING),
        ("origin_lsn", OPTIONAL_INT64),
    ),
)
TRANSACTION: Final = Schema(
    "struct",
    optional=True,
    name="event.block",
    version=1,
    fields=(("id", STRING), ("total_order", INT64), ("data_collection_order", INT64)),
)
TIMES: Final = (("ts_ms", OPTIONAL_INT64), ("ts_us", OPTIONAL_INT64), ("ts_ns", OPTIONAL_INT64))

MESSAGE_KEY: Final = Schema(
    "struct",
    name="io.debezium.connector.postgresql.MessageKey",
    version=1,
    fields=(("prefix", OPTIONAL_STRING),),
)
MESSAGE_VALUE: Final = Schema(
    "struct",
    name="io.debezium.connector.postgresql.MessageValue",
    version=1,
    fields=(
        ("op", STRING),
        ("ts_ms", OPTIONAL_INT64),
        ("source", SOURCE),
        ("transaction", TRANSACTION),
        (
            "message",
            Schema(
                "struct",
                name="io.debezium.connector.postgresql.Message",
                version=1,
                fields=(("prefix", OPTIONAL_STRING), ("content", Schema("bytes", optional=True))),
            ),
        ),
    ),
)


def message_value(*, text: bool) -> Schema:
    """`MESSAGE_VALUE`, or the same with text for content: a notation of the bytes."""
    if not text:
        return MESSAGE_VALUE
    *fields, (name, message) = MESSAGE_VALUE.fields
    block = replace(message, fields=(message.fields[0], ("content", OPTIONAL_STRING)))
    return replace(MESSAGE_VALUE, fields=(*fields, (name, block)))


TRANSACTION_KEY: Final = Schema(
    "struct",
    name="io.debezium.connector.common.TransactionMetadataKey",
    version=1,
    fields=(("id", STRING),),
)
TRANSACTION_VALUE: Final = Schema(
    "struct",
    name="io.debezium.connector.common.TransactionMetadataValue",
    version=1,
    fields=(
        ("status", STRING),
        ("id", STRING),
        ("event_count", OPTIONAL_INT64),
        (
            "data_collections",
            Schema(
                "array",
                optional=True,
                items=Schema(
                    "struct",
                    optional=True,
                    name="event.collection",
                    version=1,
                    fields=(("data_collection", STRING), ("event_count", INT64)),
                ),
            ),
        ),
        ("ts_ms", INT64),
    ),
)
HEARTBEAT_KEY: Final = Schema(
    "struct",
    name="io.debezium.connector.common.ServerNameKey",
    version=1,
    fields=(("serverName", STRING),),
)
HEARTBEAT_VALUE: Final = Schema(
    "struct", name="io.debezium.connector.common.Heartbeat", version=1, fields=(("ts_ms", INT64),)
)

NOTIFICATION_KEY: Final = Schema(
    "struct", name="io.debezium.connector.common.NotificationKey", version=1, fields=(("id", STRING),)
)
NOTIFICATION_VALUE: Final = Schema(
    "struct",
    name="io.debezium.connector.common.Notification",
    version=1,
    fields=(
        ("id", STRING),
        ("type", STRING),
        ("aggregate_type", STRING),
        ("additional_data", Schema("map", optional=True, items=STRING)),
        ("timestamp", INT64),
    ),
)


def key_schema(plan: TablePlan, prefix: str, *, adjust: Adjustment) -> Schema | None:
    """Return the key's struct, None for a table without a key."""
    if not plan.key:
        return None
    name = record_name(f"{record_prefix(prefix, plan.table)}.Key", adjust=adjust)
    return Schema("struct", name=name, fields=_fields(plan.table, plan.key, adjust=adjust))


def row_schema(plan: TablePlan, prefix: str, *, adjust: Adjustment) -> Schema:
    """Return the row's struct, as it stands in ``before`` and ``after``."""
    name = record_name(f"{record_prefix(prefix, plan.table)}.Value", adjust=adjust)
    return Schema("struct", optional=True, name=name, fields=_fields(plan.table, plan.fields, adjust=adjust))


def envelope_schema(plan: TablePlan, prefix: str, *, adjust: Adjustment) -> Schema:
    row = row_schema(plan, prefix, adjust=adjust)
    return Schema(
        "struct",
        name=record_name(f"{record_prefix(prefix, plan.table)}.Envelope", adjust=adjust),
        version=2,
        fields=(
            ("before", row),
            ("after", row),
            ("source", SOURCE),
            ("transaction", TRANSACTION),
            ("op", STRING),
            *TIMES,
        ),
    )


def _fields(table: Table, fields: tuple[PlannedField, ...], *, adjust: Adjustment) -> tuple[tuple[str, Schema], ...]:
    """Names and schemas; two columns whose names become the same would overwrite each other, so they are refused."""
    named = [(field_name(field.name, adjust=adjust), field) for field in fields]
    twice = [name for name, count in Counter(name for name, _ in named).items() if count > 1]
    if twice:
        columns = ", ".join(repr(field.column.name) for name, field in named if name == twice[0])
        raise ConfigError(
            f"columns {columns} of table {table} would both be field {twice[0]!r}",
            hint="give one of them another field name with rules[].rename",
        )
    return tuple((name, field.schema) for name, field in named)
