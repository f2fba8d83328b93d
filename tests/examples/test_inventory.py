"""examples/inventory: the inventory moves out of its monolith and back and forth, under load, and nothing is lost."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.kafka import KafkaAddress

ROOT = Path(__file__).parents[2]
TIMES = re.compile(r"p99|were held")
"""Figures that depend on how busy the machine is."""


@pytest.mark.slow
def test_the_migration_meets_its_goals(kafka: KafkaAddress, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.inventory.migration", "--seconds", "1", "--rate", "0.5"]
    command += ["--brokers", kafka.bootstrap, "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    figures = [line for line in done.stdout.splitlines() if line.startswith(("met", "MISSED"))]
    assert len(figures) == 49, done.stdout + done.stderr
    missed = [line for line in figures if line.startswith("MISSED") and not TIMES.search(line)]
    assert not missed, done.stdout
    assert re.search(r"^the page: http://127\.0\.0\.1:\d+/migration$", done.stdout, re.MULTILINE)
    assert done.returncode in (0, 1)
