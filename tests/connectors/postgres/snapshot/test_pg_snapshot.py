from __future__ import annotations

import pytest

from pycdc.connectors.postgres.snapshot.pg_snapshot import PgSnapshot, UnseenTransactions


def of(text: str) -> PgSnapshot:
    return PgSnapshot.parse(text)


def test_what_a_snapshot_sees_is_forgotten_and_what_it_does_not_see_stays() -> None:
    unseen = UnseenTransactions()
    unseen.delivered += [90, 100, 101]
    assert not unseen.settle(of("100:103:100,102"))
    assert unseen.delivered == [100]
    assert unseen.settle(of("102:103:102"))
    assert unseen.state == ()


def test_the_state_is_the_range_of_what_may_be_unseen_and_a_restart_waits_for_all_of_it() -> None:
    unseen = UnseenTransactions()
    unseen.delivered += [105, 100, 103]
    assert unseen.state == (100, 105)
    unseen.delivered.append(99)
    assert unseen.state == (99, 105)
    after = UnseenTransactions(unseen.state)
    assert after.state == (99, 105)
    assert not after.settle(of("100:110:100,108")), "100 is still in progress"
    assert not after.settle(of("105:105:")), "105 is behind the snapshot's end"
    assert after.settle(of("108:110:108"))
    assert not after.state


def test_a_range_stays_until_it_is_settled_and_takes_in_what_comes() -> None:
    unseen = UnseenTransactions((100, 105))
    unseen.delivered.append(200)
    assert unseen.state == (100, 200)
    assert not unseen.settle(of("101:300:101"))
    assert unseen.state == (100, 105)


@pytest.mark.parametrize("xmax", [(3 << 32) + 20, 1 << 32])
def test_ids_that_went_round_lie_in_their_order(xmax: int) -> None:
    low, high = (xmax - 10) & 0xFFFFFFFF, (xmax - 2) & 0xFFFFFFFF
    unseen = UnseenTransactions()
    unseen.delivered += [high, low]
    assert unseen.state == (low, high)
    assert not UnseenTransactions((low, high)).settle(of(f"{xmax - 5}:{xmax}:{xmax - 5}"))
    assert UnseenTransactions((low, high)).settle(of(f"{xmax - 1}:{xmax}:{xmax - 1}"))
