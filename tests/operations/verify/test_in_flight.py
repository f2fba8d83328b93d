"""Predictions in the target's own words."""

from __future__ import annotations

import psycopg
import pytest

from pycdc.operations.verify.canonical import columns_of, pin
from pycdc.operations.verify.digests import DIGESTS
from pycdc.operations.verify.in_flight import CanonicalTexts, canonical_flight
from pycdc.operations.verify.prediction import Prediction
from pycdc.operations.verify.relation import Layout
from pycdc.operations.verify.spilling_map import SpillingMap

pytestmark = pytest.mark.pg("newest")


def test_columns_that_are_compared_with_different_tables_are_predicted_for_each(database: str) -> None:
    predictions = SpillingMap[Prediction]()
    predictions[("01",)] = Prediction(True, {"a": "1.50", "b": "x"}, was=(("01",),))
    with psycopg.connect(database, autocommit=True) as connection:
        pin(connection)
        connection.execute("CREATE TABLE t (k int PRIMARY KEY, a numeric, b text)")
        row = connection.execute("SELECT 't'::regclass::oid::int8").fetchone()
        assert row is not None
        columns = columns_of(connection, row[0])
        texts = CanonicalTexts(connection, columns)
        for name, text in (("a", "1.5"), ("b", "x")):
            layout = Layout((columns["k"],), (columns["k"], columns[name]), DIGESTS["hashtext"])
            found = canonical_flight(predictions, layout, texts).rows
            assert dict(found) == {("1",): Prediction(True, {name: text}, was=(("1",),))}
