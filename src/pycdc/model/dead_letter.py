"""A record of the dead-letter topic, as `pycdc parked` shows it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What its headers tell; `at` is when it was written, in milliseconds since the Unix epoch.

    `target` is the topic where it belongs, `headers` are those that it would have there.
    """

    partition: int
    offset: int
    at: int
    error: str
    reason: str
    table: str
    target: str
    position: str
    key: bytes | None = field(repr=False)
    value: bytes | None = field(repr=False)
    headers: tuple[tuple[str, bytes | None], ...] = field(default=(), repr=False)

    @property
    def id(self) -> str:
        return f"dead-letter/{self.partition}/{self.offset}"

    @property
    def can_be_copied(self) -> bool:
        """Whether it is the record that its topic would have got: so are those whose schema the registry refused."""
        return self.error == "SchemaIncompatible" and bool(self.target)
