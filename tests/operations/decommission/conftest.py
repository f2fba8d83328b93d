from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from confluent_kafka.admin import AdminClient

from pycdc.operations.cutover import fence
from pycdc.operations.cutover.group_state import GroupState, create_table, write_state
from pycdc.operations.cutover.opening import opened_group
from pycdc.operations.decommission.commands import Decommission, Report
from tests.operations.conftest import Worlds
from tests.operations.cutover.world import World
from tests.reading import wait_for

Closed = Callable[..., "ClosedGroup"]


class ClosedGroup:
    """A group whose writes have moved and whose pipelines have been stopped, with all that they left behind."""

    def __init__(self, world: World, brokers: str) -> None:
        self.world = world
        self.brokers = brokers
        self._admin = AdminClient({"bootstrap.servers": brokers})
        world.close()
        with opened_group(str(world.path), "inventory") as (group, *_):
            for side, owns in ((group.old, False), (group.new, True)):
                fence.install(side.connection)
                create_table(side.connection)
                with fence.locked(side.connection, side.tables, 10):
                    fence.put_up(side.connection, side.fences(owns=owns))
                write_state(side.connection, group.name, GroupState(version=1, stage="closed"))

        self.settle()

    def settle(self) -> None:
        """Wait until no session of a test is left, whose last statement would count as use of the tables."""
        others = """SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""
        wait_for(lambda: self.world.rows("old", others) == [(0,)])

    def execute(self, side: str, *statements: str) -> None:
        for statement in statements:
            self.world.execute(side, statement)
        self.settle()

    def rows(self, side: str, query: str) -> list[Any]:
        found = self.world.rows(side, query)
        self.settle()
        return found

    def run(self, **options: Any) -> Report:
        with opened_group(str(self.world.path), "inventory") as (group, facade, folder):
            return Decommission(group, facade, folder).run(**options)

    def plan(self) -> Report:
        with opened_group(str(self.world.path), "inventory") as (group, facade, folder):
            return Decommission(group, facade, folder).plan()

    def command(self, *options: str) -> tuple[int, Any]:
        """Run the command as a user does; return its exit code and its JSON."""
        command = [sys.executable, "-m", "pycdc", "decommission", str(self.world.path), "inventory", "--json", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def remnants(self) -> list[str]:
        """Ask the servers what there is of the group, by queries of this test's own."""
        name = self.world.pipelines["capture"].config.name.rpartition("_")[0]
        found = []
        for side, dsn in self.world.dsns.items():
            with psycopg.connect(dsn, autocommit=True) as connection:
                found += [f"{side} {one}" for (one,) in connection.execute(REMNANTS, {"name": f"%{name}%"})]
        topics = self._admin.list_topics(timeout=20).topics
        groups = self._admin.list_consumer_groups().result(20).valid
        return found + [one for one in [*topics, *(group.group_id for group in groups)] if name in one]


REMNANTS = """
SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = current_database()
UNION ALL SELECT 'publication ' || pubname FROM pg_publication
UNION ALL SELECT 'origin ' || roname FROM pg_replication_origin WHERE roname LIKE %(name)s
UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname LIKE 'pycdc%%'
UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE proname = 'refuse'
UNION ALL SELECT 'table ' || relname FROM pg_class WHERE relname IN ('stock', 'moves', 'pycdc_offsets')
UNION ALL SELECT 'role ' || rolname FROM pg_roles WHERE rolname LIKE %(name)s
"""


@pytest.fixture
def closed(world: Worlds, kafka: Any) -> Closed:
    def make(world_options: dict[str, Any] | None = None, **decommission: Any) -> ClosedGroup:
        made = world(decommission={"quiet": 0, **decommission}, **(world_options or {}))
        return ClosedGroup(made, kafka.bootstrap)

    return make
