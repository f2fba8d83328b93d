"""The start is decided from values alone: one line a situation, with the words that tell the user what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pycdc.connectors.postgres.catalog.metadata import ServerMetadata, SlotMetadata
from pycdc.connectors.postgres.start_check import (
    StartAt,
    StartDecision,
    can_be_read,
    check_start,
    require_one_server,
    source_identity,
)
from pycdc.errors import ConnectionLost, EnvironmentNotReady, OtherSource, PositionGap
from pycdc.interfaces import Checkpoint
from pycdc.model.change import Lsn, Position
from pycdc.model.transaction_chunk import TransactionChunk

SERVER = ServerMetadata(
    version=150_018,
    system_identifier="7300000000000000001",
    timeline=1,
    database="shop",
    database_oid=16384,
    encoding="UTF8",
    wal_level="logical",
    current_lsn=Lsn.parse("0/9000"),
    in_recovery=False,
    max_replication_slots=10,
    used_replication_slots=1,
    max_wal_senders=10,
    max_slot_wal_keep_size=None,
    wal_sender_timeout=60.0,
    idle_slot_timeout=0.0,
    output_plugins=None,
    role="pycdc",
    role_replicates=True,
)
SLOT = SlotMetadata(
    name="pycdc_shop",
    plugin="pgoutput",
    database="shop",
    temporary=False,
    active_pid=None,
    confirmed_flush=Lsn.parse("0/4000"),
    restart_lsn=Lsn.parse("0/3000"),
    wal_status="reserved",
    safe_wal_size=None,
    retained_bytes=4096,
    invalidation=None,
    failover=False,
    synced=False,
)
STORED = Checkpoint(Position(Lsn.parse("0/5000")), source=source_identity(SERVER, "pycdc_shop"))
FAILOVER_SLOT = replace(SLOT, failover=True, synced=True)


def decide(
    checkpoint: Checkpoint | None, slot: SlotMetadata | None, server: ServerMetadata = SERVER, **more: Any
) -> StartDecision:
    return check_start(checkpoint, slot, server, "pycdc_shop", **more)


def stored(**source: Any) -> Checkpoint:
    return replace(STORED, source={**STORED.source, **source})


def test_nothing_stored_and_no_slot_is_a_new_beginning() -> None:
    assert decide(None, None).start is StartAt.CREATE


def test_a_slot_without_a_stored_position_is_adopted_where_it_stands() -> None:
    decision = decide(None, SLOT)
    assert (decision.start, decision.lsn) == (StartAt.ADOPT, Lsn.parse("0/4000"))


def test_a_position_that_slot_and_server_confirm_is_resumed() -> None:
    decision = decide(STORED, SLOT)
    assert (decision.start, decision.lsn) == (StartAt.RESUME, Lsn.parse("0/5000"))


def test_a_position_equal_to_the_slots_is_not_a_gap() -> None:
    assert decide(STORED, replace(SLOT, confirmed_flush=Lsn.parse("0/5000"))).start is StartAt.RESUME


def test_a_confirmed_flush_that_fell_back_after_a_crash_is_tolerated() -> None:
    assert decide(STORED, replace(SLOT, confirmed_flush=Lsn.parse("0/1"))).lsn == Lsn.parse("0/5000")


def test_an_unfinished_snapshot_keeps_the_slot_that_was_made_for_it() -> None:
    decision = decide(replace(STORED, snapshot_done=False), SLOT)
    assert (decision.start, decision.lsn) == (StartAt.ADOPT, Lsn.parse("0/4000"))


def test_an_unfinished_snapshot_without_a_slot_starts_afresh() -> None:
    assert decide(replace(STORED, snapshot_done=False), None).start is StartAt.CREATE


def test_a_checkpoint_that_knows_nothing_of_its_source_is_compared_by_lsn_only() -> None:
    assert decide(replace(STORED, source={}), SLOT).start is StartAt.RESUME


GAPS = {
    "slot dropped": (STORED, None, SERVER, "slot pycdc_shop is gone, and with it the changes since 0/5000", "dropped"),
    "slot moved or recreated": (
        STORED,
        replace(SLOT, confirmed_flush=Lsn.parse("0/6000")),
        SERVER,
        "the changes in [0/5000, 0/6000) can no longer be read",
        "moved or recreated",
    ),
    "slot invalidated (17)": (
        STORED,
        replace(SLOT, invalidation="wal_removed"),
        SERVER,
        "invalidated by the server (wal_removed)",
        "max_slot_wal_keep_size",
    ),
    "slot lost (14)": (STORED, replace(SLOT, wal_status="lost"), SERVER, "(lost)", "pg_drop_replication_slot"),
    "position from the future": (
        STORED,
        SLOT,
        replace(SERVER, current_lsn=Lsn.parse("0/4FFF")),
        "beyond the end of the server's WAL, 0/4FFF",
        "older backup",
    ),
    "other system": (stored(system="1"), SLOT, SERVER, "database system 1", "pg_upgrade"),
    "other database": (stored(database="crm"), SLOT, SERVER, "database crm, and this is shop", "dsn"),
    "database restored under its name": (stored(database_oid=5), SLOT, SERVER, "OID 5", "dropped and restored"),
    "other slot": (stored(slot="pycdc_old"), SLOT, SERVER, "slot pycdc_old", "slot's name"),
    "promoted without its slot": (
        STORED,
        None,
        replace(SERVER, timeline=2),
        "timeline 1 before, 2 now",
        "failover: true",
    ),
    "promoted, slot made by hand": (STORED, SLOT, replace(SERVER, timeline=2), "did not come along", "failover: true"),
    "promoted, end of the old timeline unknown": (
        STORED,
        FAILOVER_SLOT,
        replace(SERVER, timeline=2),
        "whose end is not known",
        "synchronized_standby_slots",
    ),
}


@pytest.mark.parametrize(("checkpoint", "slot", "server", "fact", "remedy"), GAPS.values(), ids=GAPS.keys())
def test_a_gap_is_refused_with_its_remedy(
    checkpoint: Checkpoint, slot: SlotMetadata | None, server: ServerMetadata, fact: str, remedy: str
) -> None:
    with pytest.raises(PositionGap) as caught:
        decide(checkpoint, slot, server)
    assert fact in caught.value.fact
    assert remedy in caught.value.hint
    assert "start over" in caught.value.hint


def test_a_failover_slot_is_resumed_where_all_that_was_delivered_survived_the_promotion() -> None:
    promoted = replace(SERVER, timeline=2)
    decision = decide(STORED, FAILOVER_SLOT, promoted, timeline_ends={1: Lsn.parse("0/5000")})
    assert decision.start is StartAt.RESUME


def test_a_failover_slot_is_refused_where_delivered_rows_did_not_survive() -> None:
    promoted = replace(SERVER, timeline=2)
    with pytest.raises(PositionGap, match="which ended at 0/4FFF: rows were delivered that no longer exist"):
        decide(STORED, FAILOVER_SLOT, promoted, timeline_ends={1: Lsn.parse("0/4FFF")})


def test_a_transaction_that_was_delivered_in_part_must_have_survived_too() -> None:
    promoted, ends = replace(SERVER, timeline=2), {1: Lsn.parse("0/6000")}
    inside = replace(STORED, chunk=TransactionChunk(7, Lsn.parse("0/5FFF"), 1000, 1))
    assert decide(inside, FAILOVER_SLOT, promoted, timeline_ends=ends).lsn == Lsn.parse("0/5000")
    beyond = replace(STORED, chunk=TransactionChunk(7, Lsn.parse("0/6000"), 1000, 1))
    with pytest.raises(PositionGap, match="0/6001 lies beyond the old timeline"):
        decide(beyond, FAILOVER_SLOT, promoted, timeline_ends=ends)


def test_an_old_primary_is_another_source_though_its_slot_is_there() -> None:
    """`snapshot: when_needed` must not read it again: what it has is not what the new primary has."""
    with pytest.raises(OtherSource, match="on timeline 1, and the stored position on 2") as caught:
        decide(stored(timeline=2), FAILOVER_SLOT, timeline_ends={1: Lsn.parse("0/9000")})
    assert "name the server that was promoted" in caught.value.hint


def test_stream_and_catalog_are_of_one_server() -> None:
    require_one_server(SERVER.system_identifier, 1, SERVER)
    require_one_server(SERVER.system_identifier, 2, replace(SERVER, in_recovery=True))
    for systemid, timeline in ((SERVER.system_identifier, 2), ("8", 1)):
        with pytest.raises(ConnectionLost, match="leads to two servers"):
            require_one_server(systemid, timeline, SERVER)


def test_a_slot_that_a_standby_syncs_is_waited_for() -> None:
    """Until the standby is promoted."""
    standby = replace(SERVER, in_recovery=True, version=170_000)
    with pytest.raises(ConnectionLost, match="a copy of its primary's") as caught:
        decide(STORED, FAILOVER_SLOT, standby)
    assert "target_session_attrs=read-write" in caught.value.hint
    assert not can_be_read(FAILOVER_SLOT, standby)


NOT_READY = {
    "wal_level": (SLOT, replace(SERVER, wal_level="replica"), "wal_level is replica", "ALTER SYSTEM SET wal_level"),
    "standby before 16": (SLOT, replace(SERVER, in_recovery=True), "standby", "connect to the primary"),
    "other plugin": (replace(SLOT, plugin="wal2json"), SERVER, "plugin wal2json", "another slot name"),
    "physical": (replace(SLOT, plugin=None, database=None), SERVER, "physical replication", "another slot name"),
    "other database": (replace(SLOT, database="crm"), SERVER, "database crm", "another slot name"),
    "temporary": (replace(SLOT, temporary=True), SERVER, "temporary", "another slot name"),
}


@pytest.mark.parametrize("checkpoint", [None, STORED], ids=["first start", "restart"])
@pytest.mark.parametrize(("slot", "server", "fact", "remedy"), NOT_READY.values(), ids=NOT_READY.keys())
def test_a_slot_or_server_of_the_wrong_kind_is_refused_with_its_remedy(
    checkpoint: Checkpoint | None, slot: SlotMetadata, server: ServerMetadata, fact: str, remedy: str
) -> None:
    with pytest.raises(EnvironmentNotReady) as caught:
        decide(checkpoint, slot, server)
    assert not isinstance(caught.value, PositionGap)
    assert fact in caught.value.fact
    assert remedy in caught.value.hint


def test_a_slot_still_being_created_is_not_adopted() -> None:
    with pytest.raises(EnvironmentNotReady, match="still being created"):
        decide(None, replace(SLOT, confirmed_flush=None))


def test_a_standby_may_decode_since_16() -> None:
    assert decide(STORED, SLOT, replace(SERVER, in_recovery=True, version=160_000)).start is StartAt.RESUME
