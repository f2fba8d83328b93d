from __future__ import annotations

import pytest

from pycdc.offsets.memory import MemoryOffsetStore
from tests.offsets.contract import OffsetStoreContract, OpenStore


class TestMemoryOffsetStore(OffsetStoreContract):
    @pytest.fixture
    def open_store(self) -> OpenStore:
        store = MemoryOffsetStore()
        return lambda: store
