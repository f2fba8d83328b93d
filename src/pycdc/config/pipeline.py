"""A pipeline as pydantic models, one root for each direction: `CapturePipeline` and `ApplyPipeline`.

Every option is documented where it is defined; docs/configuration.md is generated from these texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from pycdc.config.capture_sink import CaptureSinkConfig
from pycdc.config.envelope import EnvelopeConfig, FlattenConfig, OutboxConfig
from pycdc.config.kafka import KafkaSourceConfig
from pycdc.config.parking import ParkingConfig
from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.config.postgres_source import PostgresSourceConfig, SignalsConfig
from pycdc.config.runtime import CheckpointConfig, HttpConfig, OffsetsConfig, RetriesConfig, TracingConfig
from pycdc.config.section import InvalidValue, Section
from pycdc.config.transforms import TableTransformConfig, TopicTransformConfig, TransformConfig
from pycdc.config.values import DEBEZIUM_VALUES, PRESETS, CompatibilityConfig, TableRule, ValuesConfig
from pycdc.errors import ConfigError
from pycdc.model.patterns import qualified


class CaptureSourceConfig(Section):
    """Exactly one."""

    postgres: PostgresSourceConfig
    """A Postgres database."""

    @model_validator(mode="before")
    @classmethod
    def _one(cls, data: Any) -> Any:
        known = data.keys() & {"postgres", "kafka"} if isinstance(data, dict) else {"postgres"}
        if len(known) != 1 and known == data.keys():
            raise InvalidValue("needs exactly one of postgres, kafka", "write one of postgres, kafka under it")
        return data


class ApplySourceConfig(Section):
    """Exactly one."""

    kafka: KafkaSourceConfig
    """Topics of a Kafka cluster: the apply direction."""


class ApplySinkConfig(Section):
    """Exactly one."""

    postgres: PostgresSinkConfig
    """Tables of a Postgres database, where the source is Kafka."""


class PipelineSection(Section):
    """One pipeline: one source, one sink, one process."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,62}$")]
    """Topic prefix; slot, publication and offsets derive from it."""
    source: Section
    """Where changes come from."""
    sink: Section
    """Where they go."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """How often the position is stored."""
    retries: RetriesConfig = RetriesConfig()
    """What happens after a fault that may pass."""
    http: HttpConfig = HttpConfig()
    """Metrics and health over HTTP."""
    tracing: TracingConfig | None = None
    """Spans for OpenTelemetry. Default: none."""

    @field_validator("tracing", mode="before")
    @classmethod
    def _with_defaults(cls, data: Any) -> Any:
        return {} if data is None else data

    @property
    def slug(self) -> str:
        """The name as a slot or a publication may carry it."""
        return re.sub(r"[^a-z0-9_]", "_", self.name.lower())


class CapturePipeline(PipelineSection):
    """One pipeline: one source, one sink, one process.

    Where the source is Kafka, only `name`, `source`, `sink`, `transforms`, `checkpoint`, `retries`, `http` and
    `tracing` have a meaning: the rest is about capturing.
    """

    source: CaptureSourceConfig
    """Where changes come from."""
    sink: CaptureSinkConfig
    """Where they go."""
    compatibility: CompatibilityConfig = CompatibilityConfig()
    """`debezium-3.7`, `debezium-3.6`, `debezium` (the newest of these), `honest` (the default) or a section of
    switches."""
    values: ValuesConfig = ValuesConfig()
    """How column values are written."""
    rules: list[TableRule] = []
    """What to do with columns, keys and topics, by table."""
    envelope: EnvelopeConfig = EnvelopeConfig()
    """What is emitted beside the rows."""
    parking: ParkingConfig | None = None
    """Rows that are parked because of `rules: on_error` or `on_too_large`. Default: as much as such a rule needs."""
    transforms: list[TableTransformConfig] = []
    """Python functions that see each row or event."""
    flatten: FlattenConfig | None = None
    """Rows without an envelope. Default: with it."""
    outbox: OutboxConfig | None = None
    """Events from an outbox table. Default: its rows are like those of other tables."""
    signals: SignalsConfig = SignalsConfig()
    """Where Debezium's signals come from. Default: nowhere; `pycdc snapshot` needs none."""
    offsets: OffsetsConfig | None = None
    """Where the position is stored. Default: with a Kafka sink a topic of the same cluster, otherwise nowhere, and each
    start begins with what the slot holds."""

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
                data["values"] = {**DEBEZIUM_VALUES, **values}
                if word == "debezium-3.6" and values.get("time") == "structured":
                    raise InvalidValue(
                        "has values.time: structured, which Debezium 3.6 has not",
                        "write `compatibility: debezium-3.7`, or another mode",
                    )
        return data

    @model_validator(mode="after")
    def _spare_offsets(self) -> CapturePipeline:
        """Leave the table of positions out: storing one changes it, and captured, that would make another, for ever."""
        source, store = self.source.postgres, None if self.offsets is None else self.offsets.postgres
        if store is None or store.dsn not in (None, source.dsn):
            return self
        table = qualified(store.table)
        if table not in [*map(qualified, source.tables), *source.exclude_tables] and "*" not in table:
            source.exclude_tables.append(table)
        return self

    @model_validator(mode="after")
    def _workers_fit(self) -> CapturePipeline:
        source = self.source.postgres
        if source.parallel and self.sink.kafka is None and self.sink.null is None:
            raise InvalidValue(
                "has workers, which hand back records, and a sink that takes rows",
                "remove source.postgres.workers and executor, or write to kafka",
            )
        return self

    @model_validator(mode="after")
    def _dead_letters_somewhere(self) -> CapturePipeline:
        if self.sink.kafka is None and self.sink.null is None:
            for transform in self.transforms:
                if transform.on_error == "dead_letter":
                    raise InvalidValue(
                        "has a transform with on_error: dead_letter, and no Kafka to send dead letters to",
                        "set `on_error: stop`, or let the function return None for what it cannot do",
                    )
        return self

    @model_validator(mode="after")
    def _parked_somewhere(self) -> CapturePipeline:
        if self.parks and self.sink.kafka is None:
            raise InvalidValue(
                "parks or cuts rows, and the sink is not Kafka", "remove `parking`, rules[].on_error and on_too_large"
            )
        if self.parks and self.source.postgres.parallel:
            raise InvalidValue(
                "parks or cuts rows, and has workers, which hand back records",
                "remove source.postgres.workers and executor, or rules[].on_error and on_too_large",
            )
        return self

    @property
    def parks(self) -> bool:
        """Whether rows may be parked or cut, or were."""
        return self.parking is not None or any(rule.spares for rule in self.rules)

    @property
    def parked_topic(self) -> str:
        """The topic of parked rows."""
        return (self.parking and self.parking.topic) or f"{self.name}.parked"

    @model_validator(mode="after")
    def _signals_from_somewhere(self) -> CapturePipeline:
        if self.signals.topic is not None and self.signals.brokers is None and self.sink.kafka is None:
            raise InvalidValue("has a signal topic without brokers, and the sink is not Kafka", "set signals.brokers")
        return self

    @model_validator(mode="after")
    def _exactly_once_fits(self) -> CapturePipeline:
        """Refuse a position that could be stored without its records, and a standby that nothing fences."""
        kafka, offsets = self.sink.kafka, self.offsets
        if self.source.postgres.standby and not self.exactly_once:
            raise InvalidValue("stands by, without delivery: exactly_once", "set sink.kafka.delivery: exactly_once")
        if kafka is None or kafka.delivery != "exactly_once" or offsets is None:
            return self
        remedy = "remove `offsets`, so that it is stored in a topic of the sink's cluster, or choose at_least_once"
        if offsets.kafka is None:
            raise InvalidValue("has delivery: exactly_once, and stores its position outside of Kafka", remedy)
        if offsets.kafka.brokers not in (None, kafka.brokers):
            raise InvalidValue("has delivery: exactly_once, and its position on other brokers than the sink's", remedy)
        return self

    @model_validator(mode="after")
    def _messages_come(self) -> CapturePipeline:
        if self.outbox is not None and self.outbox.messages is not None and not self.source.postgres.messages:
            raise InvalidValue(
                "has outbox.messages, and does not read logical messages", "remove `source.postgres.messages: false`"
            )
        return self

    @property
    def exactly_once(self) -> bool:
        """Whether records and position are one Kafka transaction."""
        return self.sink.kafka is not None and self.sink.kafka.delivery == "exactly_once"

    @property
    def transactional_id(self) -> str:
        """By it brokers know the newest instance of this pipeline from older ones."""
        return f"pycdc-{self.name}"

    @property
    def dead_letters(self) -> str:
        """The topic of what transforms failed at."""
        return f"{self.name}.dead-letter"

    @property
    def message_topic(self) -> str:
        """The topic of logical messages."""
        return f"{self.name}.message"

    @field_validator("flatten", "outbox", mode="before")
    @classmethod
    def given(cls, data: Any) -> Any:
        return {} if data is None else data

    @model_validator(mode="after")
    def _subjects(self) -> CapturePipeline:
        kafka = self.sink.kafka
        if self.outbox is None or kafka is None or kafka.format != "avro" or kafka.registry is None:
            return self
        if kafka.registry.subjects != "topic":
            raise InvalidValue(
                "has an outbox, whose keys are no Avro records and so have no names for subjects",
                "set `sink.kafka.registry.subjects: topic`",
            )
        return self

    @property
    def functions(self) -> dict[str, str]:
        """Users' functions, by the option that names them."""
        return _transform_functions(self.transforms)

    @property
    def slot(self) -> str:
        return self.source.postgres.slot or f"pycdc_{self.slug}"[:63]

    @property
    def publication(self) -> str:
        return self.source.postgres.publication or f"pycdc_{self.slug}"[:63]


