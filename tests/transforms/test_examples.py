"""The functions of docs/transforms.md and docs/library.md do what is said of them, and are typed as they say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import psycopg
import pytest
import yaml

import pycdc
from pycdc.config import validate
from pycdc.config.pipeline import require_apply
from pycdc.model.event import Event, Partition
from pycdc.sinks.postgres.routing.router import RouteTable
from pycdc.sinks.postgres.target_tables import TargetTable
from pycdc.transforms.reverse import ReverseFunctions
from tests.sinks.postgres.routing.test_router import column, told
from tests.test_docs import blocks

PAGE = "docs/transforms.md"
MODULE = "my_transforms"


@pytest.fixture
def my_transforms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page's functions as the module that its configurations name."""
    path = tmp_path / f"{MODULE}.py"
    path.write_text("\n".join(block.text for block in blocks("python", page=PAGE)))
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    sys.modules.pop(MODULE, None)


def configured(function: str, table: str = "public.orders") -> dict[str, Any]:
    """The page's entry for the function; where it shows none, one for the table."""
    for block in blocks("yaml", page=PAGE):
        for entry in yaml.safe_load(block.text).get("transforms", []):
            if (
                isinstance(entry, dict)
                and entry["function"].endswith(f":{function}")
                and table in entry.get("tables", [])
            ):
                return dict(entry)
    return {"function": f"{MODULE}:{function}", "tables": [table]}


@pytest.mark.parametrize("page", [PAGE, "docs/library.md"])
@pytest.mark.slow
def test_the_functions_are_typed(page: str, tmp_path: Path) -> None:
    module = tmp_path / "example.py"
    module.write_text("\n".join(b.text for b in blocks("python", page=page) if "DecodedChange" in b.text))
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(module)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(pycdc.__file__).parents[1])
    assert done.returncode == 0, done.stdout


def captured(dsn: str, *functions: str, snapshot: Literal["only", "never"] = "only", name: str = "t") -> list[Any]:
    entries = [configured(function) for function in functions]
    changes = pycdc.capture(dsn, ["public.orders"], name=name, snapshot=snapshot, transforms=entries)
    return list(changes)


@pytest.mark.pg("newest")
def test_the_examples_of_a_capture_run(database: str, my_transforms: Path) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        [block] = blocks("sql", page=PAGE)
        for statement in filter(str.strip, block.text.split(";")):
            connection.execute(statement.encode())
        masked = captured(database, "mask", name="a")
        assert [change.after["email"] for change in masked] == ["***@example.org", "***@example.org"]
        assert [change.after["id"] for change in captured(database, "without_tests", name="b")] == [1]
        [first, _] = captured(database, "in_cents", name="c")
        assert list(first.after) == ["id", "email", "status", "items", "total_cents"]
        assert first.after["total_cents"] == 1350
        split = captured(database, "lines", name="d")
        assert [(c.after["line"], c.after["sku"], c.after["quantity"]) for c in split] == [(1, "cup", 2), (2, "jug", 1)]

        stream = pycdc.capture(
            database,
            ["public.orders"],
            name="e",
            idle=True,
            transforms=[configured("without_tests"), configured("lines")],
        )
        assert next(stream) is None
        for statement in (
            'UPDATE orders SET items = \'[{"sku": "pot", "quantity": 1}]\' WHERE id = 1',
            "UPDATE orders SET status = 'test' WHERE id = 1",
            "DELETE FROM orders",
        ):
            connection.execute(statement.encode())
        connection.execute(b"INSERT INTO orders VALUES (3, 'e', 'paid', 1, '[{\"sku\": \"end\", \"quantity\": 1}]')")
        seen = []
        for change in stream:
            if change is not None:
                row = change.after or change.before
                assert row is not None
                seen.append((change.op.value, row["id"], row["line"], row["sku"]))
                if row["sku"] == "end":
                    break
        assert seen == [("u", 1, 1, "pot"), ("d", 1, 2, "jug"), ("d", 1, 1, "pot"), ("c", 3, 1, "end")]
        stream.close()


def table(name: str, key: tuple[str, ...], *names: str) -> TargetTable:
    columns = {one: column(one) for one in (*key, *names)}
    return TargetTable("public", name, columns, key, frozenset({frozenset(key)}))


STOCK = table("stock", ("item_id", "place"), "quantity")
CUSTOMERS = table("customers", ("id",), "name", "vip")


def reverse(name: str) -> RouteTable:
    """The page's configuration of that name, as a router over its tables."""
    text = next(block.text for block in blocks("yaml", page=PAGE) if f"name: {name}" in block.text)
    config = require_apply(validate(yaml.safe_load(text)))
    functions = ReverseFunctions(config)
    return RouteTable(config.sink.postgres, {"public.stock": STOCK, "public.customers": CUSTOMERS}, functions=functions)


def test_an_event_means_two_rows(my_transforms: Path) -> None:
    router = reverse("inventory-back")
    row = {"item": "cup", "from": "A", "to": "B", "quantity": Decimal(3)}
    event = Event(Partition("inventory.moved", 0), 1, 0, row=row)
    written = list(map(told, router.writes(event)))
    assert [(w.key["place"], w.add["quantity"]) for w in written] == [("A", -3), ("B", 3)]


def test_a_function_makes_a_routes_row(my_transforms: Path) -> None:
    router = reverse("customers-back")
    row = {"customerId": 7, "first": "Ada", "last": "L.", "tier": "gold"}
    [write] = map(told, router.writes(Event(Partition("customers.changed", 0), 1, 0, row=row)))
    assert (write.key, write.set) == ({"id": "7"}, {"name": "Ada L.", "vip": "true"})
