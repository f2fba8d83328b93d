"""`source.postgres` and `signals`."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from pycdc.config.kafka import ClientOptions, keep_secret
from pycdc.config.section import (
    FUNCTION_PATH,
    InvalidValue,
    Section,
    percent_encoded,
)
from pycdc.config.wal_guard import WalGuardConfig


class PostgresSourceConfig(Section):
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
    streaming: bool = False
    """Have the server send large transactions while they are in progress, so that it need not sort them on its disk and
    send all of it only after the commit. Nothing is delivered before the commit: until then they are kept here, and
    rows of what was rolled back are dropped."""
    two_phase: bool = False
    """Have the server (Postgres 15 and later) send a transaction when it is prepared. It is delivered when it is
    committed (COMMIT PREPARED), and kept until then. Without this, it is sent only then. It cannot be taken back: the
    server goes on to do so for this slot."""
    spool_memory: Annotated[int, Field(ge=64 * 1024)] = 64 * 1024 * 1024
    """Bytes of such transactions that are kept in memory; what is more is on disk."""
    spool_folder: str | None = None
    """Folder of their files, which have no names, only this process can read, and are gone when it ends. What they hold
    is compressed, not encrypted. Default: the system's folder for temporary files."""
    status_interval: Annotated[float, Field(gt=0, le=60)] = 1.0
    """Seconds between status updates; they do not depend on traffic or on the sink."""
    silence_timeout: Annotated[float, Field(gt=0)] = 60.0
    """Seconds without a byte from the server, after which the connection counts as dead."""
    slot_timeout: Annotated[float, Field(ge=0)] = 120.0
    """Seconds to wait while another session reads the slot, before that counts as a fault, with its pid. The pipeline
    tries again, as after every fault that may pass, for as long as `retries.give_up_after` allows."""
    standby: bool = False
    """Wait for as long as another instance reads the slot, instead of `slot_timeout`, and take over when it dies: at
    once where its connection ends, and after `standby_timeout` where it is silent, because it is frozen or its machine
    is gone. Any number of instances may run so; it needs `delivery: exactly_once`, which keeps a frozen instance that
    wakes up from writing."""
    standby_timeout: Annotated[float, Field(ge=1)] = 3.0
    """Seconds without a status update (see `status_interval`) after which the instance that reads the slot counts as
    dead, and its session is ended."""
    failover: bool = False
    """Have the slot come along to standbys that sync slots (FAILOVER, Postgres 17 and later). A slot that is there
    becomes one that does at the next start."""
    wal_guard: WalGuardConfig | None = None
    """How much WAL the slot may hold back. Without it, only what the server itself limits is watched."""
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

    _dsn_encoded = field_validator("dsn")(percent_encoded)

    @field_validator("publication")
    @classmethod
    def _publication_name(cls, value: str | None) -> str | None:
        if value is not None and not (0 < len(value.encode()) < 64 and value.isprintable()):
            raise InvalidValue("is no legal name", "use 1 to 63 bytes of printable characters")
        return value

    @field_validator("slot")
    @classmethod
    def _slot_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[a-z0-9_]{1,63}", value):
            raise InvalidValue("is no legal name", "use lower-case letters, digits and underscores, 63 at most")
        return value

    @field_validator("executor")
    @classmethod
    def _importable(cls, value: str | None) -> str | None:
        if value is not None and not FUNCTION_PATH.fullmatch(value):
            raise InvalidValue("is no path to a function", "write it as `package.module:name`")
        return value

    @model_validator(mode="after")
    def _dropping_leads_to_a_snapshot(self) -> Self:
        if self.wal_guard is not None and self.wal_guard.drop_slot and self.snapshot != "when_needed":
            raise InvalidValue(
                "drops the slot (wal_guard.drop_slot), and the pipeline would refuse to go on without it",
                "set `snapshot: when_needed`, so that it starts over with a snapshot",
            )
        return self

    @model_validator(mode="after")
    def _two_phase_without_failover(self) -> Self:
        if self.two_phase and self.failover:
            raise InvalidValue(
                "has both two_phase and failover, which Postgres does not promise to keep right together",
                "leave two_phase out: a prepared transaction is delivered at its commit all the same",
            )
        return self

    @model_validator(mode="after")
    def _silence_is_longer_than_between_updates(self) -> Self:
        if self.standby and self.standby_timeout < 2 * self.status_interval:
            raise InvalidValue(
                "has a standby_timeout that is less than two of its status_interval",
                "make it longer: one late update must not cost an instance its slot",
            )
        return self

    @property
    def parallel(self) -> bool:
        """Whether rows of a snapshot are encoded by others than the pipeline itself."""
        return self.workers > 1 or self.executor is not None


class SignalsConfig(Section):
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
    options: ClientOptions = {}
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

    _secret_options = field_validator("options", mode="before")(keep_secret)

    @field_validator("table")
    @classmethod
    def _one_table(cls, value: str | None) -> str | None:
        if value is not None and ("*" in value or value.count(".") > 1 or not all(value.split("."))):
            raise InvalidValue("is not the name of one table", "write it as `schema.table`")
        return value

    @field_validator("key")
    @classmethod
    def _key_long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 16:
            raise InvalidValue(
                "is too short: it could be found by trying", "give it 16 characters at least, random ones"
            )
        return value

    @property
    def schema_and_table(self) -> tuple[str, str] | None:
        """The table by schema and name; a name alone is in `public`."""
        if self.table is None:
            return None
        schema, dot, name = self.table.partition(".")
        return (schema, name) if dot else ("public", schema)
