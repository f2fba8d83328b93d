"""Change Data Capture for Postgres in pure Python: the library's front door.

What is not named here is private.
"""

from importlib import import_module
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
    from pycdc.clients.kafka_inspection import GroupMember, OffsetSpan
    from pycdc.config.pipeline import ApplyPipeline, CapturePipeline, PipelineConfig
    from pycdc.connectors.postgres.catalog.metadata import ReplicationLag, ServerMetadata, SlotMetadata
    from pycdc.observability.progress import PartitionPlace, Progress, TableSnapshot
    from pycdc.operations.apply_status import ApplyState, PartitionState
    from pycdc.operations.doctor.finding import Finding, FindingStatus
    from pycdc.operations.lag.delays import DelaySummary, LagMeasurement
    from pycdc.operations.status import CaptureState
    from pycdc.operations.verify.options import VerifyOptions
    from pycdc.operations.verify.result import (
        ComparisonMethod,
        Difference,
        DifferenceKind,
        PointInTime,
        TableResult,
        Verification,
    )
    from pycdc.operations.verify.verification import Verifier, verify
    from pycdc.sinks.postgres.bookkeeping.inspection import PipelineState, StoredOffset
    from pycdc.sinks.postgres.conflicts.conflict import Conflict, ConflictKind

__all__ = [  # noqa: RUF022  (grouped by what they are for)
    # run a pipeline, or iterate
    "Pipeline",
    "capture",
    "CaptureOptions",
    "PipelineConfig",
    "CapturePipeline",
    "ApplyPipeline",
    # how far it is
    "PartitionOffsets",
    "Partition",
    "PartitionPlace",
    "Progress",
    "TableSnapshot",
    # what the servers tell of it: status, lag, doctor
    "ApplyState",
    "CaptureState",
    "DelaySummary",
    "Finding",
    "FindingStatus",
    "GroupMember",
    "LagMeasurement",
    "OffsetSpan",
    "PartitionState",
    "PipelineState",
    "ReplicationLag",
    "ServerMetadata",
    "SlotMetadata",
    "StoredOffset",
    # whether two databases agree
    "Difference",
    "DifferenceKind",
    "ComparisonMethod",
    "PointInTime",
    "TableResult",
    "Verification",
    "Verifier",
    "VerifyOptions",
    "verify",
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


_WHERE = {
    "pycdc.api": ("CapturedChange", "CaptureOptions", "Pipeline", "capture"),
    "pycdc.clients.kafka_inspection": ("GroupMember", "OffsetSpan"),
    "pycdc.config.pipeline": ("ApplyPipeline", "CapturePipeline", "PipelineConfig"),
    "pycdc.connectors.postgres.catalog.metadata": ("ReplicationLag", "ServerMetadata", "SlotMetadata"),
    "pycdc.observability.progress": ("PartitionPlace", "Progress", "TableSnapshot"),
    "pycdc.operations.apply_status": ("ApplyState", "PartitionState"),
    "pycdc.operations.doctor.finding": ("Finding", "FindingStatus"),
    "pycdc.operations.lag.delays": ("DelaySummary", "LagMeasurement"),
    "pycdc.operations.status": ("CaptureState",),
    "pycdc.operations.verify.options": ("VerifyOptions",),
    "pycdc.operations.verify.result": (
        "Difference",
        "DifferenceKind",
        "ComparisonMethod",
        "PointInTime",
        "TableResult",
        "Verification",
    ),
    "pycdc.operations.verify.verification": ("Verifier", "verify"),
    "pycdc.sinks.postgres.bookkeeping.inspection": ("PipelineState", "StoredOffset"),
    "pycdc.sinks.postgres.conflicts.conflict": ("Conflict", "ConflictKind"),
}
"""Names that are loaded when they are first asked for. The engine loads the drivers for Kafka and Postgres, and the
configuration loads pydantic: half a second that a program should not wait for that only wants the types, the errors or
the version."""


def __getattr__(name: str) -> object:
    for module, names in _WHERE.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'pycdc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
