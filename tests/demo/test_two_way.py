"""The two-way demonstration, as a user starts it: two databases are written to, and are equal in the end."""

from __future__ import annotations

import re
import signal
import subprocess
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from pycdc.demo.two_way import comparison
from pycdc.demo.two_way.comparison import ComparisonResult
from pycdc.demo.two_way.direction import Speed
from pycdc.demo.two_way.tables import PAIRS
from tests.demo.test_demo import COMMAND, assert_nothing_left, on_terminal, read_until, start

EQUAL = "✓ both sides are equal"
BOTH_WRITE = r"monolith → inventory [1-9]\d*/s"


@pytest.mark.server
@pytest.mark.slow
def test_both_sides_are_written_to_and_end_equal_with_conflicts_and_without_echoes(room: Path) -> None:
    command = [*COMMAND, "--plain", "--two-way", "--seconds", "4", "--rate", "100"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert EQUAL in done.stdout
    for direction in ("monolith → inventory", "inventory → monolith"):
        written, applied = re.search(rf"  {direction}  ([\d,]+) written, ([\d,]+) applied", done.stdout).groups()  # type: ignore[union-attr]
        assert written == applied
        assert int(written.replace(",", "")) > 100
    assert re.search(r"^  echoes +0$", done.stdout, re.M)
    assert re.search(r"^  conflicts +[1-9]", done.stdout, re.M)
    assert "which wins" in done.stdout
    assert done.stderr == ""
    assert_nothing_left(room)


@pytest.mark.server
@pytest.mark.slow
def test_a_signal_ends_it_orderly(room: Path) -> None:
    with start("--two-way", "--seconds", "0") as process:
        read_until(process, BOTH_WRITE)
        process.send_signal(signal.SIGINT)
        text, _ = read_until(process, re.escape(EQUAL))
        assert process.wait(180) == 0, text
    assert_nothing_left(room)


@pytest.mark.server
@pytest.mark.slow
def test_a_kill_leaves_nothing(room: Path) -> None:
    with start("--two-way", "--seconds", "0") as process:
        read_until(process, BOTH_WRITE)
        process.kill()
    assert_nothing_left(room)


@pytest.mark.server
@pytest.mark.slow
def test_rows_that_only_one_side_has_are_named_and_the_exit_code_tells(room: Path) -> None:
    """What somebody changes behind the pipelines' back is neither captured nor put right: the comparison finds it."""
    with start("--two-way", "--seconds", "0", "--rate", "20") as process:
        _, found = read_until(process, r"postgresql://\S+/inventory")
        read_until(process, BOTH_WRITE)
        with psycopg.connect(found[0], autocommit=True) as connection:
            connection.execute("INSERT INTO reservations VALUES (-7, 'CUP', 1, 'new', now())")
        process.send_signal(signal.SIGINT)
        text, _ = read_until(process, "✗ both sides differ")
        assert "surplus: -7" in text
        assert process.wait(180) == 1


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_on_a_terminal_it_shows_the_live_view_and_gives_the_screen_back(room: Path, width: int, height: int) -> None:
    wanted = ["echoes", " wins", *(["newest changes"] if height > 24 else [])]
    text = on_terminal([*COMMAND, "--two-way", "--seconds", "0"], wanted, width=width, height=height)
    alternate, restored = text.find("\x1b[?1049h"), text.find("\x1b[?1049l")
    assert 0 < text.find("postgresql://") < alternate < text.find("echoes") < restored < text.find(EQUAL)
    assert ("newest changes" in text) == (height > 24)
    assert " wins" in text[alternate:restored]
    assert_nothing_left(room)


# Without servers


def test_a_comparison_names_what_is_missing_surplus_and_different() -> None:
    (pair, *_) = PAIRS
    ours = {"1": ("CUP", 1), "2": ("JUG", 1), "3": ("JUG", 2)}
    theirs = {"1": ("CUP", 1), "3": ("JUG", 9), "4": ("JUG", 1)}
    assert comparison.between(pair, ours, theirs) == ComparisonResult(pair, 3, ("2",), ("4",), ("3",))
    assert not comparison.between(pair, ours, theirs).equal
    assert comparison.between(pair, ours, ours).equal


def test_a_speed_is_of_the_last_moments() -> None:
    speed = Speed()
    assert speed.at(0, now=0.0) == 0.0
    assert speed.at(100, now=1.0) == 100.0
    for moment in range(2, 12):
        last = speed.at(100 + moment, now=float(moment))
    assert last == pytest.approx(1.0)


def test_every_pair_has_a_writer_and_columns_of_its_own() -> None:
    for pair in PAIRS:
        assert pair.writers
        for side in ("monolith", "service"):
            names = Counter(getattr(column, side) for column in (pair.key, *pair.columns))
            assert set(names.values()) == {1}
