"""What becomes of a transaction that met an error: it is tried again, a row of it is looked for, or the sink ends.

Rules, in their order:

1. A connection that broke is an outage, whatever was said last.
2. Codes that ask for another attempt get theirs, and so do those of outages that a user's code raises while the
   connection is there; where a trigger raises them on and on, they are the row's fault.
3. A lack of resources and a server that goes away are outages, in a trigger too.
4. Whatever else a trigger or function raises or meets is the fault of the row that made it run, whatever its code:
   another row may not come there.
5. A right that the role lacks, and a statement that the server does not understand, are faults of the configuration.
6. All the rest is a fault of a row, known or not: bisection finds it, and gives it a name.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import psycopg

from pycdc.clients import postgres_errors as faults
from pycdc.clients.postgres_errors import Meaning, words_of
from pycdc.errors import EnvironmentNotReady, PycdcError
from pycdc.sinks.postgres.writing.write_errors import Refused, Unfinished

Connection = psycopg.Connection


class Fault(Enum):
    """AGAIN: the same transaction may succeed at once. ROW: some row of it never will. SLOW: a smaller one may.

    OTHER: none of these.
    """

    AGAIN = "again"
    ROW = "row"
    SLOW = "slow"
    OTHER = "other"


_AGAIN: Final = ("40001", "40P01", "55P03")
_SLOW: Final = "57014"
_OUTAGES: Final = ("08", "25006", "25P03", "25P04", "53", "57", "58")
_OF_STATEMENTS: Final = ("0A", "25", "26", "28", "3D", "3F", "42", "55")
"""Codes or their classes. Not a row's, as long as no trigger or function is at work."""
_RAISING: Final = ("exec_stmt_raise", "PLy_elog_impl", "PLy_elog", "plperl_util_elog", "pltcl_elog")
"""Functions of the server that raise what a user's code asks for, by PL/pgSQL, PL/Python, PL/Perl and PL/Tcl."""
_POLICY: Final = "ExecWithCheckOptions"
"""The function that refuses a row because of WITH CHECK; else 42501 is a right that the role lacks."""
_NO_VALUES: Final = (PycdcError, Unfinished, MemoryError, OSError)


def fault(error: Exception, connection: Connection[object], *, lasting: bool = False) -> Fault:
    """`lasting`: it was tried often enough."""
    if isinstance(error, Refused):
        return Fault.ROW
    if not isinstance(error, psycopg.Error):
        # Texts that cannot be encoded, numbers beyond all bounds …: what a value does to Python.
        return Fault.OTHER if isinstance(error, _NO_VALUES) else Fault.ROW
    if connection.closed:
        return Fault.OTHER
    state = error.sqlstate
    if state is None:
        return Fault.ROW  # the driver did not send it
    if state in _AGAIN or (raised(error) and _in(state, _OUTAGES)):
        return Fault.ROW if lasting and raised(error) else Fault.AGAIN
    if state == _SLOW:
        return Fault.ROW if raised(error) else Fault.SLOW
    if _in(state, _OUTAGES):
        return Fault.OTHER
    if raised(error) or error.diag.context or error.diag.source_function == _POLICY:
        return Fault.ROW
    return Fault.OTHER if _in(state, _OF_STATEMENTS) else Fault.ROW


def raised(error: psycopg.Error) -> bool:
    """Whether a user's code asked for it."""
    return error.diag.source_function in _RAISING


def _in(state: str, codes: tuple[str, ...]) -> bool:
    return state in codes or state[:2] in codes


_DOCTOR: Final = "`pycdc doctor` compares the routes with the tables"
_SPECIAL: Final = {
    "42501": Meaning(
        EnvironmentNotReady, "GRANT SELECT, INSERT, UPDATE, DELETE on the table to the role of sink.postgres.dsn"
    ),
    **{code: Meaning(EnvironmentNotReady, _DOCTOR) for code in ("0A", "26", "3F", "42704", "42P01", "55006")},
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
