"""What shapes a codec beside the column's type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pycdc.config.values import CompatibilityConfig, ValuesConfig
from pycdc.model.change import PgType
from pycdc.rows.codecs.codec import Codec, Text


@dataclass(frozen=True, slots=True)
class CodecOptions:
    """`snapshot`: the codec is for rows that COPY reads, which Debezium writes differently for a few types.

    `dimensions` is the declared number of array dimensions.
    """

    values: ValuesConfig
    compat: CompatibilityConfig
    snapshot: bool = False
    dimensions: int = 0

    @property
    def decode(self) -> Callable[[Text], str]:
        """Text to str; a UnicodeDecodeError is a ValueError."""
        return _repaired if self.values.encoding_errors == "replace" else bytes.decode


Factory = Callable[[PgType, CodecOptions], Codec]
Family = Mapping[str, Factory]
"""The codecs of a type family by the type's name."""


def _repaired(text: Text) -> str:
    return text.decode("utf-8", "replace")
