"""Is the pipeline alive? Decided from the stream itself, not from the process being there.

Rules:

- stopped: never healthy.
- standby: healthy; the instance that reads the slot is judged by itself.
- starting: healthy until it has waited for something (a lock, open transactions, a server that does not answer) for
  as long as the limit. All that it waits for has a time limit of its own that ends in an error.
- streaming: the server was heard within the limit (it sends keepalives when nothing happens), and the sink took a
  batch, or was not needed, within the limit. What is known not to answer (`outages`) is named.
- snapshot, stopping, retrying: the sink rule alone; a server that is silent then is busy, or known to be away.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pycdc.observability.progress import Progress


@dataclass(frozen=True, slots=True)
class Health:
    """The answer of ``/health``. `reasons` are empty where all is well.

    What no restart would mend: `halted`, topics that wait for a table, and `refused`, tables whose rows are parked
    because the registry refuses their schema.
    """

    state: str
    reasons: tuple[str, ...] = ()
    halted: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        return not self.reasons

    def as_json(self) -> dict[str, Any]:
        document = {"healthy": self.healthy, "state": self.state, "reasons": list(self.reasons)}
        amiss = {"halted": dict(self.halted), "refused_schemas": dict(self.refused)}
        return document | {name: what for name, what in amiss.items() if what}


def judge(progress: Progress, unhealthy_after: float, now: float | None = None) -> Health:
    """Return the pipeline's health. `unhealthy_after` is in seconds, `now` on the monotonic clock."""
    now = time.monotonic() if now is None else now
    state = progress.state
    return Health(
        state, tuple(_reasons(progress, state, unhealthy_after, now)), progress.halted.copy(), progress.refused.copy()
    )


def _reasons(progress: Progress, state: str, limit: float, now: float) -> list[str]:
    if state == "stopped":
        return ["the pipeline has stopped" + (f": {progress.last_error}" if progress.last_error else "")]
    if state == "standby":
        return []
    if state == "starting":
        return _starting(progress, limit, now)
    out = []
    silent = now - progress.last_message
    in_sink = progress.in_sink_since
    lasting = progress.outages.lasting
    because = f": {lasting[0]}" if lasting else ""
    # While the sink is at work, or a registry does not answer, nobody listens to the server.
    listens = (in_sink is None or now - in_sink <= limit) and all(outage.source for outage in lasting)
    if state == "streaming" and listens and progress.last_message and silent > limit:
        out.append(f"no message from the server for {silent:.0f} s{because}")
    stuck = now - progress.last_delivery
    # A source that is silent leaves the sink nothing to do.
    if stuck > limit and not out:
        out.append(_stuck(progress, state, stuck) + because)
    return out


def _starting(progress: Progress, limit: float, now: float) -> list[str]:
    waits = [(progress.waits_for, progress.waits_since)] if progress.waits_for else []
    waits += [(str(outage), outage.since) for outage in progress.outages.lasting]
    return [f"has waited {now - since:.0f} s for {what}" for what, since in waits if now - since > limit]


def _stuck(progress: Progress, state: str, seconds: float) -> str:
    if state == "retrying":
        return f"no progress for {seconds:.0f} s, trying again: {progress.last_error}"
    slow = f": {progress.sink_server} may be slow" if progress.sink_server and not progress.outages.lasting else ""
    return f"the sink has made no progress for {seconds:.0f} s{slow}"
