"""A checkpoint as bytes, the same in every store: one line of JSON, its version and checksum beside it.

A stored position that is wrong is worse than none: it skips changes. So `load` accepts exactly what `dump` wrote; one
flipped or missing byte is `CheckpointCorrupt`. Missing is not corrupt: a store that holds nothing says None.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict
from typing import Any, Final

from pycdc.errors import CheckpointCorrupt, PycdcError, SinkFenced
from pycdc.interfaces import Checkpoint
from pycdc.model.change import Lsn, Position
from pycdc.model.transaction_chunk import TransactionChunk

VERSION: Final = 5
"""Of a checkpoint that lies within a transaction, or names its Kafka cluster. One that does not, but knows of
transactions that no snapshot may see yet, is version 4; one that does not know of any, but remembers how its
tables were published, is version 3; one that has a snapshot under way version 2, all others are version 1: older ones
read what they understand."""
_HINT: Final = (
    "restore the stored checkpoint from a backup, or clear it with `pycdc teardown` and take a new snapshot; "
    "do not edit it by hand"
)


def dump(checkpoint: Checkpoint) -> bytes:
    """Write one line of JSON: version, crc32 of the checkpoint's own JSON, the checkpoint; it ends in a newline."""
    document = {
        "position": str(checkpoint.position.lsn),
        "index": checkpoint.position.index,
        "last_commit": str(checkpoint.last_commit),
        "snapshot_done": checkpoint.snapshot_done,
        "source": checkpoint.source,
    }
    version = 1
    if checkpoint.snapshot:
        version, document["snapshot"] = 2, checkpoint.snapshot
    if checkpoint.membership:
        version, document["membership"] = 3, checkpoint.membership
    if checkpoint.unseen:
        version, document["unseen"] = 4, list(checkpoint.unseen)
    if checkpoint.chunk is not None:
        version, document["chunk"] = VERSION, asdict(checkpoint.chunk)
    if checkpoint.cluster:
        version, document["cluster"] = VERSION, checkpoint.cluster
    body = _json(document)
    return f'{{"version":{version},"crc32":"{zlib.crc32(body.encode()):08x}","checkpoint":{body}}}\n'.encode()


def load(data: bytes, where: str = "the stored checkpoint") -> Checkpoint:
    """Read the checkpoint that `dump` wrote. Raises CheckpointCorrupt, naming `where`, for anything else."""
    try:
        document = json.loads(data)
        version = document["version"]
        if type(version) is int and version > VERSION:
            raise CheckpointCorrupt(
                f"{where} has version {version}, and this pycdc knows {VERSION}",
                hint="run the pycdc that wrote it, or a newer one",
            )
        checkpoint = _checkpoint(document["checkpoint"])
        intact = dump(checkpoint) == data
    except CheckpointCorrupt:
        raise
    except (ValueError, KeyError, TypeError, RecursionError, PycdcError):
        intact = False
    if not intact:
        raise CheckpointCorrupt(f"{where} is damaged ({len(data)} bytes)", hint=_HINT)
    return checkpoint


def require_forward(stored: Checkpoint | None, new: Checkpoint, where: str) -> None:
    """Raise SinkFenced if `new` lies before `stored` on the same source: only another instance can have stored that.

    A snapshot that announces itself starts the position anew.
    """
    if stored is not None and stored.source == new.source and new.snapshot_done and new.position < stored.position:
        raise went_backward(where, new)


def went_backward(where: str, new: Checkpoint) -> SinkFenced:
    return SinkFenced(
        f"{where} holds a position after {new.position}: another instance of this pipeline stored it",
        hint="run one instance of a pipeline; stop the other one, then start this one again",
    )


def _checkpoint(document: dict[str, Any]) -> Checkpoint:
    chunk = document.get("chunk")
    return Checkpoint(
        position=Position(Lsn.parse(document["position"]), document["index"]),
        last_commit=Lsn.parse(document["last_commit"]),
        source=document["source"],
        snapshot_done=document["snapshot_done"],
        snapshot=document.get("snapshot", {}),
        membership=document.get("membership", {}),
        unseen=tuple(document.get("unseen", ())),
        chunk=None if chunk is None else TransactionChunk(**chunk),
        cluster=document.get("cluster", ""),
    )


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