class ApplyPipeline(PipelineSection):
    """One pipeline: one source, one sink, one process."""

    source: ApplySourceConfig
    """Where changes come from."""
    sink: ApplySinkConfig
    """Where they go."""
    transforms: list[TopicTransformConfig] = []
    """Python functions that see each row or event."""

    @property
    def group(self) -> str:
        """The consumer group."""
        return self.source.kafka.group or self.name

    @property
    def functions(self) -> dict[str, str]:
        """Users' functions, by the option that names them."""
        named = _transform_functions(self.transforms)
        for i, route in enumerate(self.sink.postgres.routes):
            decides = route.conflict.function if route.conflict else None
            named[f"sink.postgres.routes[{i}].function"] = route.function or ""
            named[f"sink.postgres.routes[{i}].conflict.function"] = decides or ""
        return {where: path for where, path in named.items() if path}


def _transform_functions(transforms: Sequence[TransformConfig]) -> dict[str, str]:
    return {f"transforms[{i}].function": transform.function for i, transform in enumerate(transforms)}


PipelineConfig = CapturePipeline | ApplyPipeline


def pipeline_model(data: Any) -> type[CapturePipeline] | type[ApplyPipeline]:
    """Return the root model for a configuration, by the source that it gives; the capture's where that is unclear."""
    source = data.get("source") if isinstance(data, Mapping) else None
    applies = isinstance(source, Mapping) and "kafka" in source and "postgres" not in source
    return ApplyPipeline if applies else CapturePipeline


def require_capture(config: PipelineConfig) -> CapturePipeline:
    """Return the pipeline where it captures. Raises ConfigError."""
    if isinstance(config, CapturePipeline):
        return config
    raise ConfigError(
        f"pipeline {config.name} reads from Kafka, and this is only there for those that read from Postgres",
        hint="use `pycdc doctor` and `pycdc run`; where it is, the table apply_offsets of its database says",
    )


def require_apply(config: PipelineConfig) -> ApplyPipeline:
    """Return the pipeline where it applies what it reads from Kafka. Raises ConfigError."""
    if isinstance(config, ApplyPipeline):
        return config
    raise ConfigError(
        f"pipeline {config.name} does not write into Postgres, and this is only there for those that do",
        hint="name the configuration of a pipeline with source.kafka and sink.postgres",
    )


OffsetsConfig.model_rebuild()
