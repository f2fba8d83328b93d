"""What a record tells about its commit, in each form it may have."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pycdc.operations.lag.record_times import RecordTimes

AT = 1_790_000_000_123_456


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def envelope(**source: Any) -> dict[str, Any]:
    return {"op": "u", "source": {"snapshot": "false", **source}, "after": {}}


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (as_json(envelope(ts_us=AT)), AT / 1e6),
        (as_json({"schema": {}, "payload": envelope(ts_us=AT)}), AT / 1e6),
        (as_json(envelope(ts_ms=AT // 1000)), AT // 1000 / 1e3),
        (as_json(envelope(ts_us=AT, snapshot="true")), None),
        (as_json({"id": 1}), None),
        (as_json([1]), None),
        (b"plain text", None),
        (b"", None),
        (None, None),
    ],
)
def test_the_commit_is_told_by_the_envelope_or_not_at_all(data: bytes | None, seconds: float | None) -> None:
    assert RecordTimes(None).committed_at(data) == seconds


def test_a_message_is_read_from_base64() -> None:
    data = as_json({"op": "m", "message": {"prefix": "pycdc.operations.lag", "content": "YTox"}})
    assert RecordTimes(None).message(data) == ("pycdc.operations.lag", b"a:1")


def test_a_row_is_no_message() -> None:
    assert RecordTimes(None).message(as_json(envelope(ts_us=AT))) is None
