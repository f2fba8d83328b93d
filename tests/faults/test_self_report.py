"""What a pipeline says of itself while a server it needs is away or half open: lag, health, log, code.

One process for each direction, which meets the faults one after the other. Nothing is asked of its insides: only what
its status server, its log and the commands say.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.faults.chain import Chain, Watched, recovers, says_so
from tests.proxy import Proxy

pytestmark = [pytest.mark.pg("newest"), pytest.mark.exclusive]

ENDS: dict[str, Callable[[Proxy], None]] = {"away": Proxy.refuse, "half open": Proxy.blackhole}


@pytest.mark.parametrize("chain", ["capture", "apply"], indirect=True)
def test_a_pipeline_tells_of_each_server_that_is_away_or_half_open_and_of_its_return(chain: Chain) -> None:
    capture = chain.direction == "capture"
    with chain.running("capture") as forward, chain.running("apply") as back:
        watched = forward if capture else back
        chain.write()
        watched.until(lambda: chain.arrived == [1])
        watched.until(watched.is_well)
        for fault, end in ENDS.items():
            for what, proxy in chain.needed.items():
                watched.mark()
                end(proxy)
                chain.write()
                says_so(watched, what)
                if fault == "away" and proxy is chain.database:
                    commands_say_so(watched, what)
                proxy.heal()
                recovers(chain, watched)


def commands_say_so(watched: Watched, what: str) -> None:
    for command in (["status"], ["lag", "--seconds", "1s", "--fail-above", "1s"]):
        done = subprocess.run(
            [sys.executable, "-m", "pycdc", command[0], str(watched.path), *command[1:]],
            capture_output=True,
            text=True,
            env=watched.program.environment,
        )
        assert done.returncode == 1
        assert what in done.stdout + done.stderr
        assert re.search(r"^\s*try", done.stdout + done.stderr, re.M)


@pytest.mark.parametrize(
    ("chain", "what", "left"),
    [
        ("capture", "database", False),
        ("capture", "kafka", True),
        ("capture", "registry", True),
        ("apply", "database", True),
        ("apply", "kafka", False),
        ("apply", "registry", True),
    ],
    indirect=["chain"],
)
def test_a_stop_is_obeyed_while_a_server_is_half_open_and_the_exit_code_tells_whether_something_is_left(
    chain: Chain, what: str, left: bool
) -> None:
    proxy: Proxy = getattr(chain, what)
    with chain.running(chain.other), chain.running(chain.direction) as watched:
        chain.write()
        watched.until(lambda: chain.arrived == [1])
        watched.until(watched.is_well)
        proxy.blackhole()
        chain.write()
        watched.until(lambda: watched.reasons)
        began = time.monotonic()
        assert watched.program.stop() == (6 if left else 0), watched.program.log
        assert time.monotonic() - began < 30
        assert ("something was not delivered yet" in watched.program.log) is left
        proxy.heal()
        with chain.running(chain.direction) as again:
            again.until(lambda: chain.arrived == [1, 2])
            assert again.program.stop() == 0
