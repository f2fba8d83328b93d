"""`/gates/GROUP` of a status server: open, closed with its reason, and never older than it may be."""

from __future__ import annotations

import json
from http import HTTPStatus

import psycopg
import pytest

from pycdc.config.runtime import HttpConfig
from pycdc.observability.progress import Progress
from pycdc.observability.server import StatusServer
from pycdc.operations.migration.service import MigrationService
from tests.operations.conftest import Worlds
from tests.reading import wait_for

pytestmark = pytest.mark.pg("newest")


def test_gates_are_served_with_their_reasons(world: Worlds) -> None:
    here = world(gates={"max_lag": 10, "max_transaction": 1})
    with (
        MigrationService(str(here.path)) as service,
        StatusServer(HttpConfig(port=0), Progress(), "to-new", service) as server,
    ):
        assert server.answer("/gates/inventory")[0] == HTTPStatus.SERVICE_UNAVAILABLE  # not asked yet
        wait_for(lambda: server.answer("/gates/inventory")[0] == HTTPStatus.OK)
        assert server.answer("/gates/other")[0] == HTTPStatus.NOT_FOUND
        with psycopg.connect(here.dsns["old"]) as idle:
            idle.execute("UPDATE stock SET price = 5")
            wait_for(lambda: server.answer("/gates/inventory")[0] == HTTPStatus.SERVICE_UNAVAILABLE)
            told = json.loads(server.answer("/gates/inventory")[2])
            [closed] = [gate for gate in told["gates"] if not gate["open"]]
            assert (closed["gate"], closed["goal"], closed["unit"]) == ("transactions", 1, "seconds")
            assert closed["value"] > 1
        wait_for(lambda: server.answer("/gates/inventory")[0] == HTTPStatus.OK)
