"""`pycdc facade run` as a process: what is left when it is killed, and what when it is told to end."""

from __future__ import annotations

import pytest

from tests.facade.conftest import Run
from tests.facade.upstreams import Load
from tests.reading import wait_for
from tests.services.process import accepts_connections

pytestmark = pytest.mark.server


def test_a_killed_guard_is_followed_by_one_that_takes_over_without_a_failed_request(run: Run) -> None:
    """The kernel resets connections that wait to be accepted where an Envoy leaves the port: browsers try again."""
    facade = run()
    with Load(facade.port, repeats=True) as load:
        wait_for(lambda: load.total > 50)
        facade.program.kill()
        before = load.total
        wait_for(lambda: load.total > before + 50)
        facade.program = facade.start()
        before = load.total
        wait_for(lambda: load.total > before + 50)
        assert facade.command("set", "read", "100", "--at-once").returncode == 0
        wait_for(lambda: load.counts[200, "new"] > 50)
    assert load.failed == 0, load.counts


def test_its_end_is_envoys_end(run: Run) -> None:
    facade = run()
    assert facade.program.stop() == 0
    assert not accepts_connections(facade.port)
    assert "no Envoy runs" in facade.command("status").stdout
