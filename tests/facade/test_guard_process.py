"""`pycdc facade run` as a process: what is left when it is killed, and what when it is told to end."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.facade.conftest import Run, Running
from tests.facade.upstreams import Load, Upstream
from tests.reading import wait_for
from tests.services.process import accepts_connections

pytestmark = pytest.mark.server


def envoys(facade: Running) -> list[int]:
    """Return the processes of this façade's Envoy, ended ones left out."""
    mine = str(facade.folder / "facade" / "envoy.json").encode()
    return [int(one.parent.name) for one in Path("/proc").glob("[0-9]*/cmdline") if mine in words(one)]


def words(cmdline: Path) -> list[bytes]:
    try:
        return cmdline.read_bytes().split(b"\0")
    except OSError:
        return []


def test_a_killed_guard_is_followed_by_one_that_takes_over_without_a_failed_request(run: Run) -> None:
    facade = run()
    with Load(facade.port) as load:
        wait_for(lambda: load.total > 50)
        facade.program.kill()
        (envoy,) = envoys(facade)
        before = load.total
        wait_for(lambda: load.total > before + 50)
        facade.program = facade.start()
        before = load.total
        wait_for(lambda: load.total > before + 50)
        assert facade.command("set", "read", "100", "--at-once").returncode == 0
        wait_for(lambda: load.counts[200, "new"] > 50)
    assert load.failed == 0, load.counts
    assert envoys(facade) == [envoy]
    assert facade.program.stop() == 0
    wait_for(lambda: envoys(facade) == [])


def test_an_adopted_envoy_that_ends_ends_the_guard(run: Run) -> None:
    facade = run()
    facade.program.kill()
    facade.program = facade.start()
    os.kill(envoys(facade)[0], signal.SIGKILL)
    assert facade.program.wait() == 3
    assert "Envoy ended" in facade.program.log


def test_a_changed_bootstrap_brings_another_envoy_and_the_one_before_leaves(run: Run, new: Upstream) -> None:
    facade = run()
    facade.program.kill()
    before = envoys(facade)
    document = json.loads(facade.path.read_text())
    document["facade"]["clusters"]["old"] = new.url
    facade.path.write_text(json.dumps(document))
    facade.command("render")  # the file says the new bootstrap now, the Envoy that runs does not know it
    facade.program = facade.start()
    wait_for(lambda: len(envoys(facade)) == 1)
    assert envoys(facade) != before
    assert {facade.browser().ask("GET", "/api/stock/1") for _ in range(10)} == {(200, "new 0")}


def test_an_envoy_that_was_not_ready_when_its_guard_was_killed_does_not_stay(run: Run) -> None:
    facade = run()
    assert facade.program.stop() == 0
    facade.program = facade.begin()
    facade.program.wait_until(lambda: bool(serving(facade)))
    facade.program.kill()
    (started,) = serving(facade)
    (facade.folder / "facade" / "envoy-process.json").unlink(missing_ok=True)  # as if it were killed before that
    facade.program = facade.start()
    assert len(envoys(facade)) == 1
    assert started not in envoys(facade)


def serving(facade: Running) -> list[int]:
    return [pid for pid in envoys(facade) if b"--admin-address-path" in words(Path(f"/proc/{pid}/cmdline"))]


def test_a_second_guard_is_refused_with_a_remedy(run: Run) -> None:
    facade = run()
    second = facade.command("run")
    assert second.returncode == 3
    assert "another pycdc facade run is at work" in second.stderr
    assert facade.browser().ask("GET", "/api/stock/1")[0] == 200


def test_its_end_is_envoys_end(run: Run) -> None:
    facade = run()
    assert facade.program.stop() == 0
    assert not accepts_connections(facade.port)
    assert "no Envoy runs" in facade.command("status").stdout
