"""The cut-over of a group of tables: the pipelines both ways, what moves, and what must hold before it does."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator

from pycdc.config.facade import Name
from pycdc.config.section import InvalidValue, Section, percent_encoded


class MovedTableConfig(Section):
    """A table that moves, whole or by columns."""

    old: str
    """`schema.table` in the old system's database."""
    new: str
    """`schema.table` in the new system's database."""
    old_columns: list[str] = []
    """Only these columns move: afterwards the old system may write the rest of the row, and the rows themselves are
    still its own. Empty: the whole table."""
    new_columns: list[str] = []
    """With `old_columns`: the columns that the new system may write afterwards."""

    @field_validator("old", "new")
    @classmethod
    def _has_schema(cls, value: str) -> str:
        if value.count(".") != 1 or value.startswith(".") or value.endswith("."):
            raise InvalidValue("is no `schema.table`", "write it as `public.stock`")
        return value


class CutoverGatesConfig(Section):
    """What must hold before anything moves."""

    max_lag: Annotated[float, Field(gt=0)] = 1.0
    """Seconds from a commit to its rows in the other database, either way, checkpoints included."""
    max_verification_age: Annotated[float, Field(gt=0)] = 3600.0
    """Seconds since the last verification without a difference."""
    max_transaction: Annotated[float, Field(gt=0)] = 5.0
    """Seconds that the oldest open transaction of the old database may have lasted: the fence waits for it."""
    max_clock_difference: Annotated[float, Field(gt=0)] = 1.0
    """Seconds between the clocks of both databases."""


class DecommissionConfig(Section):
    """What becomes of the old tables and of what moved them, once the group is closed."""

    quiet: Annotated[float, Field(ge=0)] = 86_400.0
    """Seconds for which nobody may have read or written the old tables before they go."""
    archive: str | None = None
    """Folder beside this file, into which the old tables are written before they are dropped: `schema.table.csv.gz`
    and the statements that make the table again. An archive that is there is never replaced: `schema.table.2.csv.gz`
    is the next one. Without it they are dropped only."""
    keep_topics: bool = False
    """Leave the topics between both systems to others who read them."""
    old_roles: list[str] = []
    """Roles of the old database that only the pipelines needed, to be dropped."""
    new_roles: list[str] = []
    """The same of the new database."""


class CutoverGroupConfig(Section):
    """Tables that move together."""

    capture: str
    """Path of the pipeline from the old database to Kafka, beside this file."""
    apply: str
    """Path of the pipeline from Kafka to the new database."""
    reverse_capture: str
    """Path of the pipeline from the new database to Kafka."""
    reverse_apply: str
    """Path of the pipeline from Kafka to the old database."""
    old_dsn: SecretStr
    """The old database, as the owner of its tables: the fence is made of triggers."""
    new_dsn: SecretStr
    """The new database, as the owner of its tables."""
    tables: Annotated[list[MovedTableConfig], Field(min_length=1)]
    """What moves."""
    routes: list[Name] = []
    """The façade's routes of writes that move with them."""
    reads: list[Name] = []
    """The façade's routes of reads that must be at 100 % before writes move."""
    max_pause: Annotated[float, Field(gt=0, le=300)] = 5.0
    """Seconds that writes may be held. Not done by then: the fence falls by itself, and writes stay where they were."""
    settle: Annotated[float, Field(ge=0, le=30)] = 0.1
    """Seconds between holding writes at the façade and the fence, in which requests that are under way end."""
    verify: Literal["pause", "before"] = "pause"
    """Whether rows that changed since the verification before the pause are verified while writes are held, or not."""
    sequence_margin: Annotated[int, Field(ge=0)] = 0
    """How far the other side's sequences are set beyond the greatest id."""
    rollback_window: Annotated[float, Field(ge=0)] = 604_800.0
    """Seconds after the switch before `pycdc cutover close` gives the way back up."""
    gates: CutoverGatesConfig = CutoverGatesConfig()
    """What must hold before anything moves."""
    decommission: DecommissionConfig = DecommissionConfig()
    """What `pycdc decommission` removes."""

    _dsns_encoded = field_validator("old_dsn", "new_dsn")(percent_encoded)
