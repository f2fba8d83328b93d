"""Would the slot come along where a standby is promoted, and does the standby have what was delivered? No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pycdc.connectors.postgres.catalog.metadata import ServerMetadata, SlotMetadata, StandbySlot

SINCE = 170_000


@dataclass(frozen=True, slots=True)
class FailoverProblem:
    """`blocks`: as long as it lasts, nothing is delivered."""

    fact: str
    detail: str
    remedy: str
    blocks: bool = False


def may_enable(slot: SlotMetadata, server: ServerMetadata) -> bool:
    """Return whether the slot can be made one that comes along, which it is not yet."""
    free = slot.active_pid is None and not server.in_recovery
    return free and not slot.failover and not slot.two_phase and server.version >= SINCE


def failover_problems(
    slot: SlotMetadata | None, server: ServerMetadata, standbys: Sequence[StandbySlot]
) -> Iterator[FailoverProblem]:
    """Yield what is wrong for a pipeline with `failover`; `standbys` are those of synchronized_standby_slots."""
    if server.version < SINCE:
        yield FailoverProblem(
            f"slots come along to a standby since Postgres 17, and the server is {server.version // 10_000}",
            "after a failover the pipeline has to start over",
            "leave out source.postgres.failover",
        )
        return
    if slot is not None and not slot.failover:
        remedy = "start the pipeline anew, which makes it one"
        if slot.two_phase:
            remedy = "leave out failover, or `pycdc teardown` and start over: this slot was read with two_phase"
        yield FailoverProblem(f"slot {slot.name} is no failover slot", "it does not come along to a standby", remedy)
    if not standbys:
        yield FailoverProblem(
            "changes may be delivered that no standby has yet",
            "synchronized_standby_slots is empty: where a standby is promoted that lacks some, the pipeline refuses to "
            "go on",
            "ALTER SYSTEM SET synchronized_standby_slots = '…'; SELECT pg_reload_conf(); -- the primary_slot_name of "
            "each standby that may be promoted",
        )
    for one in standbys:
        if not one.active:
            yield FailoverProblem(
                f"nothing is delivered until a standby reads slot {one.name}",
                "synchronized_standby_slots names it",
                f"start the standby whose primary_slot_name is {one.name}, or take it out of "
                "synchronized_standby_slots and reload",
                blocks=True,
            )
