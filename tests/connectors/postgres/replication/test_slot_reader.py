"""When the reader of a slot counts as silent: by what the server says of its walsender, at each look."""

from __future__ import annotations

from typing import Any

import pytest

from pycdc.connectors.postgres.replication import slot_reader
from pycdc.connectors.postgres.replication.slot_reader import SlotReader

LIMIT = 3.0


class Server:
    """What it would answer; `now` is its clock and ours."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.replied: str | None = "10:00:00"
        self.working = False
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        monkeypatch.setattr(slot_reader, "is_working", lambda dsn, pid: self.working)

    def last_reply(self, pid: int) -> str | None:
        return self.replied


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(monkeypatch)


@pytest.fixture
def reader(server: Server) -> SlotReader:
    catalog: Any = server
    return SlotReader(catalog, "")


def test_a_reader_is_silent_once_its_updates_stay_away_for_longer_than_the_limit(
    server: Server, reader: SlotReader
) -> None:
    assert not reader.is_silent(7, LIMIT)
    server.now += LIMIT
    assert not reader.is_silent(7, LIMIT)
    server.now += 0.1
    assert reader.is_silent(7, LIMIT)


def test_any_other_update_and_any_other_reader_begin_anew(server: Server, reader: SlotReader) -> None:
    """The time is by the reader's clock, which may go back."""
    reader.is_silent(7, LIMIT)
    server.now, server.replied = server.now + LIMIT, "09:59:00"
    assert not reader.is_silent(7, LIMIT)
    server.now += LIMIT
    assert not reader.is_silent(7, LIMIT)
    server.now += 0.1
    assert not reader.is_silent(8, LIMIT)


def test_a_walsender_that_sorts_a_large_transaction_takes_no_updates_and_gets_its_time_behind_that(
    server: Server, reader: SlotReader
) -> None:
    reader.is_silent(7, LIMIT)
    server.now, server.working = server.now + 600, True
    assert not reader.is_silent(7, LIMIT)
    server.working = False
    server.now += LIMIT
    assert not reader.is_silent(7, LIMIT)
    server.now += 0.1
    assert reader.is_silent(7, LIMIT)


def test_a_reader_whose_updates_cannot_be_seen_is_never_silent(server: Server, reader: SlotReader) -> None:
    server.replied = None
    for _ in range(3):
        assert not reader.is_silent(7, LIMIT)
        server.now += 1000
