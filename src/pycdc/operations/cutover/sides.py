"""Both systems of a group, and the pipelines between them, seen from the one that hands its writes over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import psycopg

from pycdc.clients.postgres_sessions import connect_to_source
from pycdc.config import load
from pycdc.config.cutover import CutoverGroupConfig
from pycdc.config.pipeline import ApplyPipeline, CapturePipeline, PipelineConfig
from pycdc.errors import ConfigError
from pycdc.operations.cutover.fence import Fence
from pycdc.operations.cutover.group_state import HandoverDirection

SideName = Literal["old", "new"]


@dataclass(frozen=True, slots=True)
class Way:
    """A capture of one side and the pipeline that writes its events into the other."""

    direction: HandoverDirection
    capture: CapturePipeline
    apply: ApplyPipeline


class Side:
    """One system's database, reached as the owner of its tables."""

    def __init__(self, name: SideName, dsn: str, config: CutoverGroupConfig, group: str) -> None:
        self.name = name
        self.dsn = dsn
        self._config = config
        self._group = group
        self.connection: psycopg.Connection[Any] = connect_to_source(dsn)

    @property
    def tables(self) -> list[tuple[str, str]]:
        return [_split(one.old if self.name == "old" else one.new) for one in self._config.tables]

    def fences(self, *, owns: bool) -> list[Fence]:
        """Return what this side may not write: what has moved away, or with `owns` what has not come along."""
        return [fence for one in self._config.tables if (fence := self._fence(one.old, one.new, one, owns)) is not None]

    def _fence(self, old: str, new: str, table: Any, owns: bool) -> Fence | None:
        other = "new" if self.name == "old" else "old"
        by_columns = bool(table.old_columns)
        if self.name == "old":
            if owns:
                return None
            columns = tuple(table.old_columns)
            what = f"column {', '.join(columns)}" if columns else "the table"
            return Fence(_split(old), self._reason(what, other), columns=columns)
        if owns and not by_columns:
            return None
        if owns:
            columns = tuple(table.new_columns)
            return Fence(_split(new), self._reason(f"all but {', '.join(columns)}", other), but=columns)
        return Fence(_split(new), self._reason("the table", other))

    def _reason(self, what: str, owner: str) -> str:
        return f"{what} belongs to the {owner} system (group {self._group})"


class Group:
    """A group with open sessions of both databases. A context manager. Raises PycdcError."""

    def __init__(self, name: str, config: CutoverGroupConfig, folder: Path) -> None:
        self.name = name
        self.config = config
        paths = (config.capture, config.apply, config.reverse_capture, config.reverse_apply)
        capture, apply, reverse_capture, reverse_apply = (load(folder / path) for path in paths)
        self._ways: dict[HandoverDirection, Way] = {
            "forward": _way("forward", capture, apply),
            "back": _way("back", reverse_capture, reverse_apply),
        }
        self.old = Side("old", config.old_dsn.get_secret_value(), config, name)
        try:
            self.new = Side("new", config.new_dsn.get_secret_value(), config, name)
        except BaseException:
            self.old.connection.close()
            raise

    def way(self, direction: HandoverDirection) -> Way:
        return self._ways[direction]

    def sides(self, direction: HandoverDirection) -> tuple[Side, Side]:
        """Return the side that gives its writes away, and the one that gets them."""
        return (self.old, self.new) if direction == "forward" else (self.new, self.old)

    @property
    def connections(self) -> tuple[psycopg.Connection[Any], psycopg.Connection[Any]]:
        return self.old.connection, self.new.connection

    def __enter__(self) -> Group:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self.connections:
            connection.close()


def _split(table: str) -> tuple[str, str]:
    schema, _, name = table.partition(".")
    return schema, name


def _way(direction: HandoverDirection, capture: PipelineConfig, apply: PipelineConfig) -> Way:
    """Return the two pipelines of a direction. Raises ConfigError where one is of the other kind."""
    if not (isinstance(capture, CapturePipeline) and isinstance(apply, ApplyPipeline)):
        raise ConfigError(
            f"{capture.name} and {apply.name} are not a capture of Postgres and a pipeline into its tables",
            hint="name the capture under capture and reverse_capture, the other under apply and reverse_apply",
        )
    return Way(direction, capture, apply)
