"""Which servers a test gets: versions by mark, programs in order of preference, and when their absence is an excuse."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path

import pytest

from tests import conftest
from tests.fix_postgres import matches, select
from tests.services import installations, maven
from tests.services.availability import Unavailable
from tests.services.installations import Installation
from tests.services.matrix import PostgresSource
from tests.services.postgres import PostgresServer
from tests.services.process import Account


def source(version: str, *, contrib: bool = False) -> PostgresSource:
    server = PostgresServer("host=nowhere", version, contrib=contrib)
    return PostgresSource(f"pg{version.partition('.')[0]}", version, contrib, "test", lambda: server)


OLD, MIDDLE, NEW = source("15.18", contrib=True), source("16.14"), source("18.4")
ALL = (OLD, MIDDLE, NEW)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (">=16", True),
        (">16", False),
        ("==16", True),
        ("!=16", False),
        ("<16.14", False),
        ("<=16.14", True),
        (">=15,<18", True),
        (">= 15, < 16", False),
    ],
)
def test_a_condition_compares_as_many_numbers_as_it_has(condition: str, expected: bool) -> None:
    assert matches((16, 14), condition) is expected


def test_a_condition_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="16\\+"):
        matches((16, 14), "16+")


def test_marks_narrow_the_versions() -> None:
    assert select(ALL, [], contrib=False) == [OLD, MIDDLE, NEW]
    assert select(ALL, [">=16"], contrib=False) == [MIDDLE, NEW]
    assert select(ALL, [">=15,<18", "newest"], contrib=False) == [MIDDLE]
    assert select(ALL, ["outermost"], contrib=False) == [OLD, NEW]
    assert select(ALL, [">=18", "outermost"], contrib=False) == [NEW]
    assert select(ALL, [], contrib=True) == [OLD]


def test_a_word_selects_what_has_an_extension_or_tls() -> None:
    with_tls = dataclasses.replace(MIDDLE, features=frozenset({"tls"}))
    with_both = dataclasses.replace(NEW, features=frozenset({"tls", "vector"}))
    found = (OLD, with_tls, with_both)
    assert select(found, ["tls"], contrib=False) == [with_tls, with_both]
    assert select(found, ["vector"], contrib=False) == [with_both]
    assert select(found, ["tls", "newest"], contrib=False) == [with_both]
    assert isinstance(select(found, ["postgis"], contrib=False)[0], Unavailable)


def test_no_version_left_is_one_reason() -> None:
    (missing,) = select(ALL, [">=19"], contrib=False)
    assert isinstance(missing, Unavailable)
    assert missing.reason == "Postgres and >=19 needed, found 15.18 (test, contrib), 16.14 (test), 18.4 (test)"
    (missing,) = select((), [], contrib=True)
    assert isinstance(missing, Unavailable)
    assert missing.reason.endswith("found no Postgres")


@pytest.mark.parametrize(
    ("strict", "excused", "outcome"),
    [
        (False, True, pytest.skip.Exception),
        (False, False, pytest.skip.Exception),
        (True, True, pytest.skip.Exception),
        (True, False, pytest.fail.Exception),
    ],
)
def test_strict_fails_where_the_programs_are_there(
    monkeypatch: pytest.MonkeyPatch, strict: bool, excused: bool, outcome: type[BaseException]
) -> None:
    monkeypatch.setattr(conftest, "STRICT", strict)
    wrapper = conftest._missing_server_skips()
    next(wrapper)
    with pytest.raises(outcome, match="the network is down"):
        wrapper.throw(Unavailable("the network is down", excused=excused))


def test_programs_in_a_private_folder_are_copied_for_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "private"
    (private / "wheel" / "pginstall" / "bin").mkdir(parents=True)
    (private / "wheel.libs").mkdir()
    (private / "wheel.libs" / "libpq.so").touch(0o600)
    program = private / "wheel" / "pginstall" / "bin" / "postgres"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    private.chmod(0o700)
    monkeypatch.setattr(installations, "temporary_folder", lambda name, account: _made(tmp_path / "copies"))
    installation = Installation(program.parent, "16.14", "wheel", contrib=False, features=frozenset())
    assert installations.reachable(installation, None) == program.parent
    copied = installations.reachable(installation, Account("somebody", 12345, 12345))
    assert copied == tmp_path / "copies" / "wheel" / "pginstall" / "bin"
    modes = {copied: 0o755, copied / "postgres": 0o755, tmp_path / "copies" / "wheel.libs" / "libpq.so": 0o644}
    assert {path: stat.S_IMODE(path.stat().st_mode) for path in modes} == modes


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "pycdc" / "test-servers"


def fake_maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Put an ``mvn`` on the PATH that notes each call; the file of its notes."""
    programs = tmp_path / "programs"
    programs.mkdir()
    calls = tmp_path / "calls"
    (programs / "mvn").write_text(f"#!/bin/sh\necho call >> {calls}\n{script}\n")
    (programs / "mvn").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    return calls


WANTED = maven.Libraries("thing", ("org.example:thing:1.0",))


def test_a_download_is_made_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_maven(tmp_path, monkeypatch, "mkdir libs && touch libs/thing.jar")
    first, second = maven.resolve(WANTED), maven.resolve(WANTED)
    assert first == second
    assert [path.name for path in first.iterdir()] == ["thing.jar"]
    assert calls.read_text().count("call") == 1
    assert maven.cached(WANTED)


def test_another_version_is_another_download(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_maven(tmp_path, monkeypatch, "mkdir libs && touch libs/thing.jar")
    maven.resolve(WANTED)
    assert not maven.cached(maven.Libraries("thing", ("org.example:thing:1.1",)))


def test_a_download_that_fails_is_tried_again_and_poisons_nothing(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_maven(tmp_path, monkeypatch, "mkdir -p libs; touch libs/half.jar; echo '[ERROR] no route'; exit 1")
    with pytest.raises(Unavailable, match="cannot resolve thing: no route") as failed:
        maven.resolve(WANTED)
    assert not failed.value.excused
    assert calls.read_text().count("call") == maven.ATTEMPTS
    assert not maven.cached(WANTED)
    assert list(cache.glob(".incomplete-*")) == []


def test_what_a_killed_download_left_is_removed(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_maven(tmp_path, monkeypatch, "mkdir libs && touch libs/thing.jar")
    (cache / ".incomplete-left" / "libs").mkdir(parents=True)
    assert maven.resolve(WANTED).is_dir()
    assert list(cache.glob(".incomplete-*")) == []


def test_no_maven_is_an_excuse(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Unavailable, match="mvn is not on the PATH") as missing:
        maven.resolve(WANTED)
    assert missing.value.excused


def test_an_old_java_is_as_good_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "java").write_text("""#!/bin/sh\necho 'openjdk version "11.0.2" 2019' >&2\n""")
    (tmp_path / "java").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(Unavailable, match="Java 17"):
        maven.java()
