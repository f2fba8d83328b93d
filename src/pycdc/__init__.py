"""Change Data Capture for Postgres in pure Python: the library's front door.

What is not named here is private.
"""

from typing import TYPE_CHECKING

from pycdc.errors import (
    ApplyError,
    CheckpointCorrupt,
    ConfigError,
    ConnectionLost,
    ConversionError,
    DeliveryError,
    EnvironmentNotReady,
    OtherSource,
    PositionGap,
    ProtocolError,
    PycdcError,
    RecordTooLarge,
    RegistryLost,
    SchemaIncompatible,
    SinkFenced,
    SlotActive,
    TransformError,
    Undelivered,
    UnknownSchema,
)
from pycdc.interfaces import Checkpoint, Connector, OffsetStore, Sink
from pycdc.model.change import (
    UNCHANGED,
    Batch,
    Change,
    Column,
    LogicalMessage,
    Lsn,
    Op,
    PgType,
    Position,
    Routing,
    Row,
    Run,
    Table,
    Transaction,
)
from pycdc.model.event import Partition, PartitionOffsets
from pycdc.transforms.change import DecodedChange, RecordPosition, RowFunction, Transform
from pycdc.version import __version__

if TYPE_CHECKING:
    from pycdc.api import CapturedChange, CaptureOptions, Pipeline, capture
    from pycdc.config.pipeline import PipelineConfig
    from pycdc.observability.progress import PartitionPlace, Progress, TableSnapshot
    from pycdc.sinks.postgres.conflicts.conflict import Conflict, ConflictKind

__all__ = [  # noqa: RUF022  (grouped by what they are for)
    # run a pipeline, or iterate
    "Pipeline",
    "capture",
    "CaptureOptions",
    "PipelineConfig",
    # how far it is
    "PartitionOffsets",
    "Partition",
    "PartitionPlace",
    "Progress",
    "TableSnapshot",
    # what changes are made of
    "Batch",
    "CapturedChange",
    "Change",
    "Column",
    "LogicalMessage",
    "Lsn",
    "Op",
    "PgType",
    "Position",
    "Routing",
    "Row",
    "Run",
    "Table",
    "Transaction",
    "UNCHANGED",
    # what rules of conflicts see
    "Conflict",
    "ConflictKind",
    # what transforms see
    "DecodedChange",
    "RecordPosition",
    "RowFunction",
    "Transform",
    # what you may bring yourself
    "Checkpoint",
    "Connector",
    "OffsetStore",
    "Sink",
    # errors
    "PycdcError",
    "RegistryLost",
    "ApplyError",
    "CheckpointCorrupt",
    "ConfigError",
    "ConnectionLost",
    "ConversionError",
    "DeliveryError",
    "EnvironmentNotReady",
    "OtherSource",
    "PositionGap",
    "ProtocolError",
    "RecordTooLarge",
    "SchemaIncompatible",
    "SinkFenced",
    "SlotActive",
    "TransformError",
    "Undelivered",
    "UnknownSchema",
    "__version__",
]


def __getattr__(name: str) -> object:
    # The engine loads the drivers for Kafka and Postgres, and the configuration loads pydantic: half a second that a
    # program should not wait for that only wants the types, the errors or the version.
    if name == "PipelineConfig":
        from pycdc.config.pipeline import PipelineConfig

        return PipelineConfig
    if name in ("PartitionPlace", "Progress", "TableSnapshot"):
        from pycdc.observability import progress

        return getattr(progress, name)
    if name in ("Conflict", "ConflictKind"):
        from pycdc.sinks.postgres.conflicts import conflict

        return getattr(conflict, name)
    if name in ("CaptureOptions", "CapturedChange", "Pipeline", "capture"):
        from pycdc import api

        return getattr(api, name)
    raise AttributeError(f"module 'pycdc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
