"""Remember tables as they were when rows were written that are older than the catalog's version."""

from __future__ import annotations

from collections.abc import Set

from pycdc.model.change import Run, Table
from pycdc.rows.encoder import UnexpectedNull, UnknownLabel
from pycdc.rows.images import loosened, relabelled


class OlderTables:
    """Maps a table of the stream to the table that its rows fit, until the next version of it comes."""

    def __init__(self) -> None:
        self._loosened: dict[Table, Table] = {}

    def as_written(self, table: Table) -> Table:
        """Return the table as it was when its rows were written."""
        return self._loosened.get(table, table) if self._loosened else table

    def loosen(self, table: Table, written: Table, found: UnexpectedNull) -> None:
        """Let rows of `table` have what was found in one of them. `written` is the table that the row did not fit."""
        for old in [old for old in self._loosened if old.oid == table.oid]:
            del self._loosened[old]
        if isinstance(found, UnknownLabel):
            self._loosened[table] = relabelled(written, found.labels)
        else:
            self._loosened[table] = loosened(written, found.columns)

    def forget(self, oids: Set[int]) -> None:
        """Forget these tables, of which nothing more comes."""
        self._loosened = {table: other for table, other in self._loosened.items() if table.oid not in oids}


def rest_of(run: Run, index: int) -> Run:
    """Return what is left of the run from that change of its transaction on."""
    frames = run.frames[index - run.index :]
    return Run(run.op, run.table, run.transaction, index, frames, run.marker, run.message, run.routing)
