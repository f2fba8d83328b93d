"""What a program that embeds pycdc meets: names for all that it holds, and types that its own checks can use."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import pycdc
from pycdc import testing
from pycdc.config.postgres_source import PostgresSourceConfig

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "tests" / "typing" / "embedding.py"

FRONT = {name: getattr(pycdc, name) for name in pycdc.__all__}
"""For annotations of what is imported late."""
NOT_HELD = {
    "_Acknowledgements": "made by `capture` for its own changes",
    "CaptureLag": "read by `Progress.lag_seconds` and `lag_bytes`",
    "BatchLike": "what the engine tells `Progress`",
    "Durations": "read by the metrics",
    "Encoded": "records of a snapshot's workers, which go to Kafka only",
    "Notification": "what is told of a snapshot, which becomes records in Kafka only",
    "Outages": "what the engine tells `Progress`",
    "ParkedCount": "read by the metrics",
    "ParkedRequest": "what a message of `pycdc parked` asks the engine for",
    "TransactionChunk": "where within a transaction exactly-once delivery goes on",
    "VerifyProgress": "read by the metrics",
}
"""Classes that a public attribute or argument names, and that no program needs a name for."""


def classes(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and hint.__module__.partition(".")[0] == "pycdc":
        yield hint
    for part in typing.get_args(hint):
        for one in part if isinstance(part, list | tuple) else (part,):
            yield from classes(one)


def named_by(subject: Any) -> Iterator[type]:
    """The classes in the annotations of a function; of a class' attributes and public methods."""
    functions = [subject]
    if isinstance(subject, type):
        public = {name: member for name, member in vars(subject).items() if name == "__init__" or name[0] != "_"}
        members = [getattr(member, "fget", None) or getattr(member, "__func__", member) for member in public.values()]
        functions = list(filter(inspect.isfunction, members))
        hints = get_type_hints(subject, localns=FRONT)
        yield from (one for name in hints if name[0] != "_" for one in classes(hints[name]))
    for function in functions:
        yield from (one for hint in get_type_hints(function, localns=FRONT).values() for one in classes(hint))


def test_all_that_a_program_holds_has_a_name_at_the_front_door() -> None:
    """The sections of a configuration have theirs in `pycdc.config`, as docs/configuration.md names them."""
    front = [getattr(pycdc, name) for name in pycdc.__all__] + [testing.MemoryConnector, testing.MemorySink]
    named = [subject for subject in front if isinstance(subject, type) or inspect.isfunction(subject)]
    found = {
        one.__name__
        for subject in named
        if not subject.__module__.startswith("pycdc.config.")
        for one in named_by(subject)
        if not one.__module__.startswith("pycdc.config.") and one not in named
    }
    assert found == set(NOT_HELD)


def test_capture_takes_the_options_of_the_source_by_name() -> None:
    arguments = set(inspect.signature(pycdc.capture).parameters)
    records_only = {"workers", "executor"}  # they hand back records, and `capture` yields rows
    # Who iterates watches the slot, and is the only one who reads it.
    lasting_slots_only = {"wal_guard", "standby", "standby_timeout"}
    options = set(PostgresSourceConfig.model_fields) - arguments - records_only - lasting_slots_only
    assert set(pycdc.CaptureOptions.__annotations__) == options


def test_what_only_records_can_use_is_refused_by_capture() -> None:
    options: dict[str, Any] = {"workers": 2}
    with pytest.raises(pycdc.ConfigError, match="workers"):
        next(pycdc.capture("dbname=nowhere", **options))


@pytest.mark.slow
def test_the_types_of_an_embedding_program_hold_in_strict_mode(tmp_path: Path) -> None:
    """By the installed package alone: without `py.typed` all of it would be Any."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(PROGRAM)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (Path(pycdc.__file__).parent / "py.typed").is_file()
