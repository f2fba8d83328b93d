"""What every test shares: the servers' fixtures, the marks that follow from their use, and what a missing server means.

A test whose server cannot be had is skipped with the reason. CI sets ``PYCDC_TEST_STRICT=1``: then it fails where the
programs that the server needs are on this machine, and only a machine without them is an excuse.
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

from tests.generated_examples import examples
from tests.services.availability import Unavailable

pytest_plugins = ["tests.fix_workers", "tests.fix_postgres", "tests.fix_kafka", "tests.fix_browser"]

settings.register_profile("pycdc", examples(30))
settings.load_profile("pycdc")

MEMORY = "/dev/shm"
MEMORY_NEEDED = 8 << 30
STRICT = os.environ.get("PYCDC_TEST_STRICT") == "1"

POSTGRES_FIXTURES = {"postgres", "database", "contrib_postgres", "contrib_database", "postgres_proxy"}
KAFKA_FIXTURES = {"kafka", "kafka_proxy"}
REGISTRY_FIXTURES = {"registry", "registry_proxy"}


def pytest_configure(config: pytest.Config) -> None:
    keep_files_in_memory()
    for line in (
        "server: uses a fixture that starts a server (set by itself; `-m 'not server'` takes seconds)",
        "registry: needs a real schema registry (set by itself)",
        "pg(versions): the versions of Postgres, as '>=16', '>=15,<18', 'newest', 'outermost', 'tls' or 'vector'",
        "exclusive: stops, pauses or reads the log of Kafka or the registry: no other test uses its ones",
        "kafka_mock_ok: can live with librdkafka's mock cluster where no Kafka is to be had",
    ):
        config.addinivalue_line("markers", line)


def keep_files_in_memory() -> None:
    """Let temporary files be made in memory, where there is room and nobody said otherwise.

    Each database is 300 new files: a tenth of the CPU time that it takes on a disk's file system.
    """
    if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_NEEDED:
        os.environ["TMPDIR"] = MEMORY
        tempfile.tempdir = None  # found anew


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the garbage collector the ten thousand tests that every worker collects, and that live until its end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        _mark(item)


def _mark(item: pytest.Item) -> None:
    fixtures = set(getattr(item, "fixturenames", ()))
    for mark, names in (
        ("postgres", POSTGRES_FIXTURES),
        ("kafka", KAFKA_FIXTURES),
        ("registry", REGISTRY_FIXTURES),
    ):
        if fixtures & names:
            item.add_marker(mark)
            item.add_marker("server")


@pytest.fixture(autouse=True)
def _logging_restored() -> Iterator[None]:
    """The commands configure logging for their process, which is ours."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    hooks = threading.excepthook, sys.unraisablehook
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    threading.excepthook, sys.unraisablehook = hooks


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    return (yield from _missing_server_skips())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    return (yield from _missing_server_skips())


def _missing_server_skips() -> Generator[None, object, object]:
    try:
        return (yield)
    except Unavailable as missing:
        if STRICT and not missing.excused:
            pytest.fail(missing.reason, pytrace=False)
        pytest.skip(missing.reason)
