"""How far an apply pipeline has got, read from its own table. Changes nothing."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import sql

from pycdc.clients.postgres_errors import target_error
from pycdc.clients.postgres_sessions import connect_to_target
from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.errors import EnvironmentNotReady
from pycdc.model.event import Partition

_OFFSETS: Final = "SELECT topic, partition, next_offset FROM {} WHERE pipeline = %s"


class AppliedOffsets:
    """Reads the applied offsets by one connection. Raises PycdcError."""

    def __init__(self, settings: PostgresSinkConfig, pipeline: str) -> None:
        self._pipeline = pipeline
        self._query = sql.SQL(_OFFSETS).format(sql.Identifier(settings.bookkeeping, "apply_offsets"))
        self._connection = connect_to_target(settings.dsn.get_secret_value())
        self._connection.autocommit = True

    def read(self) -> dict[Partition, int]:
        """Return the next offset of each partition that was ever claimed."""
        try:
            rows = self._connection.execute(self._query, (self._pipeline,)).fetchall()
        except psycopg.errors.UndefinedTable:
            raise EnvironmentNotReady(
                f"pipeline {self._pipeline} has never run: its table apply_offsets is not there",
                hint="start it with `pycdc run`",
            ) from None
        except psycopg.Error as error:
            raise target_error(error) from None
        return {Partition(topic, number): offset for topic, number, offset in rows}

    def close(self) -> None:
        self._connection.close()
