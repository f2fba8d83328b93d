"""What state a saga is in, by the types of the events that came of it.

The state is a function of the set of types, so it doesn't matter in which order events of several topics come, nor how
often one comes.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Final

from pycdc.config.sagas import SagaConfig


class SagaState(StrEnum):
    """Where a saga is.

    running      neither its success nor a failure came
    succeeded    its success came
    compensating a failure or a compensation came, and a step is not undone yet
    compensated  the same, and all steps that came are undone, as far as they can be
    inconsistent its success came, and a failure or a compensation too: somebody has to look
    """

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    INCONSISTENT = "inconsistent"


ENDED: Final = (SagaState.SUCCEEDED, SagaState.COMPENSATED)
OPEN: Final = (SagaState.RUNNING, SagaState.COMPENSATING)


def state_of(saga: SagaConfig, seen: Collection[str]) -> SagaState:
    """Return the state after events of the types `seen`."""
    failed = any(one in seen for one in (*saga.failure, *saga.compensations.values()))
    if saga.success in seen:
        return SagaState.INCONSISTENT if failed else SagaState.SUCCEEDED
    if not failed:
        return SagaState.RUNNING
    undone = all(by in seen for step, by in saga.compensations.items() if step in seen)
    return SagaState.COMPENSATED if undone else SagaState.COMPENSATING
