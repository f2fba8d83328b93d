"""A column that values are written into, as the target's catalog describes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """`type` is schema and name, without a modifier: an explicit cast to ``varchar(3)`` would cut in silence.

    `category` is pg_type.typcategory, `base` the type's name beneath domains, `element` an array's element type.
    `required`: an insert must give it. `has_array`: there are arrays of its type, which unnest into one column.
    `typmod` is the modifier all the same, that of the domain where there is one; -1: none.
    `collation` is its name, quoted, `deterministic` whether it calls texts equal only if their bytes are.
    """

    name: str
    type: tuple[str, str]
    category: str
    base: str
    element: str
    required: bool
    identity: str
    generated: bool
    has_array: bool = True
    typmod: int = -1
    deterministic: bool = True
    collation: str | None = None
    is_enum: bool = False
    nullable: bool = False
