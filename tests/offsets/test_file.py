from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from pycdc.errors import CheckpointCorrupt, EnvironmentNotReady
from pycdc.offsets.encoding import dump
from pycdc.offsets.file import FileOffsetStore
from tests.offsets.contract import OffsetStoreContract, OpenStore, at


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "shop.json"


class TestFileOffsetStore(OffsetStoreContract):
    @pytest.fixture
    def open_store(self, path: Path) -> OpenStore:
        return lambda: FileOffsetStore(path)


def test_only_the_owner_may_read_the_file(path: Path) -> None:
    FileOffsetStore(path).store(at(1))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_but_the_file_is_left_behind(path: Path) -> None:
    store = FileOffsetStore(path)
    store.store(at(1))
    store.store(at(2))
    assert [found.name for found in path.parent.iterdir()] == ["shop.json"]


def test_a_flipped_byte_in_the_file_is_corrupt_not_missing(path: Path) -> None:
    store = FileOffsetStore(path)
    store.store(at(1))
    good = path.read_bytes()
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :])
        with pytest.raises(CheckpointCorrupt, match=str(path)):
            store.load()


def test_a_truncated_file_is_corrupt_at_every_length(path: Path) -> None:
    store = FileOffsetStore(path)
    store.store(at(1))
    good = path.read_bytes()
    for length in range(len(good)):
        path.write_bytes(good[:length])
        with pytest.raises(CheckpointCorrupt):
            store.load()


def test_a_corrupt_file_is_not_overwritten(path: Path) -> None:
    store = FileOffsetStore(path)
    store.store(at(1))
    path.write_bytes(b"garbage")
    with pytest.raises(CheckpointCorrupt):
        store.store(at(2))
    assert path.read_bytes() == b"garbage"
    store.clear()
    store.store(at(2))
    assert store.load() == at(2)


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_checkpoint_readable(path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    store = FileOffsetStore(path)
    store.store(at(1))

    def full(*args: Any, **kwargs: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(EnvironmentNotReady, match="No space left") as caught:
            store.store(at(2))
    assert str(path) in caught.value.fact
    assert FileOffsetStore(path).load() == at(1)
    store.store(at(3))
    assert FileOffsetStore(path).load() == at(3)


def test_a_write_that_stops_halfway_leaves_the_old_checkpoint_readable(path: Path) -> None:
    """What a kill during the write leaves behind: half of the temporary file, which nobody reads."""
    store = FileOffsetStore(path)
    store.store(at(1))
    path.with_name("shop.json.new").write_bytes(dump(at(2))[:20])
    assert FileOffsetStore(path).load() == at(1)
    store.store(at(3))
    assert FileOffsetStore(path).load() == at(3)


def test_the_data_is_synced_before_the_rename_and_the_folder_after_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    steps: list[str] = []
    sync, replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        steps.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        sync(descriptor)

    def rename(source: Any, target: Any) -> None:
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    FileOffsetStore(path).store(at(1))
    assert steps == ["sync file", "rename", "sync folder"]


def test_a_folder_in_place_of_the_file_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentNotReady) as caught:
        FileOffsetStore(tmp_path).load()
    assert "offsets.file.path" in caught.value.hint
