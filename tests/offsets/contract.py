"""What every offset store promises, whatever it is made of. Subclasses bring the fixture `open_store`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pycdc.errors import SinkFenced
from pycdc.interfaces import Checkpoint, OffsetStore
from pycdc.model.change import Lsn, Position

SOURCE = {"system": "7300000000000000001", "timeline": 1, "database": "shop", "slot": "pycdc_shop"}
OpenStore = Callable[[], OffsetStore]
"""Opens the same store once more, as a new process would."""


def at(lsn: int, index: int = 0, **source: object) -> Checkpoint:
    return Checkpoint(Position(Lsn(lsn), index), Lsn(max(0, lsn - 8)), {**SOURCE, **source})


class OffsetStoreContract:
    def test_a_store_that_was_never_written_has_no_checkpoint(self, open_store: OpenStore) -> None:
        assert open_store().load() is None

    def test_what_was_stored_is_what_another_process_loads(self, open_store: OpenStore) -> None:
        checkpoint = Checkpoint(Position(Lsn(0x16B374D848), 3), Lsn(0x16B374D800), {**SOURCE, "é": ["ü", None]}, False)
        open_store().store(checkpoint)
        assert open_store().load() == checkpoint

    def test_types_survive(self, open_store: OpenStore) -> None:
        open_store().store(at(256))
        loaded = open_store().load()
        assert loaded is not None
        assert type(loaded.position) is Position
        assert type(loaded.position.lsn) is Lsn
        assert type(loaded.last_commit) is Lsn

    def test_the_newest_checkpoint_wins(self, open_store: OpenStore) -> None:
        store = open_store()
        for lsn in range(100, 130):
            store.store(at(lsn))
        assert open_store().load() == at(129)

    def test_storing_the_same_position_again_is_fine(self, open_store: OpenStore) -> None:
        store = open_store()
        store.store(at(100))
        store.store(at(100))
        assert open_store().load() == at(100)

    def test_an_index_within_a_transaction_counts_as_progress(self, open_store: OpenStore) -> None:
        store = open_store()
        store.store(at(100))
        store.store(at(100, 7))
        with pytest.raises(SinkFenced):
            store.store(at(100, 6))
        assert open_store().load() == at(100, 7)

    def test_a_position_never_moves_backward_on_the_same_source(self, open_store: OpenStore) -> None:
        open_store().store(at(200))
        with pytest.raises(SinkFenced, match="another instance") as caught:
            open_store().store(at(199))
        assert caught.value.hint
        assert open_store().load() == at(200)

    def test_another_source_starts_wherever_it_is(self, open_store: OpenStore) -> None:
        store = open_store()
        store.store(at(200))
        store.store(at(10, timeline=2))
        assert open_store().load() == at(10, timeline=2)

    def test_a_cleared_store_is_empty_and_takes_any_position(self, open_store: OpenStore) -> None:
        open_store().store(at(200))
        open_store().clear()
        assert open_store().load() is None
        open_store().store(at(5))
        assert open_store().load() == at(5)

    def test_clearing_twice_or_an_empty_store_is_fine(self, open_store: OpenStore) -> None:
        store = open_store()
        store.clear()
        store.clear()
        assert store.load() is None

    def test_closing_twice_is_fine(self, open_store: OpenStore) -> None:
        store = open_store()
        store.store(at(1))
        store.close()
        store.close()
