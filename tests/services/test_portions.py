"""What the workers of a parallel run get to do."""

from __future__ import annotations

import pytest

from tests.fix_workers import portion


@pytest.mark.parametrize(
    ("nodeid", "expected"),
    [
        ("tests/rows/test_images.py::test_one", "tests/rows/test_images.py"),
        ("tests/rows/test_images.py::test_one[a-b]", "tests/rows/test_images.py"),
        ("tests/cli/test_apply.py::test_one[pg18]", "tests/cli/test_apply.py@pg18"),
        ("tests/cli/test_apply.py::TestAll::test_one[pg15-dropped-outside]", "tests/cli/test_apply.py@pg15"),
        ("tests/cli/test_apply.py::test_one[by root-pg16-outside]", "tests/cli/test_apply.py@pg16"),
    ],
)
def test_a_portion_is_a_files_tests_on_one_version(nodeid: str, expected: str) -> None:
    assert portion(nodeid) == expected


def test_files_that_have_servers_to_themselves_start_them_once() -> None:
    names = ("tests/sinks/kafka/test_producer.py::test_one[pg15]", "tests/test_services.py::TestKafka::test_two")
    assert {portion(name) for name in names} == {"exclusive Kafka"}
    assert portion("tests/faults/test_recovery.py::test_one[pg15]") == "tests/faults/test_recovery.py@pg15"


def test_tests_that_take_long_and_share_nothing_are_portions_of_their_own() -> None:
    name = "tests/faults/test_kill.py::test_nothing_is_lost_when_the_process_is_killed[pg15-before a checkpoint]"
    assert portion(name) == name
