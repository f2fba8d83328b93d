"""What holds for every tracked file: names of the domain, files of a readable size, nothing of somebody's machine."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LONGEST = 400
LONGEST_TEST = 600
"""A file of tests is a list of promises, read one by one."""
LONG_FOR_A_REASON = {
    "tests/test_types_on_servers.py": "a table of values for every type, and the tests that run over all of it",
    "src/pycdc/connectors/postgres/replication/pgoutput.py": "one message of the manual after another, none long",
    "src/pycdc/connectors/postgres/replication/stream.py": "all that touches the replication socket shares one lock",
}

VAGUE = {"utils", "util", "common", "helpers", "helper", "manager", "managers", "misc", "types", "base"}

MACHINES = {
    "a home folder": re.compile(r"/(?:home|Users)/(?!(?:user|pycdc|nonroot)\b)[a-z]\w*|/root/\w"),
    "a work folder": re.compile(r"(?<![\w.])/work(?:/|space/)\w|/tmp/\w+/venv|/mnt/\w"),
    "the host of a package registry": re.compile(
        "|".join(
            (
                r"pypi\." + "org",
                "python" + r"hosted\.",
                r"repo\d*\.maven\." + "org",
                "npm" + r"js\.",
                "arti" + "factory",
            )
        )
    ),
    "a private package index": re.compile(
        "index" + r"[-_]url\s*=?\s*https?:|https?://[^\s/]+/(?:[\w-]+/)*" + "simple/", re.I
    ),
}


@cache
def tracked() -> tuple[Path, ...]:
    try:
        answer = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: nothing tells which files belong to the project")
    return tuple(path for name in answer.stdout.split("\0") if name and (path := ROOT / name).is_file())


def text_files() -> list[tuple[str, str]]:
    out = []
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data:
            out.append((str(path.relative_to(ROOT)), data.decode("utf-8")))
    return out


def test_modules_are_named_by_nouns_of_the_domain() -> None:
    vague = [str(path.relative_to(ROOT)) for path in tracked() if path.suffix == ".py" and path.stem in VAGUE]
    vague += [str(path.parent.relative_to(ROOT)) for path in tracked() if path.relative_to(ROOT).parent.name in VAGUE]
    assert not vague


def long_files() -> dict[str, int]:
    lengths = {name: text.count("\n") for name, text in text_files() if name.endswith(".py")}
    limits = {name: LONGEST_TEST if name.startswith("tests/") else LONGEST for name in lengths}
    return {name: lines for name, lines in lengths.items() if lines > limits[name]}


def test_files_can_be_read_in_one_sitting() -> None:
    unexplained = [f"{name}: {lines}" for name, lines in long_files().items() if name not in LONG_FOR_A_REASON]
    assert not unexplained, f"split, or say why in LONG_FOR_A_REASON: {', '.join(unexplained)}"


def test_reasons_for_long_files_are_still_needed() -> None:
    assert set(LONG_FOR_A_REASON) <= set(long_files())


@pytest.mark.parametrize("what", MACHINES)
def test_no_file_knows_the_machine_it_was_written_on(what: str) -> None:
    found = []
    for name, text in text_files():
        for number, line in enumerate(text.splitlines(), 1):
            if MACHINES[what].search(line):
                found.append(f"{name}:{number}")
    assert not found


def test_nothing_is_left_for_later_without_saying_so() -> None:
    mark = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X:")))
    found = [name for name, text in text_files() if name.endswith(".py") and mark.search(text)]
    assert not found


def test_text_ends_with_a_newline_and_lines_end_where_their_text_does() -> None:
    wrong = []
    for name, text in text_files():
        if name.startswith("tests/golden/") or name.endswith(".patch"):
            continue  # recorded, not written; an empty line of a patch is a space
        if text and not text.endswith("\n"):
            wrong.append(f"{name}: no newline at the end")
        wrong += [f"{name}:{n}" for n, line in enumerate(text.split("\n"), 1) if line != line.rstrip()]
    assert not wrong
