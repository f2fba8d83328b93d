"""The first snapshot reads every row there is, whatever DDL does to a table before its turn."""

from __future__ import annotations

from typing import Any

import pytest

from pycdc.model.change import Op
from tests.connectors.postgres.reading import Pipeline, config_for, execute

TABLES = """
CREATE TABLE a_first AS SELECT i AS id FROM generate_series(1, 20000) i;
CREATE TABLE b_retyped (id int PRIMARY KEY, v int);
CREATE TABLE c_truncated (id int PRIMARY KEY, v int);
CREATE TABLE d_parts (id int PRIMARY KEY, v int) PARTITION BY HASH (id);
CREATE TABLE d_parts_0 PARTITION OF d_parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE e_whole (id int NOT NULL, v int);
ALTER TABLE e_whole REPLICA IDENTITY FULL;
CREATE TABLE f_left_alone (id int PRIMARY KEY, v int);
"""
ROWS = 50
DDL = """
ALTER TABLE b_retyped ALTER v TYPE bigint;
TRUNCATE c_truncated;
INSERT INTO c_truncated VALUES (1, 1);
VACUUM FULL d_parts_0;
ALTER TABLE e_whole ALTER v TYPE text;
"""


@pytest.mark.parametrize("via_root", [False, True])
def test_a_table_that_is_rewritten_before_its_turn_is_read_all_the_same(database: str, via_root: bool) -> None:
    execute(database, TABLES)
    for table in ("b_retyped", "c_truncated", "d_parts", "e_whole", "f_left_alone"):
        execute(database, f"INSERT INTO {table} SELECT i, i FROM generate_series(1, {ROWS}) i")
    tables = ["public.a_first", "public.b*", "public.c*", "public.d*", "public.e*", "public.f*"]
    source: dict[str, Any] = {"tables": tables, "snapshot_method": "pinned", "via_partition_root": via_root}
    pipeline = Pipeline(config_for(database, **source))
    rewritten = False

    def done(pipeline: Pipeline) -> bool:
        nonlocal rewritten
        if not rewritten and pipeline.changes:
            rewritten = True
            for statement in DDL.strip().splitlines():
                execute(database, statement)
        return pipeline.nothing_left and pipeline.durable == len(pipeline.changes)

    assert pipeline.run(done)
    assert rewritten
    read: dict[str, list[Any]] = {}
    for change in pipeline.changes:
        if change.op is Op.READ and change.table is not None and change.after is not None:
            read.setdefault(change.table.name[:1], []).append((change.after["id"], change.after.get("v")))
    every = [(number, number) for number in range(1, ROWS + 1)]
    assert sorted(read["b"]) == sorted(read["d"]) == sorted(read["f"]) == every
    assert sorted(read["e"]) == [(number, str(number)) for number in range(1, ROWS + 1)]
    assert read["c"] == [(1, 1)]
    assert len(read["a"]) == 20000
