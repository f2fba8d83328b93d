"""Where a capture's changes go: `sink` of a pipeline that reads from Postgres."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pycdc.config.kafka import KafkaSinkConfig
from pycdc.config.section import FUNCTION_PATH, InvalidValue, Section, given, require_one_of


class ConsoleSinkConfig(Section):
    """Print each change as a line of JSON."""

    pretty: bool = False
    """Spread each change over several lines."""


class NullSinkConfig(Section):
    """Serialise, then throw away: for measurements."""

    format: Literal["avro", "json", "json_schema"] = "avro"
    """What to serialise to, as in `sink.kafka.format`."""


class CustomSinkConfig(Section):
    """A sink of your own: `module:factory`, called with `options` as keyword arguments."""

    factory: str
    """`package.module:name` of a class or function, importable from where pycdc runs."""
    options: Annotated[dict[str, Any], Field(repr=False)] = {}
    """Keyword arguments of the factory."""

    @field_validator("factory")
    @classmethod
    def _importable(cls, value: str) -> str:
        if not FUNCTION_PATH.fullmatch(value):
            raise InvalidValue("is no path to a class or function", "write it as `package.module:name`")
        return value


class CaptureSinkConfig(Section):
    """Exactly one."""

    kafka: KafkaSinkConfig | None = None
    """Topics of a Kafka cluster."""
    console: ConsoleSinkConfig | None = None
    """Standard output."""
    null: NullSinkConfig | None = None
    """Nowhere."""
    custom: CustomSinkConfig | None = None
    """A Python object."""

    @model_validator(mode="before")
    @classmethod
    def _chosen(cls, data: Any) -> Any:
        return given(data)

    @model_validator(mode="after")
    def _one(self) -> CaptureSinkConfig:
        require_one_of(self, "kafka", "console", "null", "custom")
        return self
