"""How values are written: `compatibility`, `values` and `rules`."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from pycdc.config.section import (
    InvalidValue,
    Section,
)


class CompatibilityConfig(Section):
    """Which side to take where Debezium's defaults lose information, or its lines differ: one switch a value.

    `compatibility: debezium-3.7`, `debezium-3.6`, `debezium` (the newest of these) or `honest` sets all of them. The
    Avro schemas are the same either way, except for the columns named under `arrays` and `geometric_types`.
    """

    null_with_default: Literal["default", "null"] = "null"
    """A NULL in a nullable column that has a default: Debezium's converter writes the default; null writes null."""
    unknown_before: Literal["zero", "marked"] = "marked"
    """A NOT NULL column that the old row does not tell: both write the default or zero, as the schema demands;
    `marked` adds the header `__pycdc.before` that names the columns that are really known."""
    name_columns: Literal["null", "text"] = "text"
    """A column of type `name`: Debezium streams NULL (and snapshots the text)."""
    infinite_dates: Literal["debezium", "debezium_3_6", "sentinel"] = "sentinel"
    """date 'infinity': Debezium writes numbers left by an overflow, different ones in snapshot and stream, and in its
    lines 3.6 and 3.7 (`debezium`); the sentinels are the greatest and the least 32-bit integer."""
    infinite_timestamps: Literal["limits", "debezium_3_6"] = "limits"
    """timestamp 'infinity': the ends of a 64-bit integer (of microseconds; their text in the mode isostring), as
    Debezium 3.7 writes it, or the numbers of 3.6."""
    end_of_day: Literal["kept", "debezium", "wrapped"] = "kept"
    """timetz '24:00:00+00', and time '24:00:00' in the modes isostring and structured: the end of a day. Debezium 3.7
    (`debezium`) keeps that of timetz; of time it makes `00:00:00Z`, and no structure; in 3.6 both are the beginning."""
    geometric_types: Literal["structs", "debezium", "unknown"] = "structs"
    """box, lseg, path, polygon, circle and line: structs with well-known binary, as Debezium 3.7 writes them;
    `debezium` also writes every array of them as NULL. `unknown`: types without a form, as for Debezium 3.6, so that
    `values.unknown_types` decides."""
    enum_labels: Literal["followed", "debezium", "kept"] = "followed"
    """The labels of an enum in the schema, after ALTER TYPE: they follow with the first row that has a new one; in
    Debezium 3.7 (`debezium`) but for arrays, and in 3.6 they are `kept` as they were at first."""
    quoted_names: Literal["kept", "stripped"] = "kept"
    """A column whose name begins and ends with a double quote: Debezium 3.6 streams it without them."""
    source_types: Literal["declared", "debezium", "debezium_3_6"] = "declared"
    """What `rules[].tell_types` tells of types: all of them as they are declared; `debezium` gives a numeric without
    precision a length and a scale, others in snapshots than in the stream; 3.6 calls columns that a sequence fills
    integers in the stream and serial in snapshots, and gives vectors no length."""
    notifications: Literal["debezium_3_7", "debezium_3_6"] = "debezium_3_7"
    """What `envelope.notification_topic` gets: 3.6 does not name the tables first, nor count rows and chunks."""
    arrays: Literal["null", "text"] = "text"
    """A column declared with several dimensions (`int[][]`): Debezium writes an array of NULLs; `text` writes
    Postgres' literal into a string column."""
    unrepresentable: Literal["null", "stop"] = "stop"
    """A value without a representation (NaN in a decimal, several dimensions in a one-dimensional array): Debezium
    warns and writes NULL or zero; `stop` ends the pipeline with an error that names the column and the way out."""
    generated_columns: Literal["snapshot", "never"] = "never"
    """Stored generated columns that the publication does not publish: logical replication never sends them; Debezium's
    snapshot does, under another schema."""
    column_defaults: Literal["stored", "debezium", "plain", "none"] = "stored"
    """Defaults of columns in schemas. stored: as the server would store them, char(n) padded and what is finer than the
    column rounded. debezium: not padded, and left out where they are finer. plain: as stored, without texts that begin
    with `{` or `[`, which Apicurio takes for JSON and refuses. none: no defaults."""
    partitioned_snapshot: Literal["once", "twice"] = "once"
    """Rows of a partitioned table: `once` reads them under the names that the stream uses (the partitions, or the
    root with via_partition_root); Debezium's snapshot reads them under both."""


HONEST = CompatibilityConfig()

DEBEZIUM = CompatibilityConfig(
    null_with_default="default",
    unknown_before="zero",
    name_columns="null",
    infinite_dates="debezium",
    end_of_day="debezium",
    geometric_types="debezium",
    enum_labels="debezium",
    source_types="debezium",
    arrays="null",
    column_defaults="debezium",
    unrepresentable="null",
    generated_columns="snapshot",
    partitioned_snapshot="twice",
)
"""The newest line, 3.7."""

DEBEZIUM_3_6 = DEBEZIUM.model_copy(
    update={
        "infinite_dates": "debezium_3_6",
        "infinite_timestamps": "debezium_3_6",
        "end_of_day": "wrapped",
        "geometric_types": "unknown",
        "enum_labels": "kept",
        "quoted_names": "stripped",
        "source_types": "debezium_3_6",
        "notifications": "debezium_3_6",
    }
)

DEBEZIUM_VALUES: Final = {"unknown_types": "debezium", "money_fraction_digits": 2}
"""Options outside of `compatibility` whose defaults follow it."""

PRESETS: Final = {
    "honest": HONEST,
    "debezium": DEBEZIUM,
    "debezium-3.7": DEBEZIUM,
    "debezium-3.6": DEBEZIUM_3_6,
}
"""What one word for all switches of `compatibility` means."""

