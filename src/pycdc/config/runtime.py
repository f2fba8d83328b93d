"""How a pipeline runs: offsets, checkpoints, retries, the status server."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from pycdc.config.kafka import ClientOptions, keep_secret
from pycdc.config.section import (
    InvalidValue,
    Section,
    given,
    percent_encoded,
    require_one_of,
)


class OffsetsConfig(Section):
    """Where the position is stored: a compacted Kafka topic (default with a Kafka sink), a file, or Postgres."""

    kafka: KafkaOffsetsConfig | None = None
    """A compacted topic."""
    file: FileOffsetsConfig | None = None
    """A file on a disk that outlives the process."""
    postgres: PostgresOffsetsConfig | None = None
    """A table, which is made when first needed."""

    @model_validator(mode="before")
    @classmethod
    def _chosen(cls, data: Any) -> Any:
        return given(data)

    @model_validator(mode="after")
    def _one(self) -> OffsetsConfig:
        require_one_of(self, "kafka", "file", "postgres")
        return self


class KafkaOffsetsConfig(Section):
    """The position in a topic."""

    topic: str | None = None
    """Default `pycdc-offsets-{name}`: compacted, one partition."""
    brokers: str | None = None
    """Default: the sink's brokers and options."""
    options: ClientOptions = {}
    """librdkafka settings of the connection to them (`security.protocol`, `sasl.*`, `ssl.*` …). Where the sink is
    Kafka, its own hold too."""

    _secret_options = field_validator("options", mode="before")(keep_secret)


class FileOffsetsConfig(Section):
    """The position in a file."""

    path: str
    """The file. It is replaced, never written in place."""


class PostgresOffsetsConfig(Section):
    """The position in a table."""

    dsn: SecretStr | None = None
    """Default: the source's."""
    table: str = "pycdc_offsets"
    """The table, `schema.table` or just `table`."""

    _dsn_encoded = field_validator("dsn")(percent_encoded)


class CheckpointConfig(Section):
    """How often the position is stored. Duplicates after a crash are what was written since."""

    interval: Annotated[float, Field(ge=0)] = 1.0
    """Seconds between stored positions."""
    changes: Annotated[int, Field(ge=1)] = 100_000
    """Changes after which the position is stored earlier than that."""


class RetriesConfig(Section):
    """What happens after a fault that may pass."""

    first_delay: Annotated[float, Field(gt=0)] = 0.2
    """Seconds before the first attempt to go on; doubled each time."""
    max_delay: Annotated[float, Field(gt=0)] = 30.0
    """Seconds between attempts, at most."""
    give_up_after: Annotated[float, Field(ge=0)] = 0.0
    """Seconds without progress after which the pipeline ends with exit code 1; 0 means never."""


class TracingConfig(Section):
    """Spans of traced transactions and their records, sent by OTLP over HTTP; needs `pycdc-postgres[tracing]`.

    A transaction is traced whose application wrote its `traceparent` as the logical message `pycdc.trace`, and a record
    that has it as header. OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_HEADERS`, …) hold beside.
    """

    endpoint: str = "http://localhost:4318"
    """The collector; spans go to `/v1/traces` there."""
    sample: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Of a capture's transactions without a trace, the share that begins one: 100 a second at most."""
    service: str | None = None
    """The name of the service. Default: the pipeline's."""

    @field_validator("endpoint")
    @classmethod
    def _is_http(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidValue("is no URL", "write `http://host:4318`")
        return value.rstrip("/")


class HttpConfig(Section):
    """Metrics (`/metrics`), health (`/healthz`, `/status`) and probes (`/livez`, `/readyz`)."""

    enabled: bool = True
    """Serve them while `pycdc run` runs."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 9464
    """0 chooses a free port and logs it."""
    token: SecretStr | None = None
    """Needed when `host` is not a loopback address: clients send `Authorization: Bearer …`. Probes need none. Whoever
    has it may give commands on the page of a migration; without one that page only shows."""
    unhealthy_after: Annotated[float, Field(gt=0)] = 60.0
    """Seconds without a message from the server, or with a sink that makes no progress."""
    migration: str | None = None
    """Path of a migration, which is then shown at `/migration`. The gates of its groups are served as `/gates/GROUP`:
    200 where all are open, or 503."""

    @field_validator("token")
    @classmethod
    def _token_not_empty(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value():
            raise InvalidValue("is empty, and would let everybody in", "set it, or remove the key")
        if value is not None and not re.fullmatch(r"[^\s\x00-\x1f\x7f]+", value.get_secret_value()):
            raise InvalidValue("holds what no header can carry", "write it without spaces and control characters")
        return value

    @model_validator(mode="after")
    def _token_needed(self) -> HttpConfig:
        if self.enabled and self.host not in ("127.0.0.1", "::1", "localhost") and self.token is None:
            raise InvalidValue("listens beyond loopback without a token", "add `token: ${PYCDC_HTTP_TOKEN}`")
        return self
