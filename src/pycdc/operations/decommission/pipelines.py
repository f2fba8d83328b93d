"""What the four pipelines of a group keep: slots, publications, positions; bookkeeping, origins, consumer groups.

A pipeline that also works for tables of others stays, and says what has to be taken out of it.
"""

from __future__ import annotations

from contextlib import closing
from typing import Final

from pycdc.build.offsets import build_offsets
from pycdc.clients.kafka_inspection import TopicInspection
from pycdc.config.pipeline import ApplyPipeline, CapturePipeline
from pycdc.model.patterns import qualified
from pycdc.operations import teardown
from pycdc.operations.cutover.sides import Side
from pycdc.operations.decommission.remnant import OnProgress, Remnant
from pycdc.sinks.postgres.bookkeeping.inspection import leftovers, remove_pipeline_state

_ANSWER: Final = 30.0
"""Seconds for a question to the brokers."""
_PUBLISHED: Final = "SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = %s ORDER BY 1"
_SLOT: Final = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
_PUBLICATION: Final = "SELECT FROM pg_publication WHERE pubname = %s"


class CaptureRemnants:
    """Slot, publication and stored position of a capture of `side`."""

    def __init__(self, capture: CapturePipeline, side: Side) -> None:
        self.name = f"capture {capture.name}"
        self.capture = capture
        self._side = side
        mine = {".".join(table) for table in side.tables}
        published = side.connection.execute(_PUBLISHED, (capture.publication,)).fetchall()
        self.others = [table for (table,) in published if table not in mine]
        """Tables that are none of the group's, and keep the capture in work."""

    @property
    def runs(self) -> bool:
        return self._side.connection.execute(_SLOT, (self.capture.slot,)).fetchone() == (True,)

    def kept(self) -> list[Remnant]:
        if self.others:
            tables = ", ".join(".".join(table) for table in self._side.tables)
            reason = f"it captures {', '.join(self.others)} too; take {tables} out of its tables"
            return [Remnant("capture", self.capture.name, reason)]
        if not self.capture.source.postgres.manage_publication and self._publication():
            return [
                Remnant("publication", self.capture.publication, "manage_publication is off: whoever made it drops it")
            ]
        return []

    def present(self) -> list[Remnant]:
        if self.others:
            return []
        found = []
        if self._side.connection.execute(_SLOT, (self.capture.slot,)).fetchone() is not None:
            found.append(Remnant("slot", self.capture.slot))
        if self.capture.source.postgres.manage_publication and self._publication():
            found.append(Remnant("publication", self.capture.publication))
        with closing(build_offsets(self.capture)) as offsets:
            if offsets.load() is not None:
                found.append(Remnant("position", self.capture.name))
        return found

    def remove(self, on_progress: OnProgress) -> None:
        for line in teardown.remove(self.capture):
            on_progress(line)

    def _publication(self) -> bool:
        return self._side.connection.execute(_PUBLICATION, (self.capture.publication,)).fetchone() is not None


class ApplyRemnants:
    """Bookkeeping, replication origins and consumer group of a pipeline that writes into `side`."""

    def __init__(self, apply: ApplyPipeline, side: Side) -> None:
        self.name = f"apply {apply.name}"
        self.apply = apply
        mine = {".".join(table) for table in side.tables}
        routes = apply.sink.postgres.routes
        self.others = sorted({qualified(route.table) for route in routes} - mine)
        """Tables that are none of the group's, and keep the pipeline in work."""
        self.mine = [route.topic for route in routes if qualified(route.table) in mine]
        """Topics of the group's tables, as the routes name them."""
        self._brokers = TopicInspection(apply.source.kafka, _ANSWER)

    def running(self) -> bool:
        """Return whether its group has members; False where the brokers do not answer."""
        return self._brokers.administered() and bool(self._brokers.members(self.apply.group))

    def kept(self) -> list[Remnant]:
        if not self.others:
            return []
        reason = f"it writes {', '.join(self.others)} too; take the group's topics out of its routes"
        return [Remnant("pipeline", self.apply.name, reason)]

    def present(self) -> list[Remnant]:
        if self.others:
            return []
        sink, found = self.apply.sink.postgres, []
        state = leftovers(sink, self.apply.name)
        found += [Remnant("rows", f"{sink.bookkeeping}.{table}") for table, count in state.rows.items() if count]
        found += [Remnant("table", f"{sink.bookkeeping}.{table}") for table in state.unused]
        found += [Remnant("replication origin", origin) for origin in state.origins]
        if self._brokers.administered() and self._brokers.group_exists(self.apply.group):
            found.append(Remnant("consumer group", self.apply.group))
        return found

    def remove(self, on_progress: OnProgress) -> None:
        for line in remove_pipeline_state(self.apply.sink.postgres, self.apply.name):
            on_progress(line)
        if self._brokers.administered() and self._brokers.delete_group(self.apply.group):
            on_progress(f"deleted consumer group {self.apply.group}")
