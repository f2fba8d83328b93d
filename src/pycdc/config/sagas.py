"""`sink.postgres.sagas`: which events make a saga, and what becomes of one that takes too long."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, model_validator

from pycdc.config.section import InvalidValue, Section, require_one_of

DAY: Final = 86_400


class SagaCommandConfig(Section):
    """The command that a saga's time limit sends, once, through an outbox of this database: exactly one of the two."""

    message: str | None = None
    """Prefix of a transactional logical message, as `outbox.messages` of the capture names it."""
    table: str | None = None
    """Outbox table, with the columns `id`, `aggregatetype`, `aggregateid`, `type`, `correlation_id` and `payload`."""
    aggregatetype: str
    """What chooses its topic."""
    type: str
    """Its type: `CancelOrder`, say. `aggregateid` and `correlation_id` are the saga's id."""

    @model_validator(mode="after")
    def _one(self) -> SagaCommandConfig:
        require_one_of(self, "message", "table")
        return self


class SagaConfig(Section):
    """A saga: the types of its events."""

    topics: Annotated[list[str], Field(min_length=1)]
    """Topics that its events are in; `*` matches any characters. They need no route."""
    start: str
    """Type of the event that begins it."""
    steps: list[str] = []
    """Types of events that bring it further, in any order."""
    success: str
    """Type of the event that ends it well."""
    failure: list[str] = []
    """Types of events from which on it goes back."""
    compensations: dict[str, str] = {}
    """Step (or start) to the type of the event that undoes it. A saga that goes back ends when all is undone."""
    id: str = "$headers.correlation_id"
    """Where its id is: a field's path, as in routes. An event of the saga without one cannot be applied."""
    type: str = "$headers.type"
    """Where an event's type is. Events of other types are not the saga's."""
    time_limit: Annotated[float, Field(gt=0, le=3650 * DAY)] | None = None
    """Seconds from its first event to its end. Longer than the greatest lag of what brings its events."""
    on_timeout: SagaCommandConfig | None = None
    """What is sent when the time limit is over. Default: nothing, and `pycdc saga list --stuck` shows it."""
    keep: Annotated[float, Field(gt=0)] = 30 * DAY
    """Seconds that a saga which ended is kept. Its count stays."""

    @model_validator(mode="after")
    def _fits(self) -> SagaConfig:
        if len(set(self.types)) < len(self.types):
            raise InvalidValue("has one type of event in two places", "give each place a type of its own")
        strange = sorted(set(self.compensations) - {self.start, *self.steps})
        if strange:
            raise InvalidValue(f"undoes {strange[0]}, which is none of its steps", "add it to `steps`, or remove it")
        if self.on_timeout is not None and self.time_limit is None:
            raise InvalidValue("has on_timeout without a time limit", "add `time_limit`")
        return self

    @property
    def types(self) -> list[str]:
        """All types of its events."""
        return [self.start, *self.steps, self.success, *self.failure, *self.compensations.values()]
