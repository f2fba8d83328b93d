"""Random tables, random transactions, the whole way: the target ends as the source, or a pipeline says why not.

The same 400 transactions each time in `make test`, 20,000 others in `make chaos-types` (PYCDC_CHAOS_TRANSACTIONS). Each
round prints its seed; PYCDC_CHAOS_SEED runs that round alone.
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from typing import Any

import psycopg
import pytest

from tests.chaos.random_values import COLLATION
from tests.chaos.run import Outcome, Places, run_round

CHAOS = "PYCDC_CHAOS_TRANSACTIONS" in os.environ
TRANSACTIONS = int(os.environ.get("PYCDC_CHAOS_TRANSACTIONS", "400"))
SEED = os.environ.get("PYCDC_CHAOS_SEED")
FIRST = 20261130
ROUND = 100
"""Transactions of a round."""
MANY = 20
"""Rounds from which on a share of them means something."""
REFUSED = 0.15
"""Of the rounds, at most: one that is refused shows less than one that arrives."""


def features(dsn: str) -> tuple[str, ...]:
    """The extensions that there are, and `icu` where collations may ignore case."""
    query = "SELECT name FROM pg_available_extensions WHERE name IN ('citext', 'ltree', 'hstore', 'vector') ORDER BY 1"
    with psycopg.connect(dsn) as connection:
        found = tuple(name for (name,) in connection.execute(query))
        try:
            connection.execute(COLLATION.encode())
        except psycopg.errors.FeatureNotSupported:
            return found
        finally:
            connection.rollback()
    return (*found, "icu")


@pytest.mark.slow
@pytest.mark.pg("!=16")
def test_the_target_equals_the_source_or_a_pipeline_says_why_not(
    postgres: Any, kafka: Any, registry: Any, topic_prefix: str
) -> None:
    first = random.SystemRandom().randrange(10**9) if CHAOS else FIRST
    seeds = [int(SEED)] if SEED else range(first, first + -(-TRANSACTIONS // (2 * ROUND)))
    outcomes: list[Outcome] = []
    for seed in seeds:
        outcome = _round(postgres, kafka, registry, f"{topic_prefix}_{seed}", seed)
        print(outcome, flush=True)
        outcomes.append(outcome)
    print(dict(Counter(outcome.kind for outcome in outcomes)))
    for reason, count in Counter(_reason(outcome) for outcome in outcomes if outcome.refusal).most_common():
        print(f"{count:5} {reason}")
    different = [str(outcome) for outcome in outcomes if outcome.kind == "different"]
    assert not different, "\n\n".join(different)
    if not SEED:
        refused = [str(outcome) for outcome in outcomes if outcome.kind == "refused"]
        # A few rounds say little of a share; all of them refused would show nothing.
        most = REFUSED * len(outcomes) if len(outcomes) >= MANY else len(outcomes) - 1
        assert len(refused) <= most, "\n".join(refused)


def _round(postgres: Any, kafka: Any, registry: Any, name: str, seed: int) -> Outcome:
    source, target = postgres.create_database(), postgres.create_database()
    try:
        version = int(postgres.version.partition(".")[0])
        places = Places(source, target, kafka.bootstrap, registry.url, name, version, features(source))
        return run_round(places, seed, ROUND)
    finally:
        postgres.heal()
        postgres.drop_database(source)
        postgres.drop_database(target)


def _reason(outcome: Outcome) -> str:
    """The refusal without the names that differ from round to round."""
    return re.sub(r"\b(t[0-9a-f]{10}_\d+|t\d|c\d|\d+)\b", "…", outcome.refusal)[:150]
