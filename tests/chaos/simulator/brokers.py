"""Topics of one partition, transactions of producers, and a client that is told less than what happened.

The brokers are those before KIP-890: an epoch is raised by fencing alone, so a request to end a transaction that is
late ends whichever transaction the same producer has open by then (KAFKA-17754).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from pycdc.errors import ConnectionLost, DeliveryError
from pycdc.interfaces import Checkpoint
from pycdc.offsets.encoding import dump, load, require_forward
from tests.chaos.simulator.scheduler import Process, Scheduler

OFFSETS = "offsets"
FULL = 0.02
UNDELIVERED = 0.01
LOST = 0.02
LATE = 0.02
UNANSWERED = 0.02
BROKEN = 0.02
DELAYS = 0.1
SLOW = 0.05
ABORTS_AFTER = 60.0
"""Seconds after which brokers end a transaction by themselves (`transaction.timeout.ms`)."""


@dataclass(slots=True)
class Stored:
    """A record. `transaction` is None outside of one; `committed` is None while that is open."""

    topic: str
    value: bytes
    transaction: int | None = None
    committed: bool | None = True


@dataclass(slots=True)
class TransactionalId:
    """What the coordinator knows: `epoch` is that of the newest producer, `open` the number of its transaction."""

    epoch: int = 0
    open: int | None = None
    began: float = 0.0
    records: list[Stored] = field(default_factory=list)


class SimulatedBrokers:
    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.log: list[Stored] = []
        self.coordinator = TransactionalId()
        self.on_way: list[tuple[float, Callable[[], None]]] = []
        self._transactions = 0

    def arrive(self) -> None:
        """Take the requests that arrived by now, and end a transaction that is too old."""
        now = self._scheduler.now
        due, self.on_way = [one for one in self.on_way if one[0] <= now], [one for one in self.on_way if one[0] > now]
        for _, request in due:
            request()
        if self.coordinator.open is not None and now - self.coordinator.began > ABORTS_AFTER:
            self.coordinator.epoch += 1
            self._finish(committed=False)

    def send(self, delay: float, request: Callable[[], None]) -> None:
        self.on_way.append((self._scheduler.now + delay, request))

    def fence(self) -> int:
        """Return the epoch of the newest producer, after what an older one had open was ended."""
        self._finish(committed=False)
        self.coordinator.epoch += 1
        return self.coordinator.epoch

    def append(self, epoch: int | None, records: list[tuple[str, bytes]]) -> bool:
        """Return whether the records were taken; `epoch` None: outside of a transaction."""
        if epoch is None:
            self.log += [Stored(topic, value) for topic, value in records]
            return True
        coordinator = self.coordinator
        if epoch != coordinator.epoch:
            return False
        if coordinator.open is None:
            self._transactions += 1
            coordinator.open, coordinator.began = self._transactions, self._scheduler.now
        new = [Stored(topic, value, coordinator.open, None) for topic, value in records]
        coordinator.records += new
        self.log += new
        return True

    def end(self, epoch: int, *, committed: bool) -> bool:
        if epoch != self.coordinator.epoch:
            return False
        self._finish(committed=committed)
        return True

    def end_late(self, epoch: int, *, committed: bool) -> None:
        """End what is open, where nobody waits for the answer any more."""
        self.end(epoch, committed=committed)

    def _finish(self, *, committed: bool) -> None:
        for record in self.coordinator.records:
            record.committed = committed
        self.coordinator.open, self.coordinator.records = None, []

    def committed(self, topic: str) -> list[Stored]:
        """What a consumer of committed records has of a topic so far: nothing from the first open transaction on."""
        found = []
        for record in self.log:
            if record.topic == topic:
                if record.committed is None:
                    break
                if record.committed:
                    found.append(record)
        return found

    def settled(self, topic: str) -> bool:
        return all(record.committed is not None for record in self.log if record.topic == topic)


def _timed_out() -> KafkaException:
    return KafkaException(KafkaError(KafkaError._TIMED_OUT, retriable=True))


class SimulatedProducer:
    """See `confluent_kafka.Producer`. What is sent arrives in order, or is reported as undelivered and may arrive."""

    def __init__(self, brokers: SimulatedBrokers, scheduler: Scheduler, settings: dict[str, Any]) -> None:
        self._brokers = brokers
        self._scheduler = scheduler
        self._faults = scheduler.faults
        self._dice = scheduler.dice
        self._process: Process = scheduler.process
        self._on_delivery = settings["on_delivery"]
        self._on_error = settings["error_cb"]
        self._transactional = "transactional.id" in settings
        self._epoch: int | None = None
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._unanswered = 0
        self._answers: deque[tuple[float, int, KafkaError | None]] = deque()
        self._arrives = 0.0
        self._gap = False
        self._begun = False

    def __len__(self) -> int:
        return len(self._waiting) + self._unanswered

    # -- records

    def produce_batch(self, topic: str, records: list[dict[str, Any]]) -> int:
        self._scheduler.point(_timed_out())
        taken = len(records)
        if self._faults.chance(self._dice, FULL):
            taken = self._dice.randrange(len(records))
            for record in records[taken:]:
                record["_error"] = KafkaError(KafkaError._QUEUE_FULL)
        self._waiting += [(topic, record["value"]) for record in records[:taken]]
        return taken

    def produce(self, topic: str, value: bytes, key: bytes | None = None, **options: object) -> None:
        self._scheduler.point(_timed_out())
        self._waiting.append((topic, value))

    def poll(self, timeout: float) -> int:
        self._scheduler.point(_timed_out())
        self._send()
        if timeout:
            self._scheduler.sleep(self._dice.uniform(0, timeout))
        return self._serve()

    def flush(self, timeout: float) -> int:
        self._scheduler.point(_timed_out())
        deadline = self._scheduler.now + timeout
        while len(self):
            self._send()
            self._serve()
            left = deadline - self._scheduler.now
            if left <= 0 or not len(self):
                break
            self._scheduler.sleep(min(left, max(0.001, self._answers[0][0] - self._scheduler.now)))
        return len(self)

    def purge(self) -> None:
        if not self._process.dead:
            self._unanswered = 0
            self._answers.clear()
            self._waiting.clear()

    def close(self) -> None:
        """Do nothing: what was sent is on its way."""

    def _send(self) -> None:
        if not self._waiting:
            return
        count = self._dice.randint(1, len(self._waiting))
        records = [self._waiting.popleft() for _ in range(count)]
        epoch, error = self._epoch if self._transactional else None, None
        now = self._scheduler.now
        self._arrives = max(self._arrives, now) + self._delay()
        if self._gap or self._faults.chance(self._dice, UNDELIVERED):
            error = KafkaError(KafkaError._MSG_TIMED_OUT)
            # The producer is idempotent: brokers take nothing behind a request that never came.
            self._gap = self._gap or self._dice.random() < 0.5
        if not self._gap:
            self._brokers.send(self._arrives - now, lambda: self._taken(epoch, records))
        self._unanswered += count
        self._answers.append((self._arrives, count, error))

    def _taken(self, epoch: int | None, records: list[tuple[str, bytes]]) -> None:
        if not self._brokers.append(epoch, records):
            self._epoch = -1

    def _serve(self) -> int:
        served = 0
        self._brokers.arrive()
        while self._answers and self._answers[0][0] <= self._scheduler.now:
            _, count, error = self._answers.popleft()
            self._unanswered -= count
            served += count
            if self._epoch == -1:
                error = KafkaError(KafkaError._FENCED)
            for _ in range(count):
                self._on_delivery(error, Reported())
        return served

    def _delay(self) -> float:
        return self._dice.uniform(0, 5.0 if self._faults.chance(self._dice, SLOW) else 0.01)

    # -- transactions

    def init_transactions(self, timeout: float) -> None:
        self._scheduler.point(_timed_out())
        self._brokers.arrive()
        if self._faults.chance(self._dice, DELAYS):
            self._scheduler.sleep(timeout)
            raise _timed_out()
        self._scheduler.sleep(self._delay())
        self._epoch = self._brokers.fence()

    def begin_transaction(self) -> None:
        self._scheduler.point(_timed_out())
        if self._epoch in (None, -1):
            raise KafkaException(KafkaError(KafkaError._FENCED, fatal=True))
        self._begun = True

    def commit_transaction(self, timeout: float) -> None:
        self._scheduler.point(_timed_out())
        assert self._begun
        if self.flush(timeout):
            raise _timed_out()
        self._end(timeout, committed=True)

    def abort_transaction(self, timeout: float) -> None:
        if self._process.dead:
            return
        self._scheduler.point(_timed_out())
        self._end(timeout, committed=False)

    def _end(self, timeout: float, *, committed: bool) -> None:
        """End the transaction: the request or its answer may be lost, or arrive when nobody waits for it any more."""
        epoch = self._epoch
        assert epoch is not None
        faults, dice, brokers = self._faults, self._dice, self._brokers
        if faults.chance(dice, LOST):
            self._scheduler.sleep(timeout)
            raise _timed_out()
        if faults.chance(dice, LATE):
            brokers.send(timeout + dice.uniform(0, 30), lambda: brokers.end_late(epoch, committed=committed))
            self._scheduler.sleep(timeout)
            raise _timed_out()
        self._scheduler.sleep(self._delay())
        brokers.arrive()
        if not brokers.end(epoch, committed=committed):
            raise KafkaException(KafkaError(KafkaError._FENCED, fatal=True))
        # Here a process may die, or be frozen, without knowing that it committed.
        self._scheduler.point(_timed_out())
        if faults.chance(dice, UNANSWERED):
            self._scheduler.sleep(timeout)
            raise _timed_out()
        if faults.chance(dice, BROKEN):
            self._on_error(KafkaError(KafkaError._TRANSPORT))
        self._begun = False


class Reported:
    """A delivery report's message."""

    def topic(self) -> str:
        return "a"

    def key(self) -> None:
        return None

    def value(self) -> None:
        return None


