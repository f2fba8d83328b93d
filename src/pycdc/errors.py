"""What can go wrong, whether to try again, and what the user can do about it.

::

    PycdcError                                                                     exit 1
    ├── ConfigError            the YAML is wrong; nothing was started               exit 2
    ├── EnvironmentNotReady    a server lacks what is needed                        exit 3
    │   ├── SlotActive         somebody else reads the slot                         retried
    │   └── PositionGap        resuming would lose or invent rows
    ├── ConnectionLost         a server went away                                   retried
    │   ├── RegistryLost       a record waits for its schema                        retried
    │   └── ProtocolViolation  it did not understand what it got; five times: ProtocolError
    ├── ProtocolError          bytes that the manual does not allow                     exit 5
    ├── ConversionError        a column's value has no representation                   exit 5
    ├── TransformError         a user's function failed, or returned what cannot be used  exit 5
    ├── SchemaIncompatible     the registry refuses a schema                            exit 5
    ├── DeliveryError          the sink could not make records durable              retried from the checkpoint
    │   ├── RecordTooLarge     one record exceeds what the broker takes                 exit 5
    │   └── Undelivered        stopped before all was delivered; the next start repeats it  exit 6
    ├── ParkingFull            more rows are parked than parking.limit allows       exit 5
    ├── ApplyError             an event cannot be written into its table                exit 5
    ├── SinkFenced             another instance took over; never retried                exit 5
    └── CheckpointCorrupt      the stored position cannot be trusted                    exit 5

The message is a fact in lower case, the hint an imperative. Neither ever holds a row's values or a secret.
Both may tell names that strangers gave, and so are made printable: one line each, unless `printable.lines` built them.
"""

from __future__ import annotations

from typing import ClassVar, Final

from pycdc.printable import printable

STOPPED_FOR_GOOD: Final = 5
"""The exit code of what a restart would meet again: a supervisor should leave it, and call somebody."""


class PycdcError(Exception):
    """Root of all errors that pycdc raises on purpose."""

    code: ClassVar[str] = "error"
    retry: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1

    def __init__(self, fact: str, *, hint: str = "") -> None:
        self.fact = printable(fact)
        self.hint = printable(hint)
        super().__init__(self.fact)

    def __str__(self) -> str:
        return f"{self.fact}\n  try: {self.hint}" if self.hint else self.fact


class ConfigError(PycdcError):
    code = "config"
    exit_code = 2


class EnvironmentNotReady(PycdcError):
    code = "environment"
    exit_code = 3


class SlotActive(EnvironmentNotReady):
    code = "slot-active"
    retry = True


class PositionGap(EnvironmentNotReady):
    code = "position-gap"


class OtherSource(PositionGap):
    code = "other-source"


class UnknownSchema(EnvironmentNotReady):
    code = "unknown-schema"


class ConnectionLost(PycdcError):
    code = "connection-lost"
    retry = True


class RegistryLost(ConnectionLost):
    """What needs a schema waits: a record that was read, or is to be written."""


class ProtocolViolation(ConnectionLost):
    """Bytes that the other side did not understand.

    Once may be the network's fault, at one place again and again is not.
    """

    code = "protocol-violation"


class ProtocolError(PycdcError):
    code = "protocol"
    exit_code = STOPPED_FOR_GOOD


class ConversionError(PycdcError):
    code = "conversion"
    exit_code = STOPPED_FOR_GOOD


class TransformError(PycdcError):
    code = "transform"
    exit_code = STOPPED_FOR_GOOD


class SchemaIncompatible(PycdcError):
    """`subject` is the registry's, where the schema was refused."""

    code = "schema-incompatible"
    exit_code = STOPPED_FOR_GOOD

    def __init__(self, fact: str, *, hint: str = "", subject: str = "") -> None:
        super().__init__(fact, hint=hint)
        self.subject = subject


class DeliveryError(PycdcError):
    code = "delivery"
    retry = True


class RecordTooLarge(DeliveryError):
    code = "record-too-large"
    exit_code = STOPPED_FOR_GOOD
    retry = False


class Undelivered(DeliveryError):
    """A pipeline that was stopped before all that it had read was durable."""

    code = "undelivered"
    retry = False
    exit_code = 6


class ParkingFull(PycdcError):
    code = "parking-full"
    exit_code = STOPPED_FOR_GOOD


class ApplyError(PycdcError):
    code = "apply"
    exit_code = STOPPED_FOR_GOOD


class SinkFenced(PycdcError):
    code = "fenced"
    exit_code = STOPPED_FOR_GOOD


class CheckpointCorrupt(PycdcError):
    code = "checkpoint-corrupt"
    exit_code = STOPPED_FOR_GOOD
