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

from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_errors import OF_STATEMENTS, OUTAGES, RETRYABLE, has_state
from pycdc.errors import PycdcError
from pycdc.sinks.postgres.writing.write_errors import Unfinished, WriteRejected


class FaultKind(Enum):
    """AGAIN: the same transaction may succeed at once. ROW: some row of it never will. SLOW: a smaller one may.

    OTHER: none of these.
    """

    AGAIN = "again"
    ROW = "row"
    SLOW = "slow"
    OTHER = "other"


_SLOW: Final = "57014"
_RAISING: Final = ("exec_stmt_raise", "PLy_elog_impl", "PLy_elog", "plperl_util_elog", "pltcl_elog")
"""Functions of the server that raise what a user's code asks for, by PL/pgSQL, PL/Python, PL/Perl and PL/Tcl."""
_POLICY: Final = "ExecWithCheckOptions"
"""The function that refuses a row because of WITH CHECK; else 42501 is a right that the role lacks."""
_NO_VALUES: Final = (PycdcError, Unfinished, MemoryError, OSError)


def fault(error: Exception, connection: Connection, *, lasting: bool = False) -> FaultKind:
    """Return whose fault an error is. `lasting`: it was tried often enough."""
    if isinstance(error, WriteRejected):
        return FaultKind.ROW
    if not isinstance(error, psycopg.Error):
        # Texts that cannot be encoded, numbers beyond all bounds …: what a value does to Python.
        return FaultKind.OTHER if isinstance(error, _NO_VALUES) else FaultKind.ROW
    if connection.closed:
        return FaultKind.OTHER
    state = error.sqlstate
    if state is None:
        return FaultKind.ROW  # the driver did not send it
    if state in RETRYABLE or (raised(error) and has_state(state, OUTAGES)):
        return FaultKind.ROW if lasting and raised(error) else FaultKind.AGAIN
    if state == _SLOW:
        return FaultKind.ROW if raised(error) else FaultKind.SLOW
    if has_state(state, OUTAGES):
        return FaultKind.OTHER
    if raised(error) or error.diag.context or error.diag.source_function == _POLICY:
        return FaultKind.ROW
    return FaultKind.OTHER if has_state(state, OF_STATEMENTS) else FaultKind.ROW


def raised(error: psycopg.Error) -> bool:
    """Return whether a user's code asked for it."""
    return error.diag.source_function in _RAISING
