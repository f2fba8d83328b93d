from __future__ import annotations

import gc
import linecache
import traceback
from dataclasses import replace

import pytest

from pycdc.config.values import CompatibilityConfig, ValuesConfig
from pycdc.model.change import Column, Op, PgType, Run, Table, Transaction
from pycdc.rows._codegen import compile_function, identifier, shared_function
from pycdc.rows.encoder import Parts, RowEncoder
from pycdc.rows.plan import plan_table
from tests.connectors.postgres.frames import insert, xlog


def test_a_compiled_function_sees_its_namespace() -> None:
    assert compile_function("twice", "def twice(x):\n    return x * factor\n", {"factor": 2})(21) == 42


def test_a_traceback_shows_the_generated_line() -> None:
    broken = compile_function("broken", "def broken():\n    return 1 / zero  # here\n", {"zero": 0})
    with pytest.raises(ZeroDivisionError) as error:
        broken()
    assert "return 1 / zero  # here" in "".join(traceback.format_exception(error.value))


def test_functions_of_one_name_keep_their_own_source() -> None:
    functions = [compile_function("f", f"def f():\n    raise KeyError('no {n}')\n", {}) for n in (1, 2)]
    for number, function in enumerate(functions, 1):
        with pytest.raises(KeyError) as error:
            function()
        assert f"raise KeyError('no {number}')" in "".join(traceback.format_exception(error.value))


def add(name: str) -> str:
    return f"def {name}(x):\n    return x + step  # unless other\n"


def test_whoever_would_get_the_same_function_shares_one() -> None:
    first = shared_function("first", add, {"step": 1})
    assert shared_function("second", add, {"step": 1, "unused": 2}) is first
    assert first.__name__ == "first"


def test_functions_that_see_other_values_are_not_shared() -> None:
    one: list[bytes] = []
    other: list[bytes] = []
    made = [shared_function("add", add, {"step": step}) for step in (b"a", b"b", one, other, 7)]
    assert len(set(made)) == 5
    assert [made[0](b""), made[1](b""), made[4](1)] == [b"a", b"b", 8]


def test_tables_of_one_shape_share_their_loop_and_those_of_another_do_not() -> None:
    def loop(*columns: Column, identity: str = "d") -> object:
        table = Table(1, "public", "t", columns, ("a",), identity)
        return RowEncoder(
            plan_table(table, [], ValuesConfig(), CompatibilityConfig()), lambda table, column: None
        ).inserts

    a = Column("a", PgType(0, "int4"), nullable=False, identity=True)
    b = Column("b", PgType(0, "numeric", (10 << 16 | 2) + 4))
    assert loop(a, b) is loop(a, b, identity="f")
    others = [loop(a, replace(b, **change)) for change in ({"nullable": False}, {"name": "c"}, {"default": "1.50"})]
    assert len({loop(a, b), *others}) == 4


@pytest.mark.parametrize(
    ("text", "name"), [("public.orders", "public_orders"), ("Odd Schema.Ta-ble.ü", "Odd_Schema_Ta_ble__")]
)
def test_a_table_s_name_becomes_part_of_a_function_s(text: str, name: str) -> None:
    assert identifier(text) == name


@pytest.mark.parametrize(
    "name", ['"', "'", "a\nraise SystemExit", "a\rb", "\\", "#", "{x}", "\u2028", "\f", "'''", "class"]
)
def test_no_name_of_a_column_or_a_table_gets_out_of_its_comment(name: str) -> None:
    table = Table(1, name, name, (Column(name, PgType(0, "text"), nullable=False),), (name,))
    encoder = RowEncoder(plan_table(table, [], ValuesConfig(), CompatibilityConfig()), lambda table, column: None)
    parts = Parts(b"", b"", b"", b"", b"", b"")
    out: list[dict[str, bytes]] = []
    run = Run(Op.CREATE, table, Transaction(1, 1, 0), 0, [xlog(insert(1, [b"x"]), start=1 << 20)])
    encoder.inserts([(run, (b"", b"", b"", b""))], b"", b"", b"", b"", b"", out.append, None, None)
    encoder.reads([b"x"], parts, out.append)
    assert [record["key"] for record in out] == [b"\x02x", b"\x02x"]


def test_the_source_of_a_function_goes_with_it() -> None:
    before = set(linecache.cache)
    function = compile_function("gone", "def gone():\n    return 1\n", {})
    assert len(set(linecache.cache) - before) == 1
    del function
    gc.collect()
    assert set(linecache.cache) <= before
