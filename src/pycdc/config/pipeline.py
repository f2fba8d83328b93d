"""The YAML as pydantic models. Every option is documented here; docs/configuration.md is generated from this file."""

from __future__ import annotations

import re
from datetime import datetime
from string import Formatter
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from pycdc.errors import ConfigError
from pycdc.model.patterns import qualified


class Refused(ValueError):
    """What a rule of these models objects to, and what to write instead. Neither holds the value."""

    def __init__(self, fact: str, remedy: str) -> None:
        super().__init__(f"{fact}: {remedy}")
        self.fact = fact
        self.remedy = remedy


class Model(BaseModel):
    """What all sections share: unknown keys are errors, values do not change after loading, inputs stay unprinted."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _headings(cls, data: Any) -> Any:
        """A heading with nothing under it (all its lines commented out) is a section of defaults."""
        if not isinstance(data, dict):
            return data
        empty: dict[str, Any] = {
            name: {}
            for name, info in cls.model_fields.items()
            if name in data and data[name] is None and isinstance(info.annotation, type)
            if issubclass(info.annotation, Model)
        }
        return {**data, **empty}


def _one_of(section: Model, *names: str) -> None:
    """Exactly one of these keys may be set."""
    if sum(getattr(section, name) is not None for name in names) != 1:
        raise Refused(f"needs exactly one of {', '.join(names)}", f"write one of {', '.join(names)} under it")


def _present(data: Any) -> Any:
    """`console:` with nothing under it chooses the console."""
    return {key: {} if value is None else value for key, value in data.items()} if isinstance(data, dict) else data


class Compatibility(Model):
    """Where Debezium's defaults lose information, or its lines differ, which side to take: one switch a value, all with
    one word.

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


