"""Debezium's ``source.snapshot``: first, first_in_data_collection, true, last_in_data_collection, last."""

from __future__ import annotations

from pycdc.model.change import Op, Run, Table, Transaction


class SnapshotMarkers:
    """Makes runs of a snapshot's rows, split where the marker changes.

    The newest row is held back, because only its successor tells what it was.
    """

    def __init__(self, moment: Transaction) -> None:
        self._moment = moment
        self._held: tuple[Table, bytes, int] | None = None
        self._in_table = 0
        self._count = 0

    @property
    def holds(self) -> bool:
        """Whether a row is held back, which comes before all others."""
        return self._held is not None

    def runs(self, table: Table, lines: list[bytes]) -> list[Run]:
        """Return the runs that are certain now that `lines`, not empty, were read."""
        out: list[Run] = []
        new_table = self._held is None or self._held[0] is not table
        if self._held is not None:
            out.append(self._release("last_in_data_collection" if new_table else "true"))
        if new_table:
            self._in_table = 0
        first = len(lines) - 1 if self._in_table == 0 else 0
        if first > 0:
            out.append(self._run(table, [lines[0]], self._first()))
            lines = lines[1:]
        if len(lines) > 1:
            out.append(self._run(table, lines[:-1], "true"))
        self._held = (table, lines[-1], self._in_table)
        return out

    def around(self, table: Table, head: bytes, rows: int, tail: bytes | None) -> list[Run]:
        """Return the runs that come before `rows` rows, all of them "true", which stand between `head` and `tail`."""
        out = self.runs(table, [head])
        if tail is not None:
            out += self.runs(table, [tail])
            self._count += rows
        return out

    def finish(self) -> Run | None:
        """Return the last row of all, None if there were no rows."""
        return None if self._held is None else self._release("last")

    def _release(self, marker: str) -> Run:
        assert self._held is not None
        table, line, before = self._held
        if before == 0 and marker == "true":
            marker = self._first()
        elif self._count == 0 and marker != "last":
            marker = "first"
        self._held = None
        return self._run(table, [line], marker)

    def _first(self) -> str:
        return "first" if self._count == 0 else "first_in_data_collection"

    def _run(self, table: Table, lines: list[bytes], marker: str) -> Run:
        run = Run(Op.READ, table, self._moment, self._count, lines, marker)
        self._count += len(lines)
        self._in_table += len(lines)
        return run
