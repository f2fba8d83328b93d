"""A table that the first snapshot is reading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pycdc.connectors.postgres.catalog.metadata import CopySource
from pycdc.connectors.postgres.snapshot.backlog import TableTask
from pycdc.connectors.postgres.snapshot.block_ranges import BlockRange, Delivered, TableBlocks
from pycdc.connectors.postgres.snapshot.copy_reader import HeldLocks
from pycdc.model.change import Table
from pycdc.observability.progress import TableSnapshot


@dataclass(slots=True, eq=False)
class OpenTable:
    """A table that is being read, which was `held` as it has to stay.

    `blocks` is how many the next range has. `left`: it is read in another way.
    """

    table: Table
    source: CopySource
    task: TableTask
    progress: TableSnapshot
    held: HeldLocks
    oldest: int
    blocks: int
    plan: bytes = field(default=b"", repr=False)
    left: bool = False

    def __str__(self) -> str:
        return str(self.table)

    @property
    def heap(self) -> TableBlocks:
        return self.held.heap

    def ranges(self) -> Iterator[BlockRange]:
        first = 0
        while first < self.heap.blocks and not self.left:
            end = min(first + self.blocks, self.heap.blocks)
            yield BlockRange(first, end)
            first = end

    def delivered(self, block: int) -> Delivered:
        return Delivered(block, self.oldest, self.heap.files)
