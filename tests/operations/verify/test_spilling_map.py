"""What does not fit into memory is on disk, where nobody finds it, and in its order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pycdc.errors import EnvironmentNotReady
from pycdc.operations.verify import spilling_map
from pycdc.operations.verify.spilling_map import SpillingMap


def filled(most: int) -> SpillingMap[list[str]]:
    found = SpillingMap[list[str]](most)
    for number in range(2000):
        found[(str(number % 1500), "ä\0\ud800")] = [f"v{number}"]
        found.grew(100)
    return found


@pytest.mark.parametrize("most", [1_000, 1_000_000])
def test_it_is_a_mapping_in_the_order_in_which_keys_came_whether_it_spills_or_not(most: int) -> None:
    found = filled(most)
    assert found.spilled == (most == 1_000)
    found[("7", "ä\0\ud800")].append("changed")
    assert len(found) == 1500
    assert [int(key[0]) for key in found] == list(range(1500))
    assert found[("7", "ä\0\ud800")] == ["v1507", "changed"]
    assert found.get(("7", "other")) is None
    assert ("1499", "ä\0\ud800") in found
    assert ("1500", "ä\0\ud800") not in found
    del found[("7", "ä\0\ud800")]
    assert ("7", "ä\0\ud800") not in found
    assert [len(page) for page in found.pages(1000)] == [1000, 499]


def test_a_disk_that_is_full_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spilling_map, "_SETTINGS", ("max_page_count = 8",))
    with pytest.raises(EnvironmentNotReady, match="cannot be written into a temporary file") as caught:
        filled(1_000)
    assert "SQLITE_TMPDIR" in caught.value.hint


PROGRAM = """
from pycdc.operations.verify.spilling_map import SpillingMap
import os, signal
found = SpillingMap(1 << 20)
for number in range(200_000):
    found[(str(number),)] = {"text": "secret value " + "x" * 1000}
    found.grew(1200)
print(len(found), os.listdir(os.environ["SQLITE_TMPDIR"]))
print(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1024, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_memory_is_bounded_and_kill_9_leaves_no_file(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "SQLITE_TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    rows, peak = ran.stdout.splitlines()
    assert rows == "200000 []"  # of 200 MB; while it is open, too, it has no name
    assert int(peak) < 60
    assert list(tmp_path.iterdir()) == []
