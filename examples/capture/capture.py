"""Print the changes of some tables, one line each, until Ctrl-C.

python capture.py postgresql://localhost/shop public.items --position items.position
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import sys
from collections.abc import Sequence
from typing import Any

import pycdc


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        print_changes(options)
    except KeyboardInterrupt:
        return 0
    except pycdc.PycdcError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def print_changes(options: argparse.Namespace) -> None:
    changes = pycdc.capture(
        options.dsn,
        tables=options.tables,
        name="example",
        snapshot="initial" if options.rows else "never",
        offsets=options.position,
    )
    # Closing ends the replication connection at once; asking for the next change acknowledges the last one.
    with contextlib.closing(changes):
        for change in changes:
            print(line(change), flush=True)


def line(change: pycdc.Change) -> str:
    """``u public.items {'id': 1} price: 4.50 -> 4.90``, what changed only where the old row is known."""
    table = change.table
    if table is None:  # what pg_logical_emit_message wrote
        return f"{change.op}"
    key = {name: value for name, value in (change.after or change.before or {}).items() if name in table.key}
    return f"{change.op} {table} {key} {', '.join(differences(change.before, change.after))}".rstrip()


def differences(before: dict[str, Any] | None, after: dict[str, Any] | None) -> list[str]:
    out = []
    for name, value in (after or {}).items():
        old = (before or {}).get(name, pycdc.UNCHANGED)
        if value is pycdc.UNCHANGED or value == old:
            continue
        out.append(f"{name}: {value}" if old is pycdc.UNCHANGED else f"{name}: {old} -> {value}")
    return out


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dsn", help="libpq connection string of a role with REPLICATION")
    parser.add_argument("tables", nargs="+", help="patterns such as public.items or public.customer_*")
    parser.add_argument("--position", metavar="FILE", help="store the position here, and go on from it")
    parser.add_argument("--rows", action="store_true", help="print the rows that exist first")
    return parser


if __name__ == "__main__":
    sys.exit(main())
