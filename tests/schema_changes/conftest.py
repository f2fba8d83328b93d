from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.schema_changes.stream import Stream
from tests.services.postgres import PostgresServer


@pytest.fixture(scope="module")
def stream(postgres: PostgresServer) -> Iterator[Stream]:
    """All tables of a database of this module's own, on each version of Postgres."""
    dsn = postgres.create_database()
    with closing(Stream(dsn)) as stream:
        yield stream
    postgres.drop_database(dsn)