HONEST = Compatibility()
DEBEZIUM = Compatibility(
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
_DEBEZIUM_VALUES: Final = {"unknown_types": "debezium", "money_fraction_digits": 2}
"""Options outside of `compatibility` whose defaults follow it."""
PRESETS: Final = {
    "honest": HONEST,
    "debezium": DEBEZIUM,
    "debezium-3.7": DEBEZIUM,
    "debezium-3.6": DEBEZIUM_3_6,
}
"""What one word for all switches of `compatibility` means."""


_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")


def _of_placeholder(value: str) -> str:
    if value.startswith("hex:") and not _HEX.fullmatch(value[4:]):
        raise Refused("is no `hex:` with bytes behind it", "write two hexadecimal digits for each byte")
    return value


def octets_of_placeholder(text: str) -> bytes:
    """The bytes that stand for a value that was not sent."""
    return bytes.fromhex(text[4:]) if text.startswith("hex:") else text.encode()


class Values(Model):
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


_URI = re.compile(r"postgres(?:ql)?://(?:[^@/]*@)?([^?]*)", re.DOTALL)


def _encoded(dsn: SecretStr | None) -> SecretStr | None:
    """A password with `@` or `/` in a URI ends early, and libpq's errors call its rest the host or the port."""
    found = None if dsn is None else _URI.match(dsn.get_secret_value())
    if found is not None and "@" in found[1]:
        raise Refused(
            "is a URI with an `@` too many",
            "%-encode special characters of user and password: `@` as %40, `/` as %2F, `:` as %3A",
        )
    return dsn


class HashRule(Model):
    """Debezium's column.mask.hash.v2: hex of the digest of salt and value, cut to the column's length."""

    columns: list[str]
    """Names of columns."""
    algorithm: Literal["sha256", "sha384", "sha512", "sha1", "md5"] = "sha256"
    """The digest."""
    salt: SecretStr
    """Mixed in, so that nobody finds the values by trying; the same salt gives the same hashes."""


class TableRule(Model):
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


class PostgresSource(Model):
    """Capture from Postgres 14 to 18 by logical replication."""

    dsn: SecretStr
    """libpq connection string or URI."""
    tables: Annotated[list[str], Field(min_length=1)] = ["*.*"]
    """Patterns over `schema.table`; `*` matches any characters; a name without a schema is in `public`. Tables of
    pycdc itself (schema `pycdc`, table `pycdc_offsets`) are captured only where a pattern names them."""
    exclude_tables: list[str] = []
    """Patterns of tables to leave out of those."""
    slot: str | None = None
    """Replication slot; default `pycdc_{name}`."""
    publication: str | None = None
    """Publication; default `pycdc_{name}`."""
    manage_publication: bool = True
    """Create the publication, add tables to it and take out those that left this configuration. With false, `pycdc
    doctor` and `pycdc apply` print the SQL for an owner to run."""
    via_partition_root: bool = False
    """Publish partitions under their root table (publish_via_partition_root) when creating the publication."""
    snapshot: Literal["initial", "never", "only", "when_needed"] = "initial"
    """initial: rows that exist first, once; never: only changes; only: rows that exist, then end; when_needed: as
    initial, and again where the slot was lost."""
    snapshot_method: Literal["pinned", "chunks"] = "pinned"
    """How rows are read at first. pinned: all as of one moment, which the source keeps for as long as that takes.
    chunks: short transactions while the stream goes on, as after a restart and for `pycdc snapshot`."""
    snapshot_chunk: Annotated[int, Field(ge=1)] = 20_000
    """Rows of a chunk, at most."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes that read and encode the rows of a pinned snapshot. 1: the pipeline's own."""
    executor: str | None = None
    """Where they run instead: `package.module:name` of what makes a `concurrent.futures.Executor`, called without
    arguments; a cluster's, say. `workers` is how many ranges it reads at the same time."""
    skip_origins: list[str] = ["*"]
    """Names of pycdc pipelines whose writes into this database are not captured: what the reverse direction wrote must
    not go back. `*` matches any characters; an empty list captures their writes too."""
    skip_scope: Literal["transaction", "tables"] = "transaction"
    """What of such a write is not captured: the whole transaction, or only rows of the tables that the pipeline's
    routes write, so that what triggers write into other tables is captured."""
    messages: bool = True
    """Deliver what pg_logical_emit_message writes, to the topic `{name}.message`. A message that is larger than Kafka
    takes goes to the topic `{name}.dead-letter`, in parts: any role may write one."""
    status_interval: Annotated[float, Field(gt=0, le=60)] = 1.0
    """Seconds between status updates; they do not depend on traffic or on the sink."""
    silence_timeout: Annotated[float, Field(gt=0)] = 60.0
    """Seconds without a byte from the server, after which the connection counts as dead."""
    slot_timeout: Annotated[float, Field(ge=0)] = 120.0
    """Seconds to wait while another session reads the slot, before that counts as a fault, with its pid. The pipeline
    tries again, as after every fault that may pass, for as long as `retries.give_up_after` allows."""
    failover: bool = False
    """Create the slot with FAILOVER (Postgres 17 and later)."""
    max_batch_changes: Annotated[int, Field(ge=1)] = 2048
    """Changes that are handed to the sink at once, at most."""
    max_batch_bytes: Annotated[int, Field(ge=1024)] = 4 * 1024 * 1024
    """The same in bytes; one change that is larger is a batch of its own."""
    publication_check: Annotated[float, Field(gt=0)] = 30.0
    """Seconds between two comparisons of the database's tables and the publication with this configuration."""
    tables_added: Literal["follow", "ignore"] = "follow"
    """What is done about a table that was not captured before and now matches. follow: it is added to the publication,
    and its rows are read while the stream goes on. ignore: it waits for `pycdc apply`."""
    publication_drift: Literal["stop", "resync"] = "stop"
    """What is done about a captured table that somebody took out of the publication, or of which it publishes other
    rows or columns than before. stop: an error with the remedy. resync: the table is published again and read as a
    whole; rows deleted in between stay with the consumers."""

    _dsn_encoded = field_validator("dsn")(_encoded)

    @field_validator("publication")
    @classmethod
    def _publication_name(cls, value: str | None) -> str | None:
        if value is not None and not (0 < len(value.encode()) < 64 and value.isprintable()):
            raise Refused("is no legal name", "use 1 to 63 bytes of printable characters")
        return value

    @field_validator("slot")
    @classmethod
    def _slot_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[a-z0-9_]{1,63}", value):
            raise Refused("is no legal name", "use lower-case letters, digits and underscores, 63 at most")
        return value

    @field_validator("executor")
    @classmethod
    def _importable(cls, value: str | None) -> str | None:
        if value is not None and not _FUNCTION.fullmatch(value):
            raise Refused("is no path to a function", "write it as `package.module:name`")
        return value

    @property
    def parallel(self) -> bool:
        """Whether rows of a snapshot are encoded by others than the pipeline itself."""
        return self.workers > 1 or self.executor is not None


class Topics(Model):
    """Topics that pycdc makes. Existing topics are left as they are."""

    create: bool = True
    """False: a missing topic is an error that names the command to create it."""
    partitions: Annotated[int, Field(ge=1)] = 1
    """Partitions of a new topic."""
    replication: Annotated[int, Field(ge=-1)] = -1
    """Replication factor; -1 is the broker's default."""
    settings: dict[str, str] = {}
    """Topic settings such as cleanup.policy or retention.ms."""


class OAuth(Model):
    """Bearer tokens by OAuth's client credentials, asked for anew before they expire. TLS is as for the registry."""

    token_url: Annotated[str, Field(repr=False)]
    """Where tokens are given."""
    client_id: str
    """Name of the client."""
    client_secret: SecretStr
    """Its secret."""
    scope: str | None = None
    """Scopes, with spaces between."""
    audience: str | None = None
    """Audience, where the server wants one named."""


class Registry(Model):
    """A schema registry that speaks Confluent's REST API."""

    url: Annotated[str, Field(repr=False)]
    """Base URL, with the path of the API where it has one (Apicurio: `/apis/ccompat/v7`)."""
    username: str | None = None
    """User for basic authentication."""
    password: SecretStr | None = None
    """Its password."""
    ca: str | None = None
    """File with the certificate authority, for https."""
    certificate: str | None = None
    """File with the client's certificate, for registries that ask for one."""
    key: str | None = None
    """File with the key of `certificate`."""
    key_password: SecretStr | None = None
    """Password of that file, where it is encrypted."""
    token: SecretStr | None = None
    """A bearer token, in place of user and password."""
    oauth: OAuth | None = None
    """Where to get bearer tokens, in place of `token`."""
    register_schemas: bool = True
    """False: only look schemas up; a missing one is an error."""
    subjects: Literal["topic", "record", "topic_record"] = "topic"
    """Subject name strategy."""
    timeout: Annotated[float, Field(gt=0)] = 30.0
    """Seconds that faults of the registry may last before the pipeline rewinds."""
    on_incompatible: Literal["stop", "park", "new_subject_version_none"] = "stop"
    """A table's new schema that the registry refuses. stop: end the pipeline, with the difference; park: send the
    table's rows to the topic `<name>.dead-letter` until the registry takes it; new_subject_version_none: register it
    with the subject's compatibility set to NONE, and put the level back."""

    @model_validator(mode="after")
    def _one_identity(self) -> Registry:
        named = [name for name in ("username", "token", "oauth") if getattr(self, name) is not None]
        if len(named) > 1:
            raise Refused(f"has {' and '.join(named)}", "choose one of username and password, token, oauth")
        return self

    @model_validator(mode="after")
    def _may_register(self) -> Registry:
        if self.on_incompatible != "stop" and not self.register_schemas:
            raise Refused(
                f"has on_incompatible: {self.on_incompatible}, which registers schemas, and register_schemas: false",
                "set `on_incompatible: stop`, or let it register",
            )
        return self


_SECRET_OPTION = re.compile(
    r"password|secret|token|jaas|\.pem$|oauthbearer\.config|credentials|user\.info", re.IGNORECASE
)


Options = Annotated[dict[str, str | int | float | bool | SecretStr], Field(repr=False)]


def _kept_secret(options: Any) -> Any:
    if not isinstance(options, dict):
        return options
    return {
        name: SecretStr(value) if isinstance(value, str) and _SECRET_OPTION.search(str(name)) else value
        for name, value in options.items()
    }


class KafkaClient(Model):
    """Brokers and registry."""

    brokers: str
    """Addresses to start from, `host:port` with commas between (bootstrap.servers)."""
    registry: Registry | None = None
    """Needed for Avro. A plain URL will do."""
    options: Options = {}
    """librdkafka settings, passed on as they are (`security.protocol`, `sasl.*`, `ssl.*` …). Passwords and keys
    among them are kept secret."""

    _secret_options = field_validator("options", mode="before")(_kept_secret)

    @model_validator(mode="before")
    @classmethod
    def _registry_url(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("registry"), str):
            data = {**data, "registry": {"url": data["registry"]}}
        return data


class KafkaSource(KafkaClient):
    """Read topics, as one of any number of processes of a consumer group. Only what is committed is read."""

    topics: Annotated[list[str], Field(min_length=1)]
    """Names of topics; `*` matches any characters, and topics made later are found too."""
    group: str | None = None
    """Consumer group; default: the pipeline's name. A group writes into one database."""
    format: Literal["auto", "avro", "json"] = "auto"
    """avro: Confluent's wire format; json: an object, or Debezium's `schema` and `payload`; auto: by the first byte."""
    key_format: Literal["auto", "avro", "json", "string", "bytes", "int", "long"] = "auto"
    """What message keys are. avro and json as above; string: UTF-8; bytes: as they are; int, long: what Java's
    IntegerSerializer and LongSerializer write; auto: Avro where the first byte is zero, JSON where it is an object,
    else text. A key is read where a route needs it, and else may be anything."""
    values: Values | None = None
    """How the capture that wrote the records was told to write values: its own section `values`, where the records do
    not tell. JSON without a schema tells neither dates from numbers nor bytes from texts; the table's columns then
    stand for the source's, with their precision and scale. Default: what has more than one meaning is refused."""
    start: Literal["earliest", "latest"] = "earliest"
    """Where a partition begins that this pipeline has never read. Afterwards the database knows."""
    max_batch_events: Annotated[int, Field(ge=1)] = 2000
    """Events that are applied in one transaction, at most."""
    max_batch_bytes: Annotated[int, Field(ge=1024)] = 16 * 1024 * 1024
    """The same in bytes of keys and values; one event that is larger is a batch of its own."""
    max_waiting_events: Annotated[int, Field(ge=1)] = 20000
    """Events that are kept while one before them waits for what other events bring (a parent's row, a unique value that
    is given up), until all of it can be applied in one transaction; and bytes, four times `max_batch_bytes`. When there
    are more, their partitions are read no further, and others are."""

    @model_validator(mode="after")
    def _registry_needed(self) -> KafkaSource:
        if self.format == "avro" and self.registry is None:
            raise Refused("has no registry, which Avro needs", "add `registry: http://…`, or choose `format: json`")
        return self


class KafkaSink(KafkaClient):
    """Publish to Kafka."""

    format: Literal["avro", "json", "json_schema"] = "avro"
    """avro: Confluent's wire format; json: Debezium's payload; json_schema: the same with the schema beside it."""
    delivery: Literal["at_least_once"] = "at_least_once"
    """at_least_once: after a crash, what was written since the last stored position comes again."""
    topics: Topics = Topics()
    """How topics are made."""
    delivery_timeout: Annotated[float, Field(gt=0)] = 120.0
    """Seconds until a record that no broker took counts as lost, and the pipeline rewinds."""

    @model_validator(mode="after")
    def _registry_needed(self) -> KafkaSink:
        if self.format == "avro" and self.registry is None:
            raise Refused("has no registry, which Avro needs", "add `registry: http://…`, or choose `format: json`")
        return self


Operation = Literal["insert", "update", "upsert", "delete", "soft_delete", "delta"]
_WITHOUT_ROW: Final = ("delete", "soft_delete", "delta")


class ConflictRule(Model):
    """What happens where an event meets a row that somebody else changed. One word is short for `default`.

    `service` is the side that the events come from, `monolith` the side of the rows.
    """

    default: Literal["service_wins", "monolith_wins", "last_write_wins", "version", "park", "python"] = "service_wins"
    """The event's row is written; the row stays; the later of both; the higher version (needs `version`); the event is
    parked with its followers, for `pycdc conflicts`; or `function` decides."""
    columns: dict[str, Literal["service_wins", "monolith_wins", "delta"]] = {}
    """Columns that are decided on their own. A column of monolith_wins is written with a new row only, conflict or
    not. delta always adds what the event changed (after - before) to what is there."""
    detect: Literal["auto", "origin", "version", "old_values", "none"] = "auto"
    """How a foreign change is seen: by the replication origin of the row's last writer (`track_commit_timestamp`); by
    `version`; by comparing the row with the event's `before`. auto: by version where a column is named, else by
    origin where the server and the role allow it."""
    version: str | None = None
    """Column that grows with each change, a number or a time. An event that does not bring a higher one is out of
    date."""
    event_time: str | None = None
    """For last_write_wins: field (as in `set`) with the time of the event, a number of milliseconds or ISO 8601.
    Default: the envelope's `source.ts_ms`, else the record's."""
    row_time: str | None = None
    """For last_write_wins: column with the row's time, compared with `event_time`. Default: when its last writer
    committed."""
    skew: Annotated[float, Field(ge=0)] = 0.0
    """For last_write_wins: seconds within which clocks do not decide, but `tie` does, or an event whose `before` is
    the row wins."""
    tie: Literal["service", "monolith"] = "service"
    """For last_write_wins: who wins where times are equal. In the pipeline that goes the other way it is the other
    word, so that both sides keep the same row."""
    function: Annotated[str | None, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] = None
    """For python: `module:function`, which is called with a `Conflict` and returns "service", "monolith", "park" or
    a dict of columns and values."""

    @model_validator(mode="before")
    @classmethod
    def _word(cls, data: Any) -> Any:
        return {"default": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _fits(self) -> ConflictRule:
        if (self.default == "python") != (self.function is not None):
            raise Refused("needs `default: python` and `function` together", "write both, or none of them")
        if (self.default == "version" or self.detect == "version") and self.version is None:
            raise Refused("compares versions without a column", "add `version: column`")
        if self.version is not None and (self.default != "version" or self.detect not in ("auto", "version")):
            raise Refused("has a version that decides nothing", "write `default: version`, or remove `version`")
        partly = sorted(name for name, word in self.columns.items() if word != "monolith_wins")
        if partly and self.default == "monolith_wins" and self.detect != "old_values":
            raise Refused(
                f"writes {', '.join(partly)} into a row that the monolith keeps, which then looks like the service's",
                "add `detect: old_values`, which does not ask who wrote a row",
            )
        if partly and self.default == "last_write_wins" and self.row_time is None:
            raise Refused(
                f"writes {', '.join(partly)} into a row that keeps its other values, which then looks younger",
                "add `row_time: column`, which does not ask when a row was written",
            )
        if self.row_time is not None and self.event_time is None:
            raise Refused(
                f"compares column {self.row_time} with the time of the source's commit, which is another clock",
                "add `event_time: field`, the one that goes into the column of row_time",
            )
        if self.skew and self.row_time is not None:
            raise Refused("has both skew and row_time, whose times are compared as they are", "remove one of them")
        timed = {"event_time", "row_time", "skew", "tie"} & self.model_fields_set
        if timed and self.default != "last_write_wins":
            raise Refused(f"has {', '.join(sorted(timed))}", "write `default: last_write_wins`, or remove it")
        return self

    @property
    def named(self) -> set[str]:
        """The columns that the table must have."""
        return {name for name in (self.version, self.row_time, *self.columns) if name is not None}


class Route(Model):
    """Events of a topic into a table. Several routes may take the same event: all of them apply, in one transaction.

    A field is named by its path in the event (`itemId`, `item.id`). `$key.itemId` looks in the message key,
    `$headers.name` in the headers; `$topic`, `$partition`, `$offset` and `$timestamp` are the record's own.
    """

    topic: str
    """Name of a topic; `*` matches any characters."""
    when: dict[str, str | int | bool] = {}
    """Only events whose fields (or `$headers.name`) have these values: the type of a business event, for instance.
    Numbers are compared as numbers, and `true` is a text's `true` too, as headers have it; null is no value."""
    table: str
    """The table, `schema.table`; without a schema in `public`."""
    operation: Operation = "upsert"
    """What an event does. insert, update, upsert and delta write the row; delete and soft_delete are for events that
    mean a removal. delta adds the columns under `delta` to what is there."""
    on_delete: Literal["delete", "soft_delete", "ignore"] | None = None
    """What a delete does (op `d`, or a null value). Default: delete for insert, update and upsert, else ignore."""
    key: dict[str, str] = {}
    """Column to field: which row. Default: the primary key's columns, from fields of the same names. A field that the
    row lacks is looked up in the message key."""
    set: dict[str, str] | None = None
    """Column to field: what is written. A field that an event lacks leaves its column alone; null writes NULL.
    Default: every field, into the column of its name; for `operation: delta` none."""
    function: str | None = None
    """In place of `set`, where paths are not enough: `package.module:name` of a Python function from the change to a
    dict of columns. Those of the key that it does not return are found as `key` says. None: this route writes
    nothing. Deletes do not ask it."""
    delta: dict[str, str] = {}
    """Column to field, for `operation: delta`: what is added."""
    constants: dict[str, str | int | float | bool | None] = {}
    """Column to value, written with every insert, update, upsert and delta."""
    soft_delete: dict[str, str | int | float | bool | None] = {}
    """Column to value: what marks a row as deleted; `$timestamp` is the record's time."""
    ops: Annotated[list[Literal["c", "u", "d", "r"]], Field(min_length=1)] | None = None
    """Of records that tell their operation, only these are taken: created, updated, deleted, or read by a snapshot.
    Where the rows belong to this side, leave `r` out: a snapshot of their former owner tells what they were. Default:
    all, but for `operation: delta`, which adds no row of a snapshot unless `r` is named."""
    on_truncate: Literal["refuse", "skip", "truncate"] = "refuse"
    """What a TRUNCATE of the source does (op `t`). refuse: it cannot be applied, as `on_error` says; truncate: all rows
    of the table are deleted, which needs a topic of one partition, since no other has an order between them; skip:
    nothing, and it is counted."""
    missing: Literal["error", "ignore"] = "error"
    """A row that an update or a delta does not find: an error, so that nothing is lost silently, or nothing."""
    replica_identity: Literal["auto", "full"] = "auto"
    """What the old row of a delete tells, where its record does not say so: `auto` takes the message key, and the rest
    where the schema proves that it was sent; `full` takes all of it, for source tables with REPLICA IDENTITY FULL."""
    conflict: ConflictRule | None = None
    """Where somebody else changed the row. Default: the event's row is written, and what it meets is recorded; for
    `operation: insert` a row that is there is an error. Routes into one table have the same rule."""

    @model_validator(mode="after")
    def _fits(self) -> Route:
        if (self.operation == "delta") != bool(self.delta):
            raise Refused("needs `operation: delta` and `delta` together", "write both, or none of them")
        if self.function is not None and (self.set is not None or self.operation in _WITHOUT_ROW):
            raise Refused(
                "has a function for its row, and also `set`, or an operation that writes no row",
                "remove `set`; choose insert, update or upsert; or use `transforms`",
            )
        if (self.deletion == "soft_delete" or self.operation == "soft_delete") != bool(self.soft_delete):
            raise Refused(
                "needs `soft_delete: {column: value}` where it deletes softly, and only there",
                "add it, or remove it",
            )
        return self

    @field_validator("function")
    @classmethod
    def _function_path(cls, value: str | None) -> str | None:
        return None if value is None else _function(value)

    @property
    def deletion(self) -> Literal["delete", "soft_delete", "ignore"]:
        """What a delete does."""
        if self.on_delete is not None:
            return self.on_delete
        return "delete" if self.operation in ("insert", "update", "upsert") else "ignore"


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_Ttl = Annotated[str, Field(pattern=r"^[1-9][0-9]*[smhd]$")]


def _seconds_of(ttl: str) -> int:
    return int(ttl[:-1]) * _SECONDS[ttl[-1]]


class Inbox(Model):
    """Events that a producer sent twice, told by an id of their own: the second is counted and left out."""

    id: str = "$headers.id"
    """Where the id is: a field's path, as in routes. An event without one cannot be applied, but for a null value."""
    ttl: _Ttl = "7d"
    """How long ids are kept in the table `inbox`, in seconds, minutes, hours or days: `90s`, `7d`."""

    @property
    def seconds(self) -> int:
        return _seconds_of(self.ttl)


class Loops(Model):
    """Changes that pycdc wrote into another database, and whose capture passed them on (`skip_origins` there)."""

    max_hops: Annotated[int, Field(ge=1)] = 1
    """How many databases pycdc may write a change into, one after another, this one included. 1 takes only what
    applications wrote. In a ring of n databases that pass changes on, n - 1 lets each change reach every one of them
    once."""
    refuse_origins: list[str] = []
    """Names of pipelines; changes that one of them carried first are left out: those that carry changes out of this
    database, whose own changes must not come back. `*` matches any characters."""


class Conflicts(Model):
    """What is kept of conflicts, in the table `conflicts`, in the transaction that writes the rows."""

    record: bool = True
    """Keep them. Without, they are decided and counted all the same."""
    values: bool = True
    """Keep both rows. Without: the key, times and origins."""
    since: datetime | None = None
    """What others wrote before this time is no conflict. Default: when the pipeline first ran."""
    ttl: _Ttl = "7d"
    """For last_write_wins: how long times of events and deletes of rows are remembered, in the table `write_times`. An
    event that comes later than that is compared with the row's commit, and makes a deleted row anew."""

    @property
    def seconds(self) -> int:
        return _seconds_of(self.ttl)


class PostgresSink(Model):
    """Write events into tables of Postgres 14 to 18: rows and offsets in one transaction."""

    dsn: SecretStr
    """libpq connection string or URI."""
    routes: Annotated[list[Route], Field(min_length=1)]
    """Which events go where. Parents first: within a batch, rows are written in the order of the routes."""
    on_error: Literal["stop", "park"] = "stop"
    """A record that cannot be decoded, or a row that the database refuses: end with an error that names it; or put it
    into the table `parked`, with all that follow under its key, and go on."""
    bookkeeping: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$")] = "pycdc"
    """Schema of pycdc's own tables (offsets, parked events, conflicts); made if missing."""
    unavailable: Annotated[str, Field(min_length=1)] = "__debezium_unavailable_value"
    """What stands for a value that was not sent; its column is left alone. `hex:` and bytes, as in Debezium."""
    search_path: list[str] | None = None
    """Schemas that the tables' triggers find without naming them, behind `pg_catalog`. Default: those of the role's
    search_path. A schema in which strangers may create is refused: their operators would run as this role."""
    conflicts: Conflicts = Conflicts()
    """What is kept of conflicts."""
    max_attempts: Annotated[int, Field(ge=1)] = 10
    """How often a transaction is tried that meets deadlocks or serialization failures, before the pipeline rewinds."""
    wait_for_parents: Annotated[float, Field(ge=0)] = 30.0
    """Seconds that an event may wait for what events of any partition bring later: the row that a foreign key names, a
    unique value that another row gives up, the delete of a row that names it. Its partition waits meanwhile, and is
    applied together with them. Then `on_error` decides."""
    referential_actions: Literal["wait", "act"] = "wait"
    """A delete of a row that rows of another topic's table name by ON DELETE CASCADE, SET NULL or SET DEFAULT. wait: it
    waits (`wait_for_parents`) until events have removed or changed those rows, as those of Postgres do. act: the
    database changes them; for sources whose events do not tell what their foreign keys did (MySQL)."""
    max_transaction_seconds: Annotated[float, Field(gt=0)] = 30.0
    """A statement that takes longer is cancelled, and the batch applied in smaller transactions."""
    inbox: Inbox | None = None
    """Leave out events that were sent twice. Default: they are applied twice."""
    loops: Loops = Loops()
    """Which changes that pycdc carried before are taken."""

    _dsn_encoded = field_validator("dsn")(_encoded)

    @field_validator("unavailable")
    @classmethod
    def _placeholder(cls, value: str) -> str:
        return _of_placeholder(value)


class ConsoleSink(Model):
    """Print each change as a line of JSON."""

    pretty: bool = False
    """Spread each change over several lines."""


class NullSink(Model):
    """Serialise, then throw away: for measurements."""

    format: Literal["avro", "json", "json_schema"] = "avro"
    """What to serialise to, as in `sink.kafka.format`."""


class CustomSink(Model):
    """A sink of your own: `module:factory`, called with `options` as keyword arguments."""

    factory: str
    """`package.module:name` of a class or function, importable from where pycdc runs."""
    options: Annotated[dict[str, Any], Field(repr=False)] = {}
    """Keyword arguments of the factory."""

    @field_validator("factory")
    @classmethod
    def _importable(cls, value: str) -> str:
        if not _FUNCTION.fullmatch(value):
            raise Refused("is no path to a class or function", "write it as `package.module:name`")
        return value


class Source(Model):
    """Exactly one."""

    postgres: PostgresSource | None = None
    """A Postgres database."""
    kafka: KafkaSource | None = None
    """Topics of a Kafka cluster: the way back."""

    @model_validator(mode="after")
    def _one(self) -> Source:
        _one_of(self, "postgres", "kafka")
        return self


class Sink(Model):
    """Exactly one."""

    kafka: KafkaSink | None = None
    """Topics of a Kafka cluster."""
    postgres: PostgresSink | None = None
    """Tables of a Postgres database: the way back."""
    console: ConsoleSink | None = None
    """Standard output."""
    null: NullSink | None = None
    """Nowhere."""
    custom: CustomSink | None = None
    """A Python object."""

    @model_validator(mode="before")
    @classmethod
    def _chosen(cls, data: Any) -> Any:
        return _present(data)

    @model_validator(mode="after")
    def _one(self) -> Sink:
        _one_of(self, "kafka", "postgres", "console", "null", "custom")
        return self


class Offsets(Model):
    """Where the position is stored: a compacted Kafka topic (default with a Kafka sink), a file, or Postgres."""

    kafka: KafkaOffsets | None = None
    """A compacted topic."""
    file: FileOffsets | None = None
    """A file on a disk that outlives the process."""
    postgres: PostgresOffsets | None = None
    """A table, which is made when first needed."""

    @model_validator(mode="before")
    @classmethod
    def _chosen(cls, data: Any) -> Any:
        return _present(data)

    @model_validator(mode="after")
    def _one(self) -> Offsets:
        _one_of(self, "kafka", "file", "postgres")
        return self


class KafkaOffsets(Model):
    """The position in a topic."""

    topic: str | None = None
    """Default `pycdc-offsets-{name}`: compacted, one partition."""
    brokers: str | None = None
    """Default: the sink's brokers and options."""
    options: Options = {}
    """librdkafka settings of the connection to them (`security.protocol`, `sasl.*`, `ssl.*` …). Where the sink is
    Kafka, its own hold too."""

    _secret_options = field_validator("options", mode="before")(_kept_secret)


class FileOffsets(Model):
    """The position in a file."""

    path: str
    """The file. It is replaced, never written in place."""


class PostgresOffsets(Model):
    """The position in a table."""

    dsn: SecretStr | None = None
    """Default: the source's."""
    table: str = "pycdc_offsets"
    """The table, `schema.table` or just `table`."""

    _dsn_encoded = field_validator("dsn")(_encoded)


Adjustment = bool | Literal["strict"]


class Envelope(Model):
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
    """The path of METADATA that `name` stands for, as Debezium resolves it; "" where there is none."""
    return next((path for path in METADATA if name and name in (path, path.partition(".")[2])), "")


class Flatten(Model):
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
                raise Refused("names something that envelopes do not have", f"take from {', '.join(METADATA)}")
        return names


class OutboxColumn(Model):
    """A column of the outbox table that goes into its events."""

    column: str
    """The column."""
    to: Literal["header", "envelope", "partition"]
    """header: a header of the record; envelope: a field beside `payload` (which makes the value a record of both);
    partition: the number of the partition that the record goes to, an integer."""
    name: str | None = None
    """Name of the header or field; default: the column's."""


class Outbox(Model):
    """Rows inserted into an outbox table become events of their own, as Debezium's EventRouter makes them.

    Deletes from it and truncates are left out. Sinks that get changes and not records (the console, sinks of your own)
    do not notice.
    """

    table: str = "outbox"
    """Pattern over `schema.table` of the outbox tables; a name without a schema is in `public`."""
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
    additional: list[OutboxColumn] = []
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
            raise Refused("has a placeholder that is no name", "write placeholders as `{route}`")
        return value

    @field_validator("route_pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error:
            raise Refused("is no regular expression", "write it as Python's re takes it") from None
        return value

    @model_validator(mode="after")
    def _expanded(self) -> Outbox:
        if not self.expand_json_payload and (self.empty_arrays != "ignore" or self.null_members != "ignore"):
            raise Refused(
                "says what becomes of members of payloads that stay text",
                "add `expand_json_payload: true`, or remove it",
            )
        return self

    @model_validator(mode="after")
    def _named(self) -> Outbox:
        known = {"route", *re.compile(self.route_pattern or "").groupindex}
        if not {name for _, name, _, _ in Formatter().parse(self.topic) if name is not None} <= known:
            raise Refused(
                "has a topic with a placeholder that nothing fills",
                f"use {', '.join(f'{{{name}}}' for name in sorted(known))}",
            )
        return self


class CheckpointRule(Model):
    """How often the position is stored. Duplicates after a crash are what was written since."""

    interval: Annotated[float, Field(ge=0)] = 1.0
    """Seconds between stored positions."""
    changes: Annotated[int, Field(ge=1)] = 100_000
    """Changes after which the position is stored earlier than that."""


class Retries(Model):
    """What happens after a fault that may pass."""

    first_delay: Annotated[float, Field(gt=0)] = 0.2
    """Seconds before the first attempt to go on; doubled each time."""
    max_delay: Annotated[float, Field(gt=0)] = 30.0
    """Seconds between attempts, at most."""
    give_up_after: Annotated[float, Field(ge=0)] = 0.0
    """Seconds without progress after which the pipeline ends with exit code 1; 0 means never."""


class Http(Model):
    """Metrics (`/metrics`), health (`/healthz`, `/status`) and probes (`/livez`, `/readyz`)."""

    enabled: bool = True
    """Serve them while `pycdc run` runs."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 9464
    """0 chooses a free port and logs it."""
    token: SecretStr | None = None
    """Needed when `host` is not a loopback address: clients send `Authorization: Bearer …`. Probes need none."""
    unhealthy_after: Annotated[float, Field(gt=0)] = 60.0
    """Seconds without a message from the server, or with a sink that makes no progress."""

    @field_validator("token")
    @classmethod
    def _token_not_empty(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value():
            raise Refused("is empty, and would let everybody in", "set it, or remove the key")
        if value is not None and not re.fullmatch(r"[^\s\x00-\x1f\x7f]+", value.get_secret_value()):
            raise Refused("holds what no header can carry", "write it without spaces and control characters")
        return value

    @model_validator(mode="after")
    def _token_needed(self) -> Http:
        if self.enabled and self.host not in ("127.0.0.1", "::1", "localhost") and self.token is None:
            raise Refused("listens beyond loopback without a token", "add `token: ${PYCDC_HTTP_TOKEN}`")
        return self


_FUNCTION: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def _function(path: str) -> str:
    if not _FUNCTION.fullmatch(path):
        raise Refused("is no path to a function", "write it as `package.module:name`")
    return path


class Transform(Model):
    """A Python function that gets each change, decoded, and returns it, changed or not; or None to drop it, or several.

    `package.module:name` alone will do for a function of all tables or topics. Functions apply in this order. Only
    tables and topics that one of them names pay for decoding.
    """

    function: str
    """`package.module:name`, importable from where pycdc runs. The command `pycdc` also looks in the folder of this
    file."""
    tables: Annotated[list[str], Field(min_length=1)] = ["*"]
    """Patterns over `schema.table` of the tables it is for, where the source is Postgres."""
    topics: Annotated[list[str], Field(min_length=1)] = ["*"]
    """Patterns of the topics it is for, where the source is Kafka."""
    columns: dict[str, str] = {}
    """Columns that it adds, or gives another type: name to SQL type, `integer`, `numeric(10,2)`, `text[]`,
    `bigint not null` … Each row that it returns must have them."""
    drop: list[str] = []
    """Columns that it removes. No row that it returns may have them."""
    on_error: Literal["stop", "dead_letter"] = "stop"
    """What an exception in it means, where the source is Postgres: end with an error that names function, table and
    position; or send the record as it was to the topic `{name}.dead-letter` (sink Kafka) and go on. Where the source is
    Kafka, `sink.postgres.on_error` says."""

    _importable = field_validator("function")(_function)

    @model_validator(mode="after")
    def _added_or_dropped(self) -> Transform:
        both = sorted(self.columns.keys() & set(self.drop))
        if both:
            raise Refused(f"adds and drops column {both[0]!r}", "name it under `columns` or under `drop`")
        return self

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, data: Any) -> Any:
        return {"function": data} if isinstance(data, str) else data


_ABOUT_TABLES: Final = {"tables", "columns", "drop", "on_error"}

_ABOUT_CAPTURE = {"compatibility", "values", "rules", "envelope", "flatten", "outbox", "offsets", "signals"}


class Signals(Model):
    """Where Debezium's signals come from: to read tables again, to pause, resume or stop that, to write into the log.

    Whoever may write there may have a snapshot's filter run, as `filter_role` or else as this pipeline's role: one
    expression, in a read-only transaction.
    """

    table: str | None = None
    """The signal table, `schema.table`: what is inserted into its columns id, type and data is a signal. Its rows are
    delivered only where `source.postgres.tables` names it too."""
    topic: str | None = None
    """The signal topic: its messages whose key is the pipeline's name."""
    brokers: str | None = None
    """Those of the signal topic. Default: the sink's."""
    options: Options = {}
    """librdkafka settings of the connection to them (`security.protocol`, `sasl.*`, `ssl.*` …). Where the brokers are
    the sink's, its own hold too."""
    group: str | None = None
    """Consumer group that keeps the topic's offset. Default `pycdc-signals-{name}`."""
    key: SecretStr | None = None
    """Signs what `pycdc snapshot` and `pycdc apply` ask of a running pipeline, 16 characters at least. Default: random,
    made by the pipeline and kept with its position; needed where no position is stored."""

    filter_role: str | None = None
    """Role whose rights filters have, those of `pycdc snapshot --where` too (SET ROLE): it may read the captured tables
    and nothing else. The pipeline's role must be a member of it. Default: the pipeline's role."""
    filter_timeout: Annotated[float, Field(gt=0)] = 30.0
    """Seconds that reading a chunk under a filter may take, while the stream waits; then the snapshot is given up."""

    _secret_options = field_validator("options", mode="before")(_kept_secret)

    @field_validator("table")
    @classmethod
    def _one_table(cls, value: str | None) -> str | None:
        if value is not None and ("*" in value or value.count(".") > 1 or not all(value.split("."))):
            raise Refused("is not the name of one table", "write it as `schema.table`")
        return value

    @field_validator("key")
    @classmethod
    def _key_long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 16:
            raise Refused("is too short: it could be found by trying", "give it 16 characters at least, random ones")
        return value

    @property
    def schema_and_table(self) -> tuple[str, str] | None:
        """The table by schema and name; a name alone is in `public`."""
        if self.table is None:
            return None
        schema, dot, name = self.table.partition(".")
        return (schema, name) if dot else ("public", schema)


class Config(Model):
    """One pipeline: one source, one sink, one process."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,62}$")]
    """Topic prefix; slot, publication and offsets derive from it."""
    source: Source
    """Where changes come from."""
    sink: Sink
    """Where they go."""
    compatibility: Compatibility = Compatibility()
    """`debezium-3.7`, `debezium-3.6`, `debezium` (the newest of these), `honest` (the default) or a section of
    switches."""
    values: Values = Values()
    """How column values are written."""
    rules: list[TableRule] = []
    """What to do with columns, keys and topics, by table."""
    envelope: Envelope = Envelope()
    """What is emitted beside the rows."""
    transforms: list[Transform] = []
    """Python functions that see each row or event."""
    flatten: Flatten | None = None
    """Rows without an envelope. Default: with it."""
    outbox: Outbox | None = None
    """Events from an outbox table. Default: its rows are like those of other tables."""
    signals: Signals = Signals()
    """Where Debezium's signals come from. Default: nowhere; `pycdc snapshot` needs none."""
    offsets: Offsets | None = None
    """Where the position is stored. Default: with a Kafka sink a topic of the same cluster, otherwise nowhere, and each
    start begins with what the slot holds."""
    checkpoint: CheckpointRule = CheckpointRule()
    """How often the position is stored."""
    retries: Retries = Retries()
    """What happens after a fault that may pass."""
    http: Http = Http()
    """Metrics and health over HTTP."""

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        word = data.get("compatibility")
        if isinstance(word, str) and word in PRESETS:
            data = {**data, "compatibility": PRESETS[word]}
            values = data.get("values") or {}
            if word != "honest" and isinstance(values, dict):
                data["values"] = {**_DEBEZIUM_VALUES, **values}
                if word == "debezium-3.6" and values.get("time") == "structured":
                    raise Refused(
                        "has values.time: structured, which Debezium 3.6 has not",
                        "write `compatibility: debezium-3.7`, or another mode",
                    )
        return data

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        if (self.source.kafka is None) != (self.sink.postgres is None):
            raise Refused(
                "has a source and a sink that do not go together",
                "read from Postgres into kafka, console, null or custom; or from Kafka into postgres",
            )
        unused = sorted(_ABOUT_CAPTURE & self.model_fields_set) if self.source.kafka is not None else []
        if unused:
            raise Refused(
                f"has {', '.join(unused)}, which has no meaning where the source is Kafka",
                "remove it: offsets are stored with the rows, and columns are chosen by sink.postgres.routes",
            )
        return self

    @model_validator(mode="after")
    def _spare_offsets(self) -> Config:
        """Storing a position is a change of its table: captured, it would make another position, and so on for ever."""
        source, store = self.source.postgres, None if self.offsets is None else self.offsets.postgres
        if source is None or store is None or store.dsn not in (None, source.dsn):
            return self
        table = qualified(store.table)
        if table not in [*map(qualified, source.tables), *source.exclude_tables] and "*" not in table:
            source.exclude_tables.append(table)
        return self

    @model_validator(mode="after")
    def _workers_fit(self) -> Config:
        source = self.source.postgres
        if source is not None and source.parallel and self.sink.kafka is None and self.sink.null is None:
            raise Refused(
                "has workers, which hand back records, and a sink that takes rows",
                "remove source.postgres.workers and executor, or write to kafka",
            )
        return self

    @model_validator(mode="after")
    def _transforms_fit(self) -> Config:
        reverse = self.source.kafka is not None
        strange = _ABOUT_TABLES if reverse else {"topics"}
        for transform in self.transforms:
            unused = sorted(strange & transform.model_fields_set)
            if unused:
                raise Refused(
                    f"has {', '.join(unused)} under transforms, which has no meaning where the source is "
                    f"{'Kafka' if reverse else 'Postgres'}",
                    f"remove it, and choose by `{'topics' if reverse else 'tables'}`",
                )
            if transform.on_error == "dead_letter" and self.sink.kafka is None and self.sink.null is None:
                raise Refused(
                    "has a transform with on_error: dead_letter, and no Kafka to send dead letters to",
                    "set `on_error: stop`, or let the function return None for what it cannot do",
                )
        return self

    @model_validator(mode="after")
    def _signals_from_somewhere(self) -> Config:
        if self.signals.topic is not None and self.signals.brokers is None and self.sink.kafka is None:
            raise Refused("has a signal topic without brokers, and the sink is not Kafka", "set signals.brokers")
        return self

    @property
    def dead_letters(self) -> str:
        """The topic of what transforms failed at."""
        return f"{self.name}.dead-letter"

    @property
    def message_topic(self) -> str:
        """The topic of logical messages."""
        return f"{self.name}.message"

    @property
    def functions(self) -> dict[str, str]:
        """Users' functions, by the option that names them."""
        routes = [] if self.sink.postgres is None else self.sink.postgres.routes
        named = {f"transforms[{i}].function": t.function for i, t in enumerate(self.transforms)}
        for i, route in enumerate(routes):
            decides = route.conflict.function if route.conflict else None
            named[f"sink.postgres.routes[{i}].function"] = route.function or ""
            named[f"sink.postgres.routes[{i}].conflict.function"] = decides or ""
        return {where: path for where, path in named.items() if path}

    @property
    def capture(self) -> PostgresSource:
        """The database that is captured. Raises ConfigError where the source is another."""
        if self.source.postgres is None:
            raise ConfigError(
                f"pipeline {self.name} reads from Kafka, and this is only there for those that read from Postgres",
                hint="use `pycdc doctor` and `pycdc run`; where it is, the table apply_offsets of its database says",
            )
        return self.source.postgres

    @field_validator("flatten", "outbox", mode="before")
    @classmethod
    def _present(cls, data: Any) -> Any:
        return {} if data is None else data

    @model_validator(mode="after")
    def _subjects(self) -> Config:
        kafka = self.sink.kafka
        if self.outbox is None or kafka is None or kafka.format != "avro" or kafka.registry is None:
            return self
        if kafka.registry.subjects != "topic":
            raise Refused(
                "has an outbox, whose keys are no Avro records and so have no names for subjects",
                "set `sink.kafka.registry.subjects: topic`",
            )
        return self

    @property
    def slug(self) -> str:
        """The name as a slot or a publication may carry it."""
        return re.sub(r"[^a-z0-9_]", "_", self.name.lower())

    @property
    def slot(self) -> str:
        return self.capture.slot or f"pycdc_{self.slug}"[:63]

    @property
    def publication(self) -> str:
        return self.capture.publication or f"pycdc_{self.slug}"[:63]


Offsets.model_rebuild()
