"""A condition that somebody else wrote is one expression, read only, with the rights and the time that it was given."""

from __future__ import annotations

import logging

import pytest

from pycdc.connectors.postgres.catalog.row_filter import check_condition
from pycdc.connectors.postgres.signals.messages import Signal, send
from pycdc.connectors.postgres.signals.signing import key_of
from pycdc.errors import ConfigError, EnvironmentNotReady
from pycdc.model.change import Op
from tests.connectors.postgres.reading import Pipeline, config_for, execute, write_last

pytestmark = pytest.mark.pg("newest")

TABLES = """
CREATE TABLE finish (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
CREATE TABLE orders (id int PRIMARY KEY, note text);
INSERT INTO orders SELECT i, 'note ' || i FROM generate_series(1, 30) i;
CREATE TABLE secrets (id int, word text);
INSERT INTO secrets VALUES (1, 'sesame');
CREATE FUNCTION written() RETURNS boolean LANGUAGE sql AS $$ INSERT INTO secrets VALUES (2, 'x') RETURNING true $$;
"""
WELL = [
    "id = 7",
    "note LIKE '%7' OR id IN (1, 2)",
    "id % 2 = 0 -- even ones",
    "/* ) */ note <> ')' AND note <> $$;)$$",
    "CASE WHEN id > 3 THEN true ELSE false END",
    "EXISTS (SELECT FROM public.secrets s WHERE s.id = orders.id)",
    "note = 'a''); --' OR true",
]
ILL = [
    "",
    "true); COMMIT; BEGIN READ WRITE; UPDATE public.orders SET note = 'x'; COMMIT; SELECT (1",
    "true; SELECT 1",
    "id = 1) OR (true",
    "true) UNION ALL SELECT 1, word FROM public.secrets WHERE (true",
    "true) UNION ALL (SELECT 1, word FROM public.secrets",
    "true) --",
    "true) /*",
    "'",
    "$$",
    "true THEN true END, CASE WHEN false",
    "true THEN true END FROM public.secrets; --",
    "SELECT true",
    "true, false",
    "id",
    "note",
    "count(*) > 1",
    "true LIMIT 1",
    "true ORDER BY id",
    "true\0",
    "missing = 1",
    "(true",
    "E'\\') OR (true",
]


@pytest.mark.parametrize("where", WELL)
def test_one_expression_is_a_condition(database: str, where: str) -> None:
    execute(database, TABLES)
    check_condition(database, "public", "orders", where)


def test_what_is_more_or_less_than_one_expression_is_refused(database: str) -> None:
    execute(database, TABLES)
    for where in ILL:
        with pytest.raises(ConfigError, match=r"the condition does not fit public\.orders"):
            check_condition(database, "public", "orders", where)


def read(pipeline: Pipeline) -> list[str]:
    return [change.after["note"] for change in pipeline.changes if change.op is Op.READ and change.after is not None]


def asked(database: str, where: str, **signals: object) -> Pipeline:
    """A pipeline that got a signal which nobody checked before it was sent."""
    config = config_for(database, snapshot="never", tables=["public.orders", "public.finish"])
    config = config.model_copy(update={"signals": config.signals.model_copy(update=signals)})
    pipeline = Pipeline(config)
    assert pipeline.run(lambda p: p.nothing_left)
    assert pipeline.stored is not None
    key = key_of(config, pipeline.stored.source)
    send(database, config.slot, key, [Signal("snapshot", ("public.orders",), where)])
    assert pipeline.run(write_last(database))
    assert pipeline.run(lambda p: p.nothing_left)
    return pipeline


@pytest.mark.parametrize("where", [*ILL[1:6], "public.written()"])
def test_a_signal_reads_no_other_table_and_writes_none(
    database: str, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    execute(database, TABLES)
    pipeline = asked(database, where)
    assert read(pipeline) == []
    assert [record for record in caplog.records if "gave up the snapshot" in record.getMessage()]
    assert execute(database, "SELECT count(*) FROM orders WHERE note = 'x'") == [(0,)]
    assert execute(database, "SELECT count(*) FROM secrets") == [(1,)]


def test_a_filter_has_the_rights_of_the_role_that_is_chosen_for_it(database: str) -> None:
    execute(database, TABLES)
    role = f"reader_{execute(database, 'SELECT oid FROM pg_database WHERE datname = current_database()')[0][0]}"
    execute(database, f"CREATE ROLE {role}; GRANT SELECT ON orders TO {role}")
    try:
        subquery = "id = (SELECT max(length(word)) FROM public.secrets)"
        check_condition(database, "public", "orders", subquery)
        with pytest.raises(ConfigError, match="permission denied"):
            check_condition(database, "public", "orders", subquery, role)
        assert read(asked(database, "id <= 2", filter_role=role)) == ["note 1", "note 2"]
        assert read(asked(database, subquery, filter_role=role)) == []
        with pytest.raises(EnvironmentNotReady):
            check_condition(database, "public", "orders", "true", "nobody_at_all")
    finally:
        execute(database, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_filter_that_takes_too_long_is_given_up_and_the_stream_goes_on(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    execute(database, TABLES)
    pipeline = asked(database, "pg_catalog.pg_sleep(1) IS NOT NULL", filter_timeout=1.5)
    given_up = [record for record in caplog.records if "gave up the snapshot" in record.getMessage()]
    assert ["took longer than 1.5 s" in record.__dict__["fact"] for record in given_up] == [True]
    assert given_up[0].levelno == logging.ERROR
    assert read(pipeline) == []
