"""`transforms`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pycdc.config.section import InvalidValue, Section, function_path


class TransformConfig(Section):
    """A Python function that gets each change, decoded, and returns it, changed or not; or None to drop it, or several.

    `package.module:name` alone will do for a function of all tables or topics. Functions apply in this order. Only
    tables and topics that one of them names pay for decoding.
    """

    function: str
    """`package.module:name`, importable from where pycdc runs. The command `pycdc` also looks in the folder of this
    file."""

    _importable = field_validator("function")(function_path)

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, data: Any) -> Any:
        return {"function": data} if isinstance(data, str) else data


class TableTransformConfig(TransformConfig):
    __doc__ = TransformConfig.__doc__

    tables: Annotated[list[str], Field(min_length=1)] = ["*"]
    """Patterns over `schema.table` of the tables it is for, where the source is Postgres."""
    columns: dict[str, str] = {}
    """Columns that it adds, or gives another type: name to SQL type, `integer`, `numeric(10,2)`, `text[]`,
    `bigint not null` … Each row that it returns must have them."""
    drop: list[str] = []
    """Columns that it removes. No row that it returns may have them."""
    on_error: Literal["stop", "dead_letter"] = "stop"
    """What an exception in it means, where the source is Postgres: end with an error that names function, table and
    position; or send the record as it was to the topic `{name}.dead-letter` (sink Kafka) and go on. Where the source is
    Kafka, `sink.postgres.on_error` says."""

    @model_validator(mode="after")
    def _added_or_dropped(self) -> TableTransformConfig:
        both = sorted(self.columns.keys() & set(self.drop))
        if both:
            raise InvalidValue(f"adds and drops column {both[0]!r}", "name it under `columns` or under `drop`")
        return self


class TopicTransformConfig(TransformConfig):
    __doc__ = TransformConfig.__doc__

    topics: Annotated[list[str], Field(min_length=1)] = ["*"]
    """Patterns of the topics it is for, where the source is Kafka."""
