"""Handle signals: each is turned into tables to be read, or to be read no more.

A signal comes from outside and may be wrong in any way. It is then refused, with a line in the log that says what to
write instead, and counted; the stream goes on. Only a database that is away is an error, and the signal comes again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pycdc.clients.postgres_errors import TableLocked
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import TableRef
from pycdc.connectors.postgres.catalog.row_filter import check_condition
from pycdc.connectors.postgres.replication.control_message import ControlMessage
from pycdc.connectors.postgres.signals import debezium as debezium_signals
from pycdc.connectors.postgres.signals import messages as signals
from pycdc.connectors.postgres.signals.debezium import DebeziumSignal, Request, Unusable
from pycdc.connectors.postgres.signals.messages import Signal
from pycdc.connectors.postgres.signals.signing import SigningKey
from pycdc.connectors.postgres.signals.table_regex import matching
from pycdc.connectors.postgres.snapshot.backlog import RESYNC, Backlog, TableTask
from pycdc.errors import ConfigError, EnvironmentNotReady
from pycdc.model.parked_request import ParkedRequest
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress

log = get_logger()


class SignalResult(NamedTuple):
    """What is to be read from now on, and what no more; whether what is left waits or goes on.

    `parked` is for whoever parks rows.
    """

    added: Sequence[TableTask] = ()
    gone: Sequence[TableTask] = ()
    paused: bool | None = None
    parked: ParkedRequest | None = None


class SignalHandler:
    """Handles the signals of a stream.

    `choose` makes tasks of the tables that a signal's patterns name, `look` of those that join the pipeline now.
    """

    def __init__(
        self,
        config: CapturePipeline,
        catalog: Catalog,
        backlog: Backlog,
        progress: Progress,
        key: SigningKey,
        choose: Callable[[Signal], list[TableTask]],
        look: Callable[[], list[TableTask]],
    ) -> None:
        self._config = config
        self._dsn = config.source.postgres.dsn.get_secret_value()
        self._catalog = catalog
        self._backlog = backlog
        self._progress = progress
        self._key = key
        self._choose = choose
        self._look = look

    def inserted(self, message: ControlMessage) -> SignalResult:
        """Handle a row of the signal table."""
        try:
            signal = debezium_signals.of_row(message.content, str(message.lsn))
        except Unusable as error:
            self._refuse("table", error, id=str(message.lsn))
            return SignalResult()
        return self._debezium(signal, message)

    def sent(self, document: dict[str, object], message: ControlMessage) -> SignalResult:
        """Handle a logical message, if it is for this pipeline."""
        try:
            signal = signals.verified(document, self._config.slot, self._key.value, message.moment)
        except Unusable as error:
            self._refuse("command", error, id=str(message.lsn))
            return SignalResult()
        if signal is None:
            return SignalResult()
        return self._ours(signal) if isinstance(signal, Signal) else self._debezium(signal, message)

    # -- those of `pycdc snapshot` and `pycdc parked`

    def _ours(self, signal: Signal) -> SignalResult:
        log.info("a signal came", action=signal.action, id=signal.id, tables=list(signal.tables))
        self._progress.signal("command", "handled")
        if signal.action == "retry" or signal.action == "drop":
            return SignalResult(parked=ParkedRequest(signal.action, signal.parked))
        if signal.action in ("pause", "resume"):
            return self._pause(signal.action == "pause")
        if signal.action == "apply":
            return SignalResult(added=self._backlog.expect(self._look(), read_again=(RESYNC,)))
        chosen = self._choose(signal)
        if signal.action == "snapshot":
            if not chosen:
                log.warning("a signal names no captured table", id=signal.id, tables=list(signal.tables))
            return self._add(signal.id, chosen)
        return self._cancel({_name(task) for task in chosen} if signal.tables else None)

    # -- Debezium's

    def _debezium(self, signal: DebeziumSignal, message: ControlMessage) -> SignalResult:
        try:
            request = debezium_signals.requested(signal)
            log.info("a signal came", action=signal.type, id=signal.id, channel=signal.channel)
            outcome = self._handle(signal, request, message)
        except Unusable as error:
            self._refuse(signal.channel, error, id=signal.id, type=signal.type[:64])
            return SignalResult()
        self._progress.signal(signal.channel, "handled")
        return outcome

    def _refuse(self, channel: debezium_signals.Channel, error: Unusable, **words: str) -> None:
        self._progress.signal(channel, "refused")
        log.warning("cannot handle a signal", channel=channel, **words, fact=error.fact, hint=error.remedy)

    def _handle(self, signal: DebeziumSignal, request: Request, message: ControlMessage) -> SignalResult:
        for name in request.ignored:
            log.warning("a signal asks for what pycdc does not do; the tables are read all the same", without=name)
        if request.action == "snapshot":
            return self._add(signal.id, self._wanted(signal, request))
        if request.action == "cancel":
            return self._cancel(self._named_in_backlog(request.collections) if request.collections else None)
        if request.action == "log":
            log.info("a signal says", said=request.message.replace("{}", str(message.lsn)), id=signal.id)
            return SignalResult()
        return self._pause(request.action == "pause")

    def _wanted(self, signal: DebeziumSignal, request: Request) -> list[TableTask]:
        """Return the tasks that a signal asks for, each under the first filter for its table."""
        source = self._config.source.postgres
        captured = {str(ref): ref for ref in self._catalog.tables(source.tables, source.exclude_tables)}
        named = dict.fromkeys(name for names in matching(self._dsn, [*captured], request.collections) for name in names)
        if not named:
            raise Unusable("it names no captured table", "name tables of source.postgres.tables, as schema.table")
        patterns, conditions = [one for one, _ in request.filters], [condition for _, condition in request.filters]
        found = matching(self._dsn, [*named], patterns, ignoring_case=True)
        chosen: dict[tuple[str, str], TableTask] = {}
        for name in named:
            where = next((text for text, names in zip(conditions, found, strict=True) if name in names), None)
            if self._fits(captured[name], where, signal):
                for task in self._choose(Signal("snapshot", (name,), where, signal.id)):
                    # A partition that was meant by its root's name too has the root's filter.
                    chosen.setdefault(_name(task), task)
        return list(chosen.values())

    def _fits(self, ref: TableRef, where: str | None, signal: DebeziumSignal) -> bool:
        """Try a filter, as `pycdc snapshot` does before it asks."""
        try:
            if where is not None:
                check_condition(self._dsn, ref.schema, ref.name, where, self._config.signals.filter_role)
        except TableLocked:
            # It is looked at again when the table is read.
            return True
        except (ConfigError, EnvironmentNotReady) as error:
            self._refuse(signal.channel, Unusable(error.fact, error.hint), id=signal.id, table=str(ref))
            return False
        return True

    def _named_in_backlog(self, collections: Sequence[str]) -> set[tuple[str, str]]:
        """Tables that are still to be read; a partition is meant by its root's name too."""
        source = self._config.source.postgres
        captured = [str(ref) for ref in self._catalog.tables(source.tables, source.exclude_tables)]
        names = dict.fromkeys([*captured, *map(str, self._backlog)])
        named = {name for found in matching(self._dsn, [*names], collections) for name in found}
        chosen = self._choose(Signal("cancel", tuple(named))) if named else []
        return {_name(task) for task in (*chosen, *(r for r in self._backlog if str(r) in named))}

    # -- the backlog

    def _add(self, request: str, tasks: list[TableTask]) -> SignalResult:
        """Add tasks; what is delivered again, with a transaction or from a topic, is handled once."""
        if any(task.request == request for task in self._backlog):
            log.debug("a signal came again", id=request)
            return SignalResult()
        self._backlog.add(tasks)
        return SignalResult(added=tasks)

    def _pause(self, paused: bool) -> SignalResult:
        self._backlog.pause(paused)
        return SignalResult(paused=paused)

    def _cancel(self, named: set[tuple[str, str]] | None) -> SignalResult:
        """Cancel the tasks of `named` tables, or all that signals asked for."""
        return SignalResult(gone=self._backlog.cancel(r for r in self._backlog if named is None or _name(r) in named))


def _name(task: TableTask) -> tuple[str, str]:
    return task.schema, task.name
