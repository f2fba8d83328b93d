from __future__ import annotations

from collections import Counter

import pytest

from pycdc.demo import report
from pycdc.demo.event_stats import ConsumedLag
from pycdc.demo.status import DemoAddresses, DemoStatus, DemoSummary, Slot

WHERE = DemoAddresses("postgresql://p@127.0.0.1:1/shop", "127.0.0.1:2", "http://127.0.0.1:3", ("shop.public.orders",))
WRITTEN = Counter({("orders", "c"): 1200, ("orders", "d"): 34})


def status(**changes: object) -> DemoStatus:
    facts: dict[str, object] = {
        "addresses": WHERE,
        "pipeline": "streaming",
        "last_error": None,
        "elapsed": 3.2,
        "seconds": 20.0,
        "written": WRITTEN,
        "read": WRITTEN,
        "others": 0,
        "newest": (),
        "rates": (0.0, 100.0, 200.0, 100.0, 200.0),
        "lag": ConsumedLag(0.012, 1.25, 2.0),
        "slot": Slot("pycdc_shop", True, "0/15", 2048, 4096),
    }
    return DemoStatus(**{**facts, **changes})  # type: ignore[arg-type]


def test_the_addresses_are_all_told() -> None:
    text = report.addresses(WHERE)
    assert all(part in text for part in (WHERE.postgres, WHERE.brokers, WHERE.registry, *WHERE.topics))


def test_a_line_tells_counts_rate_lag_slot_and_state() -> None:
    assert report.line(status()) == (
        "   3 s | written 1,234 | read back 1,234 | 150/s | lag p50 12 ms, p99 1.2 s | slot 2.0 kB behind | streaming"
    )


def test_a_line_tells_the_last_error() -> None:
    assert report.line(status(slot=None, lag=None, last_error="gone")).endswith("lag - | no slot | streaming: gone")


def test_the_summary_says_that_all_came_back() -> None:
    text = report.summary(DemoSummary(WRITTEN, WRITTEN, 0, 34, 61.7, ConsumedLag(0.01, 0.02, 0.03), 2.1, None))
    assert "✓ every change was read back exactly once" in text
    assert "62 events/s" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_summary_says_what_did_not() -> None:
    text = report.summary(DemoSummary(WRITTEN, Counter({("orders", "c"): 1200}), 3, 0, 1.0, None, None, None))
    assert "✗ written and read differ: orders delete: 34, 0" in text
    assert "3 events of changes that other sessions made" in text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 kB"), (50 << 20, "50 MB"), (3 << 40, "3072 GB")]
)
def test_sizes_are_for_humans(count: int, text: str) -> None:
    assert report.size(count) == text
