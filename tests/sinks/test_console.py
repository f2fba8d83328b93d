from __future__ import annotations

import io
import json
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from pycdc.config.capture_sink import ConsoleSinkConfig
from pycdc.interfaces import Checkpoint
from pycdc.model.change import (
    UNCHANGED,
    Batch,
    Change,
    Column,
    LogicalMessage,
    Lsn,
    Op,
    PgType,
    Position,
    Row,
    Run,
    Table,
)
from pycdc.model.change import Transaction as SourceTransaction
from pycdc.offsets.memory import MemoryOffsetStore
from pycdc.sinks.console import ConsoleSink

TRANSACTION = SourceTransaction(7, 0x16B374D848, 1_700_000_000_000_000)


def table_with(before: Row | None, after: Row | None) -> Table:
    def images(change: Change) -> tuple[Row | None, Row | None]:
        return before, after

    return Table(1, "public", "orders", (Column("id", PgType(23, "int4")),), ("id",), images=images)


def printed(*runs: Run, pretty: bool = False) -> list[Any]:
    stream = io.StringIO()
    ConsoleSink(ConsoleSinkConfig(pretty=pretty), stream).write(Batch(list(runs)))
    text = stream.getvalue()
    return [json.loads(line) for line in text.splitlines()] if not pretty else [text]


def one(before: Row | None, after: Row | None, op: Op = Op.UPDATE) -> Any:
    (line,) = printed(Run(op, table_with(before, after), TRANSACTION, 3, [b"\0" * 30]))
    return line


def test_a_change_is_one_line_of_json() -> None:
    assert one({"id": 1}, {"id": 1, "note": "ü"}) == {
        "op": "u",
        "table": "public.orders",
        "position": "16/B374D848+3",
        "committed_at": "2023-11-14T22:13:20+00:00",
        "before": {"id": 1},
        "after": {"id": 1, "note": "ü"},
    }


def test_values_that_json_lacks_become_their_nearest() -> None:
    name = uuid.uuid4()
    row = {
        "amount": Decimal("12345678901234567890.10"),
        "at": datetime(2024, 2, 29, 1, 2, 3, 4, UTC),
        "day": date(2024, 2, 29),
        "hour": time(1, 2, 3),
        "span": timedelta(days=1, seconds=2),
        "raw": b"\0\xff",
        "not_a_number": float("nan"),
        "endless": float("-inf"),
        "name": name,
        "tags": ["a", None, b"b", [Decimal(1)]],
        "map": {"k": Decimal("1.0")},
        "yes": True,
        "none": None,
        "big": 2**70,
    }
    assert one(None, row, Op.CREATE)["after"] == {
        "amount": "12345678901234567890.10",
        "at": "2024-02-29T01:02:03.000004+00:00",
        "day": "2024-02-29",
        "hour": "01:02:03",
        "span": "1 day, 0:00:02",
        "raw": "AP8=",
        "not_a_number": "nan",
        "endless": "-inf",
        "name": str(name),
        "tags": ["a", None, "Yg==", ["1"]],
        "map": {"k": "1.0"},
        "yes": True,
        "none": None,
        "big": 2**70,
    }


def test_columns_that_were_not_sent_are_named_and_have_no_value() -> None:
    line = one({"id": 1}, {"id": 1, "document": UNCHANGED})
    assert line["after"] == {"id": 1}
    assert line["unchanged"] == ["document"]


def test_a_delete_has_no_after() -> None:
    assert one({"id": 1}, None, Op.DELETE)["after"] is None


def test_a_logical_message_shows_its_prefix_and_content() -> None:
    message = LogicalMessage("audit", b"who", True, Lsn(1))
    (line,) = printed(Run(Op.MESSAGE, None, TRANSACTION, 0, [b""], message=message))
    assert (line["op"], line["table"], line["prefix"], line["content"]) == ("m", None, "audit", "d2hv")


def test_every_change_of_every_run_is_printed_in_order() -> None:
    table = table_with(None, {"id": 1})
    frames = [b"\0" * 30] * 3
    lines = printed(Run(Op.CREATE, table, TRANSACTION, 0, frames), Run(Op.CREATE, table, TRANSACTION, 3, frames))
    assert [line["position"].partition("+")[2] for line in lines] == ["", "1", "2", "3", "4", "5"]


def test_pretty_is_the_same_json_over_several_lines() -> None:
    (text,) = printed(Run(Op.CREATE, table_with(None, {"id": 1}), TRANSACTION, 0, [b"\0" * 30]), pretty=True)
    assert text.startswith('{\n  "op": "c"')
    assert json.loads(text)["after"] == {"id": 1}


def test_a_commit_stores_the_position_where_there_is_a_store() -> None:
    checkpoint = Checkpoint(Position(Lsn(5)))
    offsets = MemoryOffsetStore()
    ConsoleSink(ConsoleSinkConfig(), io.StringIO(), offsets).commit(checkpoint)
    assert offsets.load() == checkpoint
    ConsoleSink(ConsoleSinkConfig(), io.StringIO()).commit(checkpoint)
