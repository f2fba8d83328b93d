"""The state of a saga, by what came of it."""

from __future__ import annotations

import pytest

from pycdc.config.sagas import SagaConfig
from pycdc.sinks.postgres.sagas.saga_state import state_of

SAGA = SagaConfig(
    topics=["orders"],
    start="Placed",
    steps=["Reserved", "Paid", "Told"],
    success="Confirmed",
    failure=["Refused"],
    compensations={"Reserved": "Released", "Paid": "Refunded"},
)


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        ("Placed", "running"),
        ("Reserved Paid", "running"),
        ("Placed Reserved Paid Confirmed", "succeeded"),
        ("Confirmed", "succeeded"),
        ("Placed Refused", "compensated"),
        ("Placed Told Refused", "compensated"),
        ("Placed Reserved Refused", "compensating"),
        ("Placed Reserved Paid Refunded", "compensating"),
        ("Placed Reserved Paid Refused Refunded Released", "compensated"),
        ("Released", "compensated"),
        ("Placed Confirmed Refused", "inconsistent"),
        ("Placed Reserved Confirmed Released", "inconsistent"),
    ],
)
def test_the_state_is_that_of_what_came(seen: str, state: str) -> None:
    assert state_of(SAGA, seen.split()).value == state