_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")


class ValuesConfig(Section):
    """How column values are written."""

    decimal: Literal["precise", "string", "double"] = "precise"
    """numeric: two's-complement bytes with the column's scale, text, or a float64."""
    time: Literal[
        "adaptive", "adaptive_microseconds", "connect", "microseconds", "nanoseconds", "isostring", "structured"
    ] = "adaptive"
    """date, time and timestamp: Debezium's time.precision.mode. structured (of its line 3.7): timetz, timestamptz and
    interval too, all of them by their parts."""
    interval: Literal["numeric", "string"] = "numeric"
    """interval: microseconds with a month of 365.25/12 days, or ISO 8601."""
    hstore: Literal["json", "map"] = "json"
    """hstore: a string of JSON, or a map."""
    binary: Literal["bytes", "base64", "base64-url-safe", "hex"] = "bytes"
    """bytea: bytes, or a string in that notation."""
    money_fraction_digits: Annotated[int | None, Field(ge=0, le=10)] = None
    """Digits after the point of money in records. Default: as many as the server's lc_monetary gives it; 2 where
    `compatibility` is one of Debezium's. With fewer than the server's, `compatibility.unrepresentable` decides about
    amounts that need more."""
    unknown_types: Literal["text", "drop", "debezium"] = "text"
    """Types without a codec (composite, tsquery, extensions): as Postgres' text, or not at all; `debezium` drops
    what Debezium drops. The default follows `compatibility`: text for honest, debezium for debezium."""
    unavailable: str = "__debezium_unavailable_value"
    """What stands for a TOASTed value that an UPDATE did not touch and Postgres did not send. `hex:` and bytes, as in
    Debezium: bytea columns get these bytes, all others what they are in UTF-8."""
    encoding_errors: Literal["stop", "replace"] = "stop"
    """Text that is not UTF-8 (databases in SQL_ASCII): stop, or write U+FFFD in place of what is wrong."""

    @field_validator("unavailable")
    @classmethod
    def _placeholder(cls, value: str) -> str:
        return _of_placeholder(value)

    @property
    def unavailable_octets(self) -> bytes:
        return octets_of_placeholder(self.unavailable)

    @property
    def unavailable_text(self) -> str:
        return self.unavailable_octets.decode("utf-8", "replace")


class HashRule(Section):
    """Debezium's column.mask.hash.v2: hex of the digest of salt and value, cut to the column's length."""

    columns: list[str]
    """Names of columns."""
    algorithm: Literal["sha256", "sha384", "sha512", "sha1", "md5"] = "sha256"
    """The digest."""
    salt: SecretStr
    """Mixed in, so that nobody finds the values by trying; the same salt gives the same hashes."""


class TableRule(Section):
    """What happens to the rows of the tables that match. Compiled into the table's plan: no cost per row but its own.

    Rules apply in order; of two rules that name the same column's treatment the later wins.
    """

    tables: str = "*"
    """Pattern over `schema.table`; `*` matches any characters."""
    include_columns: list[str] | None = None
    """Only these columns, and always those of the key."""
    exclude_columns: list[str] = []
    """All columns but these; those of the key stay."""
    mask: dict[str, Annotated[int, Field(ge=0, le=1000)]] = {}
    """Column to that many asterisks."""
    hash: list[HashRule] = []
    """Columns whose values are replaced by a salted digest."""
    truncate: dict[str, Annotated[int, Field(ge=0)]] = {}
    """Column to a length in characters."""
    rename: dict[str, str] = {}
    """Column to the name of its field."""
    key: list[str] | None = None
    """Columns of the message key, in place of the primary key; an empty list writes null keys."""
    tell_types: list[str] = []
    """Columns whose fields tell their type in Postgres, its length and scale, and the column's name, as parameters
    `__debezium.source.column.*` of their schemas; `*` matches any characters."""
    tell_types_of: list[str] = []
    """Types whose columns do so too, whatever their names, as these parameters call them (`NUMERIC`); `*` matches any
    characters."""
    topic: str | None = None
    """Topic in place of `{name}.{schema}.{table}`; those three placeholders are filled in."""
    on_error: Literal["stop", "park"] | None = None
    """What becomes of a row that cannot be encoded, or whose transform fails: the pipeline stops (the default); or the
    row is parked, and later rows of its key behind it, until `pycdc parked` retries or drops it."""
    on_too_large: Literal["stop", "park", "truncate"] | None = None
    """What becomes of a row that is larger than its topic takes. `truncate`: columns of `truncatable` are cut as far as
    is necessary, and the record's header `__pycdc.truncated` names them with the bytes that they had; a row that is
    still too large stops the pipeline. Default: as `on_error`."""
    truncatable: list[str] = []
    """Columns that `on_too_large: truncate` may cut: text, varchar, char, citext and bytea, not of the key."""

    @property
    def spares(self) -> bool:
        """Whether some rows are parked or cut rather than stop the pipeline."""
        return self.on_error == "park" or self.on_too_large in ("park", "truncate")

    @model_validator(mode="after")
    def _cuts_something(self) -> TableRule:
        if self.on_too_large == "truncate" and not self.truncatable:
            raise InvalidValue("truncates rows that are too large, and no column may be cut", "set `truncatable`")
        return self


def _of_placeholder(value: str) -> str:
    if value.startswith("hex:") and not _HEX.fullmatch(value[4:]):
        raise InvalidValue("is no `hex:` with bytes behind it", "write two hexadecimal digits for each byte")
    return value


def octets_of_placeholder(text: str) -> bytes:
    """Return the bytes that stand for a value that was not sent."""
    return bytes.fromhex(text[4:]) if text.startswith("hex:") else text.encode()
