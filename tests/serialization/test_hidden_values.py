"""What a rule hides is nowhere in what is written: not in keys, values, headers or schemas, in any form."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from pycdc.model.change import UNCHANGED, Op, Routing, Run, Table
from pycdc.rows.tuples import ColumnBytes
from pycdc.serialization.avro_format import AvroFormat
from pycdc.serialization.json_format import JsonFormat
from pycdc.serialization.record_format import RecordFormat
from pycdc.serialization.serializer import Serializer
from tests.connectors.postgres import frames
from tests.serialization.runs import PlainForm, batch, column, configured, run

CANARY = b"canary-4711"
ROW: list[ColumnBytes] = [CANARY, CANARY, CANARY, b"x"]
RULES: list[dict[str, Any]] = [
    {"hash": [{"columns": ["mail", "name", "note"], "salt": "s"}]},
    {"mask": {"mail": 3, "name": 2, "note": 0}},
    {"truncate": {"mail": 3, "name": 0, "note": 1}},
    {"hash": [{"columns": ["mail"], "salt": "s"}], "exclude_columns": ["name", "note"]},
    {"mask": {"mail": 1}, "include_columns": ["n"], "rename": {"mail": "m"}},
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"compatibility": "debezium", "envelope": {"transaction_metadata": True, "context_headers": True}},
    {"flatten": {"deletes": "rewrite_with_tombstone", "add_headers": ["op"]}},
]


def people(identity: str) -> Table:
    names = ("mail", "name", "note", "n")
    key = frozenset(names if identity == "f" else ("mail",))
    columns = tuple(column(name, identity=name in key, nullable=name != "mail") for name in names)
    return Table(7, "public", "people", columns, ("mail",), identity)


def changes(table: Table) -> list[Run]:
    old = ROW if table.identity == "f" else [CANARY, None, None, None]
    kind = b"O" if table.identity == "f" else b"K"
    moved: list[ColumnBytes] = [b"other", UNCHANGED, CANARY, b"y"]
    line = b"\t".join([CANARY, CANARY, CANARY, b"x"])
    deletion = run(Op.DELETE, table, frames.delete(7, old, kind))
    dead = run(Op.CREATE, table, frames.insert(7, ROW))
    dead.routing = Routing("shop.dead-letter", (("__pycdc.error", b"E"),), dead=True)
    return [
        run(Op.CREATE, table, frames.insert(7, ROW)),
        run(Op.UPDATE, table, frames.update(7, moved, old, kind)),
        run(Op.UPDATE, table, frames.update(7, ROW, [b"before", *old[1:]], kind)),
        run(Op.UPDATE, table, frames.update(7, ROW)),
        deletion,
        run(Op.READ, table, line),
        dead,
    ]


def forms(texts: list[str]) -> list[RecordFormat]:
    def registered(topic: str, part: str, schema: Any) -> int:
        texts.append(repr(schema))
        return 1

    return [AvroFormat(registered), PlainForm(registered), JsonFormat(schemas=False), JsonFormat(schemas=True)]


@pytest.mark.parametrize("identity", ["d", "f"])
@pytest.mark.parametrize(("rule", "options"), list(product(RULES, OPTIONS)))
def test_a_hidden_value_is_nowhere(rule: dict[str, Any], options: dict[str, Any], identity: str) -> None:
    table, texts = people(identity), list[str]()
    for form in forms(texts):
        serializer = Serializer(configured(rules=[rule], **options), "db", form, lambda *where: None)
        groups = serializer.serialize(batch(*changes(table)))
        records = [record for _, records in groups for record in records]
        assert len(records) >= len(changes(table))
        for record in records:
            written = b"".join([record["key"] or b"", record["value"] or b""])
            written += b"".join(name.encode() + (value or b"") for name, value in record.get("headers", []))
            assert CANARY not in written
    assert not any(CANARY.decode() in text for text in texts)
