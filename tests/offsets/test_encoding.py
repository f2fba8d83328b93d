"""A stored position is right or it is refused; nothing in between."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycdc.errors import CheckpointCorrupt
from pycdc.interfaces import Checkpoint
from pycdc.model.change import Lsn, Position
from pycdc.model.transaction_chunk import TransactionChunk
from pycdc.offsets.encoding import dump, load
from tests.offsets.contract import at

LSNS = st.integers(0, 2**64 - 1).map(Lsn)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
CHECKPOINTS = st.builds(
    Checkpoint,
    st.builds(Position, LSNS, st.integers(0, 2**40)),
    LSNS,
    st.dictionaries(st.text(), JSON, max_size=4),
    st.booleans(),
    st.dictionaries(st.text(), JSON, max_size=4),
)


@given(CHECKPOINTS)
def test_every_checkpoint_comes_back_as_it_was(checkpoint: Checkpoint) -> None:
    assert load(dump(checkpoint)) == checkpoint


def test_the_form_is_stable() -> None:
    """Files and topics written by one version are read by the next."""
    assert dump(at(0x16B374D848)) == (
        b'{"version":1,"crc32":"6ab1c3a4","checkpoint":{"index":0,"last_commit":"16/B374D840",'
        b'"position":"16/B374D848","snapshot_done":true,"source":{"database":"shop","slot":"pycdc_shop",'
        b'"system":"7300000000000000001","timeline":1}}}\n'
    )


def test_a_snapshot_under_way_is_a_version_of_its_own() -> None:
    """One that does not know it must refuse the position: it would skip the rows that are still to be read."""
    reading = {"paused": False, "tables": [{"table": ["public", "orders"], "after": ["17"], "rows": 17}]}
    data = dump(replace(at(0x16B374D848), snapshot=reading))
    assert data.startswith(b'{"version":2,')
    assert load(data).snapshot == reading


def test_a_record_of_the_captured_tables_is_a_version_of_its_own() -> None:
    """One that does not know it would forget it, and take a table that left the publication for a new one."""
    membership = {"publication": 16400, "tables": {"16384": [16401]}}
    data = dump(replace(at(0x16B374D848), membership=membership, snapshot={"tables": [{"table": ["public", "a"]}]}))
    assert data.startswith(b'{"version":3,')
    assert load(data).membership == membership
    assert load(data).snapshot


def test_a_flipped_bit_is_noticed_wherever_it_is() -> None:
    data = dump(at(0x16B374D848))
    for place in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[place] ^= 1 << bit
            with pytest.raises(CheckpointCorrupt):
                load(bytes(damaged))


def test_a_truncated_checkpoint_is_noticed_at_every_length() -> None:
    data = dump(at(0x16B374D848))
    for length in range(len(data)):
        with pytest.raises(CheckpointCorrupt):
            load(data[:length])


@pytest.mark.parametrize("data", [b"", b"\0" * 512, b"null", b"[]", b"7", b'"0/0"', b"{}", b"[" * 100_000, b"\xff\xfe"])
def test_what_is_no_checkpoint_at_all_is_refused(data: bytes) -> None:
    with pytest.raises(CheckpointCorrupt) as caught:
        load(data, "the offset file x")
    assert "the offset file x" in caught.value.fact
    assert caught.value.hint


def test_a_position_edited_by_hand_is_refused() -> None:
    edited = dump(at(0x16B374D848)).replace(b"16/B374D848", b"16/B374D999")
    with pytest.raises(CheckpointCorrupt):
        load(edited)


def test_transactions_that_no_snapshot_sees_yet_are_a_version_of_their_own() -> None:
    """One that does not know them would read rows from before what it delivered."""
    data = dump(replace(at(0x16B374D848), unseen=(700, 705)))
    assert data.startswith(b'{"version":4,')
    assert load(data).unseen == (700, 705)


def test_a_newer_version_is_told_apart_from_damage() -> None:
    newer = json.dumps({"version": 6, "shape": "unknown"}).encode()
    with pytest.raises(CheckpointCorrupt, match="version 6") as caught:
        load(newer)
    assert "newer" in caught.value.hint


def test_a_position_within_a_transaction_is_a_version_of_its_own() -> None:
    """One that does not know it would send the beginning of that transaction again."""
    chunk = TransactionChunk(xid=744, commit_lsn=0x16B374D900, changes=1000, crc32=0xDEADBEEF)
    stored = replace(at(0x16B374D848), chunk=chunk, cluster="siew_CseQ8Klgarjc2qHsw")
    data = dump(stored)
    assert data.startswith(b'{"version":5,')
    assert load(data) == stored
