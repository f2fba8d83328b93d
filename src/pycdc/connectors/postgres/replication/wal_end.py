"""The server's end of WAL, looked at again and again: how far behind the stream is, and whether the server answers."""

from __future__ import annotations

from pycdc.clients import postgres as client
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.snapshot.pg_snapshot import UnseenTransactions
from pycdc.observability.progress import Progress


class WalEnd:
    """A server that does not tell within `seconds` counts as away."""

    def __init__(self, catalog: Catalog, dsn: str, seconds: float, progress: Progress) -> None:
        self._catalog = catalog
        self._name = f"the source database{client.place(dsn)}"
        self._seconds = seconds
        self._progress = progress

    def look(self, unseen: UnseenTransactions) -> None:
        """And which transactions of `unseen` snapshots see by now. Raises ConnectionLost."""
        with client.within(self._seconds, self._silent):
            self._progress.lag.measured(self._catalog.wal_end())
            if unseen.delivered:
                unseen.settle(self._catalog.visibility())
        self._progress.outages.end(self._name)

    def _silent(self, seconds: float) -> None:
        hint = "check that the server of source.postgres.dsn is up and can be reached"
        self._progress.outages.begin(self._name, "no answer yet", hint, source=True, seconds=seconds)
