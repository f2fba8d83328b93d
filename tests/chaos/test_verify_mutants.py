"""Mutants of the verifier: each patch in `mutants/verify` breaks one thing, and the tests that it names have to fail.

Three of them are tried in `make test`, all in `make chaos-verify` (PYCDC_MUTANTS=1).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PATCHES = sorted((Path(__file__).parent / "mutants" / "verify").glob("*.patch"))
ALL = os.environ.get("PYCDC_MUTANTS") == "1"
QUICK = ("null-is-an-empty-text", "the-first-image-counts", "xor-instead-of-sum")
"""Those that need no Kafka, and one for each way of comparing."""


def catching(patch: Path) -> list[str]:
    """The arguments of pytest that the patch's first line names."""
    return patch.read_text().partition("\n")[0].removeprefix("caught by: ").split()


def survives(patch: Path, folder: Path, **environment: str) -> bool:
    """Whether the tests that should catch the mutant are green."""
    tree = folder / "tree"
    ignored = shutil.ignore_patterns(".venv", ".git", "docs", "__pycache__", ".*_cache", ".hypothesis")
    shutil.copytree(ROOT, tree, ignore=ignored)
    applied = subprocess.run(["git", "apply", "--unidiff-zero", str(patch)], cwd=tree, capture_output=True, text=True)
    assert applied.returncode == 0, f"{patch.name} does not fit the code any more: {applied.stderr}"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *catching(patch)]
    path = os.pathsep.join([str(tree / "src"), str(tree)])
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    ran = subprocess.run(
        command, cwd=tree, env={**own, "PYTHONPATH": path, **environment}, capture_output=True, text=True
    )
    assert ran.returncode == 0 or re.search(r"^FAILED ", ran.stdout, re.MULTILINE), ran.stdout[-3000:]
    return ran.returncode == 0


def test_there_are_mutants_of_every_step() -> None:
    assert len(PATCHES) >= 12


@pytest.mark.slow
@pytest.mark.pg("newest")
@pytest.mark.parametrize("patch", [one for one in PATCHES if ALL or one.stem in QUICK], ids=lambda patch: patch.stem)
def test_a_mutant_is_caught(postgres: Any, kafka: Any, registry: Any, patch: Path, tmp_path: Path) -> None:
    servers = {"PYCDC_TEST_KAFKA": kafka.bootstrap, "PYCDC_TEST_REGISTRY": registry.url}
    assert not survives(patch, tmp_path, PYCDC_CHAOS_VERIFICATIONS="30", **servers)
