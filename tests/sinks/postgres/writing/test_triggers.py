"""Which triggers are proven to change nothing but their row."""

from __future__ import annotations

import pytest

from pycdc.sinks.postgres.writing.triggers import Trigger


def trigger(source: str, *, before_row: bool = True, language: str = "plpgsql", function: str = "f") -> Trigger:
    return Trigger("t", before_row, function, language, source)


@pytest.mark.parametrize(
    "source",
    [
        "BEGIN NEW.updated_at = now(); RETURN NEW; END",
        "BEGIN -- insert into audit\n NEW.updated_at := clock_timestamp(); /* delete */ RETURN NEW; END",
        "BEGIN IF (TG_OP = 'UPDATE') THEN NEW.name := lower(NEW.name); END IF; RETURN NEW; END",
        "BEGIN NEW.update_count = coalesce(OLD.update_count, 0) + 1; return new; END",
    ],
)
def test_a_function_that_only_computes_keeps_to_its_row_and_refuses_none(source: str) -> None:
    assert trigger(source).keeps_to_its_row
    assert not trigger(source).can_refuse


@pytest.mark.parametrize(
    "source",
    [
        "BEGIN INSERT INTO audit VALUES (NEW.id); RETURN NEW; END",
        "BEGIN PERFORM note(NEW.id); RETURN NEW; END",
        "BEGIN NEW.total := total_of(NEW.id); RETURN NEW; END",
        'BEGIN NEW.n := "my function"(NEW.id); RETURN NEW; END',
        "BEGIN EXECUTE $q$DELETE FROM t$q$; RETURN NEW; END",
        "BEGIN NEW.n := E'\\''; DELETE FROM t WHERE x = '; RETURN NEW; END",
        "BEGIN NEW.n := (SELECT count(*) FROM t); RETURN NEW; END",
    ],
)
def test_whatever_reaches_out_or_is_not_known_may_do_anything(source: str) -> None:
    assert not trigger(source).keeps_to_its_row


def test_only_a_trigger_before_a_row_is_proven_and_only_one_in_a_language_that_is_read() -> None:
    harmless = "BEGIN RETURN NEW; END"
    assert not trigger(harmless, before_row=False).keeps_to_its_row
    assert not trigger(harmless, language="plpython3u").keeps_to_its_row
    assert trigger("moddatetime", language="c", function="moddatetime").keeps_to_its_row


def test_a_function_that_may_return_null_can_refuse_a_row() -> None:
    assert trigger("BEGIN IF NEW.n > 7 THEN RETURN NULL; END IF; RETURN NEW; END").can_refuse
    assert trigger("BEGIN RETURN made; END").can_refuse
    assert not trigger("BEGIN RETURN NULL; END", before_row=False).can_refuse
