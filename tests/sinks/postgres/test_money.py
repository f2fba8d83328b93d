"""Money travels as a plain number: what a server's locale makes of its text has no say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pycdc.sinks.postgres.target_tables import read_table
from pycdc.sinks.postgres.writing.statements import statement
from pycdc.sinks.postgres.writing.writes import shape_of
from tests.sinks.postgres.rig import Rig

pytestmark = pytest.mark.pg("newest")


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    rig = Rig(database)
    rig.sql("CREATE DOMAIN price AS money; CREATE TABLE items (id int PRIMARY KEY, m money, d price, l money[])")
    yield rig
    rig.close()


def test_amounts_arrive_as_they_are(rig: Rig) -> None:
    process = rig.process()
    process.apply(*({"id": n, "m": m, "d": m, "l": [m, None]} for n, m in ((1, 1234.5), (2, "-0.01"), (3, None))))
    rows = rig.sql("SELECT id, m::numeric, d::numeric, l::numeric[] FROM items ORDER BY id")
    assert [[str(part) for part in row] for row in rows] == [
        ["1", "1234.50", "1234.50", "[Decimal('1234.50'), None]"],
        ["2", "-0.01", "-0.01", "[Decimal('-0.01'), None]"],
        ["3", "None", "None", "[None, None]"],
    ]


def test_no_text_of_money_is_read_by_the_server(rig: Rig) -> None:
    """Its input function reads points and commas as lc_monetary says; that of numeric does not."""
    table = read_table(rig.connection, "items")
    assert table is not None
    text = statement(shape_of(table, "upsert", ("id",), ("m", "d", "l"))).decode()
    kinds = text.partition("unnest(")[2].partition(")")[0]
    assert kinds.count('"numeric"[]') == 2
    assert "money" not in kinds
    assert "price" not in kinds
    assert text.count("::pg_catalog.money") == 3
