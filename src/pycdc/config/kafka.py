"""Kafka and the schema registry, on either side."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from pycdc.config.section import (
    InvalidValue,
    Section,
)
from pycdc.config.values import ValuesConfig


class TopicsConfig(Section):
    """Topics that pycdc makes. Existing topics are left as they are."""

    create: bool = True
    """False: a missing topic is an error that names the command to create it."""
    partitions: Annotated[int, Field(ge=1)] = 1
    """Partitions of a new topic."""
    replication: Annotated[int, Field(ge=-1)] = -1
    """Replication factor; -1 is the broker's default."""
    settings: dict[str, str] = {}
    """Topic settings such as cleanup.policy or retention.ms."""


class OAuthConfig(Section):
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


class RegistryConfig(Section):
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
    oauth: OAuthConfig | None = None
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
    def _one_identity(self) -> RegistryConfig:
        named = [name for name in ("username", "token", "oauth") if getattr(self, name) is not None]
        if len(named) > 1:
            raise InvalidValue(f"has {' and '.join(named)}", "choose one of username and password, token, oauth")
        return self

    @model_validator(mode="after")
    def _may_register(self) -> RegistryConfig:
        if self.on_incompatible != "stop" and not self.register_schemas:
            raise InvalidValue(
                f"has on_incompatible: {self.on_incompatible}, which registers schemas, and register_schemas: false",
                "set `on_incompatible: stop`, or let it register",
            )
        return self


_SECRET_OPTION = re.compile(
    r"password|secret|token|jaas|\.pem$|oauthbearer\.config|credentials|user\.info", re.IGNORECASE
)

OptionValue = str | int | float | bool | SecretStr
ClientOptions = Annotated[dict[str, OptionValue], Field(repr=False)]


def keep_secret(options: Any) -> Any:
    if not isinstance(options, dict):
        return options
    return {
        name: SecretStr(value) if isinstance(value, str) and _SECRET_OPTION.search(str(name)) else value
        for name, value in options.items()
    }


class KafkaClientConfig(Section):
    """Brokers and registry."""

    brokers: str
    """Addresses to start from, `host:port` with commas between (bootstrap.servers)."""
    registry: RegistryConfig | None = None
    """Needed for Avro. A plain URL will do."""
    options: ClientOptions = {}
    """librdkafka settings, passed on as they are (`security.protocol`, `sasl.*`, `ssl.*` …). Passwords and keys
    among them are kept secret."""

    _secret_options = field_validator("options", mode="before")(keep_secret)

    @model_validator(mode="before")
    @classmethod
    def _registry_url(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("registry"), str):
            data = {**data, "registry": {"url": data["registry"]}}
        return data


class KafkaSourceConfig(KafkaClientConfig):
    """Read topics, as one of any number of processes of a consumer group. Only what is committed is read."""

    topics: Annotated[list[str], Field(min_length=1)]
    """Names of topics. `*` matches any characters: no topic has to be there yet, and one that is made later is found
    within ten seconds."""
    group: str | None = None
    """Consumer group; default: the pipeline's name. A group writes into one database."""
    format: Literal["auto", "avro", "json"] = "auto"
    """avro: Confluent's wire format; json: an object, or Debezium's `schema` and `payload`; auto: by the first byte."""
    key_format: Literal["auto", "avro", "json", "string", "bytes", "int", "long"] = "auto"
    """What message keys are. avro and json as above; string: UTF-8; bytes: as they are; int, long: what Java's
    IntegerSerializer and LongSerializer write; auto: Avro where the first byte is zero, JSON where it is an object,
    else text. A key is read where a route needs it, and else may be anything."""
    values: ValuesConfig | None = None
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
    def _registry_needed(self) -> KafkaSourceConfig:
        if self.format == "avro" and self.registry is None:
            raise InvalidValue(
                "has no registry, which Avro needs", "add `registry: http://…`, or choose `format: json`"
            )
        return self


class KafkaSinkConfig(KafkaClientConfig):
    """Publish to Kafka."""

    format: Literal["avro", "json", "json_schema"] = "avro"
    """avro: Confluent's wire format; json: Debezium's payload; json_schema: the same with the schema beside it."""
    delivery: Literal["at_least_once", "exactly_once"] = "at_least_once"
    """at_least_once: after a crash, what was written since the last stored position comes again. exactly_once: records
    and position are one Kafka transaction, and consumers that read committed records find each change once. It needs
    the position in a topic of the same cluster, and the right to use the transactional id `pycdc-{name}`."""
    transaction_timeout: Annotated[float, Field(ge=1)] = 60.0
    """Seconds after which brokers give up a Kafka transaction of exactly_once that was not ended; at most their
    `transaction.max.timeout.ms`. So long, at most, consumers wait behind a pipeline that died."""
    transaction_changes: Annotated[int, Field(ge=1)] = 1_000_000
    """Changes of one source transaction that exactly_once makes visible as a whole. A larger one, or one that takes
    longer than half of `transaction_timeout`, comes in chunks, each of them once; as a whole in any case with
    `envelope.transaction_metadata`, whose counts are of whole transactions."""
    topics: TopicsConfig = TopicsConfig()
    """How topics are made."""
    delivery_timeout: Annotated[float, Field(gt=0)] = 120.0
    """Seconds until a record that no broker took counts as lost, and the pipeline rewinds."""

    @model_validator(mode="after")
    def _registry_needed(self) -> KafkaSinkConfig:
        if self.format == "avro" and self.registry is None:
            raise InvalidValue(
                "has no registry, which Avro needs", "add `registry: http://…`, or choose `format: json`"
            )
        return self
