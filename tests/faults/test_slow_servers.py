"""What a pipeline says of itself while the way to a server is slow: late, narrow, and yet no outage.

One process for each direction, which meets the slow ways one after the other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from tests.faults.chain import SCHEMAS, TARGET, Chain, Watched
from tests.proxy import Proxy

pytestmark = [pytest.mark.pg("newest"), pytest.mark.exclusive]

WAYS: dict[str, Callable[[Proxy], None]] = {
    "late": lambda proxy: proxy.delay(0.5),
    "narrow": lambda proxy: proxy.throttle(20_000),
}
"""A question and its answer take a second; 60 kB take three."""
UNHEALTHY_AFTER = 30.0


def write(chain: Chain, *, new_schema: bool) -> None:
    """A row of 60 kB that no compression makes much smaller. A table that changed is looked at again by some thirty
    questions, which would only take the test's time."""
    chain.rows += 1
    if new_schema:
        for dsn in reversed(chain.dsns):
            chain.sql(dsn, f"ALTER TABLE items ADD c{chain.rows} int")
    noise = "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 1900))"
    chain.sql(chain.dsns[0], f"INSERT INTO items (id, noise) VALUES ({chain.rows}, {noise})")


def goes_through_it(chain: Chain, watched: Watched, what: str) -> None:
    """Nothing is given up; what is said names the slow server; the lag is told while it is there, and ends."""
    lags: list[float | None] = []

    def arrived() -> bool:
        assert watched.get("/livez")[0] == 200
        reasons = watched.reasons
        assert not reasons or what in reasons
        lags.append(watched.lag)
        return chain.is_complete()

    watched.until(arrived)
    # What lies in a topic is known once it is read; until then, what was known of its end counts for five seconds.
    unknown = chain.direction == "apply" and what != TARGET
    assert unknown or any(lag is None or lag > 0 for lag in lags), lags
    watched.until(watched.is_well)
    assert all(what in str(line) for line in watched.news("warning", "error")), watched.news("warning", "error")
    assert not [line for line in watched.news("warning") if "rewinding" in line["event"]]


@pytest.mark.parametrize("chain", ["capture", "apply"], indirect=True)
def test_a_slow_way_to_a_server_is_no_outage_and_delays_what_it_has_to(chain: Chain) -> None:
    for dsn in chain.dsns:
        chain.sql(dsn, "ALTER TABLE items ADD noise text")
    with chain.running(chain.other):
        with chain.running(chain.direction, unhealthy_after=UNHEALTHY_AFTER) as watched:
            write(chain, new_schema=False)
            watched.until(chain.is_complete)
            watched.until(watched.is_well)
            for slow in WAYS.values():
                for what, proxy in chain.needed.items():
                    watched.mark()
                    slow(proxy)
                    write(chain, new_schema=what == SCHEMAS)
                    goes_through_it(chain, watched, what)
                    proxy.heal()
            assert "outages" not in json.loads(watched.get("/status")[1])
            for proxy in chain.needed.values():
                WAYS["late"](proxy)
            write(chain, new_schema=False)
            began = time.monotonic()
            assert watched.program.stop() in (0, 6), watched.program.log
            assert time.monotonic() - began < 30
        for proxy in chain.needed.values():
            proxy.heal()
        with chain.running(chain.direction) as again:
            again.until(chain.is_complete)
            assert again.program.stop() == 0
