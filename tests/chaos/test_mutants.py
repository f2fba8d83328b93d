"""Known bugs, put back one at a time: a test that is named with each has to fail.

A patch in `mutants/` begins with what the bug does, and with a line ``Tests:`` that names files or tests. It says that
the tests have teeth: a mutant that survives means that the bug could come back unseen. `make mutants` runs all; the
short form runs one, and tells whether the patches still fit the code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATCHES = sorted((Path(__file__).parent / "mutants").glob("*.patch"))
SECONDS = 900.0
FAILED = 1
"""pytest's exit code where tests failed; any other one means that they could not run."""

ALL = "PYCDC_MUTANTS" in os.environ
"""`make mutants`: minutes of tests that fail. The short form puts one bug back."""


def _name(patch: Path) -> str:
    return patch.stem


def named_in(patch: Path) -> list[str]:
    line = next(line for line in patch.read_text(encoding="utf-8").splitlines() if line.startswith("Tests: "))
    return line.removeprefix("Tests: ").split()


@pytest.mark.parametrize("patch", PATCHES, ids=_name)
def test_the_patch_fits_and_names_tests_that_exist(patch: Path) -> None:
    done = subprocess.run(["git", "apply", "--check", str(patch)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in named_in(patch):
        path, _, test = name.partition("::")
        assert (ROOT / path).exists(), name
        assert not test or f"def {test.partition('[')[0]}(" in (ROOT / path).read_text(encoding="utf-8"), name


@pytest.mark.slow
@pytest.mark.parametrize("patch", PATCHES if ALL else PATCHES[:1], ids=_name)
def test_the_bug_is_caught(patch: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for folder in ("src", "tests", "examples", "docs", "benchmarks", "scripts"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, copy / file)
    outside = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path)}  # the copy is no part of a repository
    subprocess.run(["git", "apply", str(patch)], cwd=copy, check=True, env=outside)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *named_in(patch)]
    environment = {**os.environ, "PYTHONPATH": str(copy / "src")}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == FAILED, done.stdout[-2000:] + done.stderr[-2000:]
