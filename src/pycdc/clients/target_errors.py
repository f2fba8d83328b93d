"""What an error of the database that rows are written into means, where no row is at fault."""

from __future__ import annotations

from typing import Final

import psycopg

from pycdc.clients import postgres_errors as faults
from pycdc.clients.postgres_errors import ErrorMeaning, words_of
from pycdc.errors import EnvironmentNotReady, PycdcError

_AGAIN: Final = ("40001", "40P01", "55P03")

_OUTAGES: Final = ("08", "25006", "25P03", "25P04", "53", "57", "58")

_OF_STATEMENTS: Final = ("0A", "25", "26", "28", "3D", "3F", "42", "55")
"""Codes or their classes. Not a row's, as long as no trigger or function is at work."""


def _in(state: str, codes: tuple[str, ...]) -> bool:
    return state in codes or state[:2] in codes


_DOCTOR: Final = "`pycdc doctor` compares the routes with the tables"

_SPECIAL: Final = {
    "42501": ErrorMeaning(
        EnvironmentNotReady, "GRANT SELECT, INSERT, UPDATE, DELETE on the table to the role of sink.postgres.dsn"
    ),
    **{code: ErrorMeaning(EnvironmentNotReady, _DOCTOR) for code in ("0A", "26", "3F", "42704", "42P01", "55006")},
}


def translate(error: psycopg.Error) -> PycdcError:
    """The pycdc error for what is no row's fault."""
    state = error.sqlstate
    if state and not _in(state, _OUTAGES + _OF_STATEMENTS + _AGAIN):
        # Words of any other kind may hold values.
        return EnvironmentNotReady(f"the database refuses a statement: {described(error)}", hint=_DOCTOR)
    remedy = "check sink.postgres.dsn, and that the server runs" if state is None else _DOCTOR
    return faults.translate(error, _SPECIAL, where="the database of sink.postgres", remedy=remedy)


def described(error: BaseException) -> str:
    """What the server objects to, by names and codes only: its words may hold values of rows."""
    if not isinstance(error, psycopg.Error):
        return f"a value cannot be sent to the database ({type(error).__name__})"
    if error.sqlstate is None:
        return words_of(error)
    diag = error.diag
    names = {"table": diag.table_name, "column": diag.column_name, "constraint": diag.constraint_name}
    told = ", ".join(f"{what} {name}" for what, name in names.items() if name)
    kind = type(error).__name__
    return f"{kind} (SQLSTATE {error.sqlstate}){': ' + told if told else ''}"
