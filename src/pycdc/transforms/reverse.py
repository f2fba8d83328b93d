"""Transforms of an apply pipeline: between a record that was decoded and the routes that it takes.

A record stays one unit, whatever becomes of it: what its parts write is written together, and a failure concerns the
record, whose bytes are then parked as they came.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pycdc.config.pipeline import ApplyPipeline
from pycdc.config.transforms import TopicTransformConfig
from pycdc.errors import PycdcError, TransformError
from pycdc.model.change import UNCHANGED, Op, Row
from pycdc.model.event import Event, Partition
from pycdc.model.patterns import names_any
from pycdc.transforms.change import DecodedChange, RecordPosition, RowFunction, Transform, copied
from pycdc.transforms.functions import Failure, call, find, headers_of, place

_Step = tuple[TopicTransformConfig, Transform]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ReverseFunctions:
    """Users' functions of a pipeline: transforms of events, and those of routes in `rows`, by their paths.

    Raises ConfigError for a function that is not there, before anything starts.
    """

    def __init__(self, config: ApplyPipeline) -> None:
        sink = config.sink.postgres
        self.rows: dict[str, Callable[[Event], Row | None]] = {
            route.function: _row(route.function, find(route.function, f"sink.postgres.routes[{index}].function"))
            for index, route in enumerate(sink.routes)
            if route.function is not None
        }
        self._steps: list[_Step] = [
            (settings, find(settings.function, f"transforms[{index}].function"))
            for index, settings in enumerate(config.transforms)
        ]
        self._chains: dict[str, list[_Step]] = {}

    def __bool__(self) -> bool:
        return bool(self.rows or self._steps)

    def parts(self, event: Event) -> Sequence[Event]:
        """Return the events that are routed in place of this one: itself, others, or none. Raises TransformError."""
        steps = self._chain(event.partition.topic)
        if not steps:
            return (event,)
        parts: Sequence[Event] = _once(event, "", lambda: self._parts(event, steps))
        return parts

    def _parts(self, event: Event, steps: list[_Step]) -> list[Event]:
        results = [decoded(event)]
        try:
            for settings, function in steps:
                results = [made for one in results for made in call(settings.function, function, one)]
            return [_event(event, steps[-1][0].function, result) for result in results]
        except Failure as failure:
            raise _error(failure) from None

    def _chain(self, topic: str) -> list[_Step]:
        if topic not in self._chains:
            self._chains[topic] = [step for step in self._steps if names_any(step[0].topics, topic)]
        return self._chains[topic]


def _once(event: Event, name: str, run: Callable[[], Any]) -> Any:
    """Run user code once for an event, and return or raise the same each time that it is asked for."""
    if event.made is None:
        event.made = {}
    if name not in event.made:
        try:
            event.made[name] = run()
        except TransformError as error:
            event.made[name] = error
    made = event.made[name]
    if isinstance(made, TransformError):
        raise made
    return made


def decoded(event: Event) -> DecodedChange:
    partition = event.partition
    return DecodedChange(
        op=Op.DELETE if event.deleted else Op.UPDATE,
        table=None,
        topic=partition.topic,
        key=copied(event.key),
        before=copied(event.before),
        after=None if event.row is None else {**copied(event.row), **dict.fromkeys(event.unsent, UNCHANGED)},
        timestamp=_EPOCH + timedelta(milliseconds=event.timestamp),
        position=RecordPosition(partition.topic, partition.number, event.offset),
        headers=list(event.headers),
    )


def _event(event: Event, path: str, result: DecodedChange) -> Event:
    """Return `event` with what the function made of it. What was parked of it would be the bytes that came."""
    deleted = result.op is Op.DELETE
    if not deleted and result.after is None:
        raise Failure(path, "ValueError", f"returned no `after`, which op {result.op.value} needs")
    after = None if deleted or result.after is None else result.after
    unsent = frozenset(name for name, value in (after or {}).items() if value is UNCHANGED)
    return replace(
        event,
        partition=Partition(result.topic or event.partition.topic, event.partition.number),
        key=result.key,
        row=after if after is None or not unsent else {k: v for k, v in after.items() if k not in unsent},
        unsent=unsent,
        before=result.before,
        deleted=deleted,
        headers=headers_of(path, result),
        made=None,
        other_key=event.other_key if _keeps_key(event, result) else None,
        by_function=True,
    )


def _keeps_key(event: Event, result: DecodedChange) -> bool:
    """Return whether the row is still the one that the message key names."""
    was, now = (event.before, result.before) if event.deleted else (event.row, result.after)
    names = event.key if isinstance(event.key, dict) else ()
    return result.key == event.key and all((was or {}).get(name) == (now or {}).get(name) for name in names)


def _row(path: str, function: RowFunction) -> Callable[[Event], Row | None]:
    """Return the function of a route as one over events."""

    def row(event: Event) -> Row | None:
        made: Row | None = _once(event, path, lambda: call_row(event))
        return None if made is None else dict(made)

    def call_row(event: Event) -> Row | None:
        change = decoded(event)
        try:
            made = function(change)
        except Exception as error:
            if isinstance(error, PycdcError) and error.retry:
                raise
            raise _error(Failure(path, type(error).__name__, f"failed ({place(error)})")) from None
        if made is not None and not isinstance(made, dict):
            why = f"returned {type(made).__name__}, where a dict of columns or None was expected"
            raise _error(Failure(path, "TypeError", why))
        return made

    return row


def _error(failure: Failure) -> TransformError:
    return TransformError(f"function {failure.function} {failure.why}", hint="correct the function and start again")
