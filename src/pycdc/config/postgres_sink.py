"""`sink.postgres`: routes, conflicts and the inbox."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from pycdc.config.sagas import SagaConfig
from pycdc.config.section import (
    InvalidValue,
    Section,
    function_path,
    percent_encoded,
)
from pycdc.config.values import _of_placeholder

RouteOperation = Literal["insert", "update", "upsert", "delete", "soft_delete", "delta"]

_WITHOUT_ROW: Final = ("delete", "soft_delete", "delta")


class ConflictRule(Section):
    """What happens where an event meets a row that somebody else changed. One word is short for `default`.

    The incoming side is where the events come from, the existing one is where the rows are.
    """

    default: Literal["apply_remote", "keep_local", "last_write_wins", "version", "park", "python"] = "apply_remote"
    """The event's row is written; the row stays; the later of both; the higher version (needs `version`); the event is
    parked with its followers, for `pycdc conflicts`; or `function` decides."""
    columns: dict[str, Literal["apply_remote", "keep_local", "delta"]] = {}
    """Columns that are decided on their own. A column of keep_local is written with a new row only, conflict or
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
    tie: Literal["incoming", "existing"] = "incoming"
    """For last_write_wins: who wins where times are equal. In the pipeline that goes the other way it is the other
    word, so that both sides keep the same row."""
    function: Annotated[str | None, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] = None
    """For python: `module:function`, which is called with a `Conflict` and returns "apply_remote", "keep_local", "park"
    or a dict of columns and values."""

    @model_validator(mode="before")
    @classmethod
    def _word(cls, data: Any) -> Any:
        return {"default": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _fits(self) -> ConflictRule:
        if (self.default == "python") != (self.function is not None):
            raise InvalidValue("needs `default: python` and `function` together", "write both, or none of them")
        if (self.default == "version" or self.detect == "version") and self.version is None:
            raise InvalidValue("compares versions without a column", "add `version: column`")
        if self.version is not None and (self.default != "version" or self.detect not in ("auto", "version")):
            raise InvalidValue("has a version that decides nothing", "write `default: version`, or remove `version`")
        partly = sorted(name for name, word in self.columns.items() if word != "keep_local")
        if partly and self.default == "keep_local" and self.detect != "old_values":
            raise InvalidValue(
                f"writes {', '.join(partly)} into a row that is kept, which then looks like the incoming one",
                "add `detect: old_values`, which does not ask who wrote a row",
            )
        if partly and self.default == "last_write_wins" and self.row_time is None:
            raise InvalidValue(
                f"writes {', '.join(partly)} into a row that keeps its other values, which then looks younger",
                "add `row_time: column`, which does not ask when a row was written",
            )
        if self.row_time is not None and self.event_time is None:
            raise InvalidValue(
                f"compares column {self.row_time} with the time of the source's commit, which is another clock",
                "add `event_time: field`, the one that goes into the column of row_time",
            )
        if self.skew and self.row_time is not None:
            raise InvalidValue("has both skew and row_time, whose times are compared as they are", "remove one of them")
        timed = {"event_time", "row_time", "skew", "tie"} & self.model_fields_set
        if timed and self.default != "last_write_wins":
            raise InvalidValue(f"has {', '.join(sorted(timed))}", "write `default: last_write_wins`, or remove it")
        return self

    @property
    def named(self) -> set[str]:
        """The columns that the table must have."""
        return {name for name in (self.version, self.row_time, *self.columns) if name is not None}


class Route(Section):
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
    operation: RouteOperation = "upsert"
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
    key_reuse: Literal["possible", "never"] = "possible"
    """Whether a value of the route's key may pass from one row of the source to another, by a delete and an insert or
    by an update, where the message key has other fields. With several partitions nothing tells then which came first,
    so such a topic is refused; `never` takes it all the same, on your word."""
    deferrable_key: bool = False
    """The key in the source is DEFERRABLE, so that within a transaction a row may be inserted under a key before the
    row that has it is deleted or gets another one. Records of pycdc say so themselves; set it for a topic that another
    capture fills. Its topics are applied event by event."""
    conflict: ConflictRule | None = None
    """Where somebody else changed the row. Default: the event's row is written, and what it meets is recorded; for
    `operation: insert` a row that is there is an error. Routes into one table have the same rule."""

    @model_validator(mode="after")
    def _fits(self) -> Route:
        if (self.operation == "delta") != bool(self.delta):
            raise InvalidValue("needs `operation: delta` and `delta` together", "write both, or none of them")
        if self.function is not None and (self.set is not None or self.operation in _WITHOUT_ROW):
            raise InvalidValue(
                "has a function for its row, and also `set`, or an operation that writes no row",
                "remove `set`; choose insert, update or upsert; or use `transforms`",
            )
        if (self.deletion == "soft_delete" or self.operation == "soft_delete") != bool(self.soft_delete):
            raise InvalidValue(
                "needs `soft_delete: {column: value}` where it deletes softly, and only there",
                "add it, or remove it",
            )
        return self

    @field_validator("function")
    @classmethod
    def _function_path(cls, value: str | None) -> str | None:
        return None if value is None else function_path(value)

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


class InboxConfig(Section):
    """Events that a producer sent twice, told by an id of their own: the second is counted and left out."""

    id: str = "$headers.id"
    """Where the id is: a field's path, as in routes. An event without one cannot be applied, but for a null value."""
    ttl: _Ttl = "7d"
    """How long ids are kept in the table `inbox`, in seconds, minutes, hours or days: `90s`, `7d`."""

    @property
    def seconds(self) -> int:
        return _seconds_of(self.ttl)


class LoopsConfig(Section):
    """Changes that pycdc wrote into another database, and whose capture passed them on (`skip_origins` there)."""

    max_hops: Annotated[int, Field(ge=1)] = 1
    """How many databases pycdc may write a change into, one after another, this one included. 1 takes only what
    applications wrote. In a ring of n databases that pass changes on, n - 1 lets each change reach every one of them
    once."""
    refuse_origins: list[str] = []
    """Names of pipelines; changes that one of them carried first are left out: those that carry changes out of this
    database, whose own changes must not come back. `*` matches any characters."""


class ConflictsConfig(Section):
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


class PostgresSinkConfig(Section):
    """Write events into tables of Postgres 14 to 18: rows and offsets in one transaction."""

    dsn: SecretStr
    """libpq connection string or URI."""
    routes: list[Route] = []
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
    conflicts: ConflictsConfig = ConflictsConfig()
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
    inbox: InboxConfig | None = None
    """Leave out events that were sent twice. Default: they are applied twice."""
    loops: LoopsConfig = LoopsConfig()
    """Which changes that pycdc carried before are taken."""
    sagas: dict[str, SagaConfig] = {}
    """Business transactions over several services that are followed by their events, by name; `pycdc saga` shows them.
    They need no routes."""

    @model_validator(mode="after")
    def _does_something(self) -> PostgresSinkConfig:
        if not self.routes and not self.sagas:
            raise InvalidValue("has neither routes nor sagas", "add `routes`")
        return self

    _dsn_encoded = field_validator("dsn")(percent_encoded)

    @field_validator("unavailable")
    @classmethod
    def _placeholder(cls, value: str) -> str:
        return _of_placeholder(value)
