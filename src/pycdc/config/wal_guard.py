"""`source.postgres.wal_guard`."""

from __future__ import annotations

from typing import Annotated

from pydantic import ByteSize, Field, SecretStr, field_validator

from pycdc.config.section import InvalidValue, Section, webhook_url

_SMALLEST = 1024 * 1024


class WalGuardConfig(Section):
    """How much WAL the slot may hold back, and what is done about more.

    It is looked at by `pycdc run`, and by `pycdc guard` where the pipeline itself may be away.
    """

    budget: ByteSize
    """Bytes of WAL that the slot may hold back, what the disk can spare: `20GB`, or `20GiB` for powers of 1,024."""
    warn_at: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Part of the budget from which on a warning is given."""
    webhook: SecretStr | None = None
    """URL that is sent a JSON document (POST) each time that the level changes: ok, warning, over. Its `text` says it
    in a sentence, as chat services want it. The URL counts as secret."""
    pause_snapshots: bool = True
    """Read no chunks of incremental snapshots while the slot is over its budget: the stream catches up first."""
    drop_slot: bool = False
    """Drop the slot when it is over its budget, so that the server goes on. What was written since is not captured;
    the pipeline starts over with a snapshot, so `snapshot: when_needed` must be set. Rows that were deleted in between
    stay with the consumers. A slot is not dropped while the snapshot after an earlier drop is under way."""

    @field_validator("budget")
    @classmethod
    def _budget_is_enough(cls, value: ByteSize) -> ByteSize:
        if value < _SMALLEST:
            raise InvalidValue("is less than a slot always holds back", "give 1MiB at least, rather many GB")
        return value

    _http = field_validator("webhook")(webhook_url)