class SimulatedTopics:
    """See `TopicAdmin`: all topics are there."""

    def ensure(self, topic: str) -> None:
        """Do nothing."""

    def setting(self, topic: str, name: str) -> None:
        return None

    def missing(self, topics: object, seconds: float) -> list[str]:
        return []

    def close(self) -> None:
        """Do nothing."""


class SimulatedPositions:
    """A topic of positions, for both kinds of delivery: see `KafkaOffsetStore`."""

    def __init__(self, brokers: SimulatedBrokers, scheduler: Scheduler) -> None:
        self._brokers = brokers
        self._scheduler = scheduler
        self._newest: Checkpoint | None = None

    def load(self, *, settled: bool = False) -> Checkpoint | None:
        self._scheduler.point(ConnectionLost("the brokers do not answer"))
        deadline = self._scheduler.now + 30
        self._brokers.arrive()
        while settled and not self._brokers.settled(OFFSETS):
            if self._scheduler.now > deadline:
                raise ConnectionLost("a transaction of another pipeline stays open")
            self._scheduler.sleep(0.05)
            self._brokers.arrive()
        self._newest = newest(self._brokers)
        return self._newest

    def prepare(self) -> None:
        """Do nothing: the topic is there."""

    def record(self, checkpoint: Checkpoint) -> tuple[str, dict[str, Any]]:
        require_forward(self._newest, checkpoint, "the simulated topic")
        self._newest = checkpoint
        return OFFSETS, {"key": b"simulated", "value": dump(checkpoint), "partition": 0}

    def store(self, checkpoint: Checkpoint) -> None:
        self._scheduler.point(DeliveryError("the brokers do not answer"))
        require_forward(self._newest, checkpoint, "the simulated topic")
        faults, dice = self._scheduler.faults, self._scheduler.dice
        if faults.chance(dice, LOST):
            raise DeliveryError("the position could not be stored")
        self._brokers.append(None, [(OFFSETS, dump(checkpoint))])
        self._scheduler.point(DeliveryError("the brokers do not answer"))
        if faults.chance(dice, UNANSWERED):
            raise DeliveryError("no broker confirmed the position")
        self._newest = checkpoint

    def clear(self) -> None:
        raise AssertionError("nobody starts over")

    def close(self) -> None:
        """Do nothing."""


def newest(brokers: SimulatedBrokers) -> Checkpoint | None:
    found = brokers.committed(OFFSETS)
    return load(found[-1].value) if found else None
