"""Group commit: many deliveries share one transaction, and none is acknowledged before it is on disk.

While one transaction commits, the next batch gathers; no timer, so a lone event waits for nobody. Lanes by object id
use more than one core of the database. Traded: a delivery shares the fate of its batch, so a batch that fails on
somebody's data is halved until the bad event stands alone. That one is parked and the rest commits. Further events of
the same object get a lane of their own, where they delay nobody.

Every time is bounded: a transaction by `transaction_seconds`, whatever the server does meanwhile, and a delivery by
whoever submits it. One that is no longer waited for leaves the queue.
"""

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import asyncpg
from prometheus_client import CollectorRegistry

from nexus_auth.clerk.envelope import Event
from nexus_auth.clerk.version import WEBHOOK
from nexus_auth.failpoints import Failpoint, nowhere
from nexus_auth.store.borrowing import borrowed
from nexus_auth.store.failure import Failure, explain
from nexus_auth.tasks import Supervisor

logger = logging.getLogger(__name__)

INGEST = "select clerk_private.ingest($1::clerk_private.delivery[], $2::clerk_private.change[])"

POISON_CLASSES = frozenset({"21", "22", "23", "54", "P0", "XX"})
"""SQLSTATE classes that the same bytes will cause again: cardinality, data, integrity, limits, a trigger's error."""
RETRY_STATES = frozenset({"40001", "40P01"})
RETRIES = 5
REMEMBERED_POISONERS = 1_000
LANE_PAUSES = (0.1, 1.0)
"""Seconds before a lane that ended is begun again: its queue waits meanwhile, so they are short."""

OUTCOMES = (
    *("created", "updated", "unchanged", "stale", "deleted", "buried", "incomplete"),
    *("waiting", "kept", "parked", "held", "seen"),
)
"""First those of events that are applied, then those of events that are not."""

INTERRUPTED = Failure("other", "the event was not stored: its lane was interrupted", "it is delivered again")

Result = TypeVar("Result")

Change = tuple[str, str, str | None, int, int, int, str, str, str | None]
"""clerk_private.change: kind, id, buried_by, updated_at, observed_at, source_rank, svix_id, source, object."""


class Unavailable(Exception):
    """Not stored: no database, no room, or shutting down. The sender must deliver again; the text says why."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One verified request and what was read from it."""

    svix_id: str
    svix_timestamp: str
    """As received: with the other two headers and the body the signature can be computed again."""
    signature: str
    secret: str
    """Fingerprint of the secret that verified it."""
    event: Event
    body_hmac: bytes | None
    """HMAC-SHA256 of the signed bytes where the stored body is not these."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction did, for whoever counts."""

    rows: int
    seconds: float
    failure: Failure | None
    """Why the transaction failed; None where it did not."""


class GroupCommit:
    """Stores deliveries; `submit` returns when its transaction has committed.

    `lanes` transactions run at once, each with up to `batch_rows` deliveries or `batch_bytes`; beyond `queue_rows` or
    `queue_bytes` waiting, `submit` refuses. `failpoint` is awaited before and after each commit (tests stop there).
    """

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        *,
        lanes: int = 2,
        batch_rows: int = 500,
        batch_bytes: int = 4 * 2**20,
        queue_rows: int = 5_000,
        queue_bytes: int = 64 * 2**20,
        transaction_seconds: float = 11.0,
        observe: Callable[[Batch], None] | None = None,
        failpoint: Failpoint = nowhere,
    ) -> None:
        """Takes a pool with a connection for every lane and one more for the lane apart."""
        self._pool = pool
        self._batch_rows = batch_rows
        self._batch_bytes = batch_bytes
        self._queue_rows = queue_rows
        self._queue_bytes = queue_bytes
        self._transaction_seconds = transaction_seconds
        self._observe = observe
        self._failpoint = failpoint
        self._queues: list[deque[_Waiting]] = [deque() for _ in range(lanes + 1)]
        self._wakes = [asyncio.Event() for _ in range(lanes + 1)]
        self._poisoners: OrderedDict[str, None] = OrderedDict()
        self._bytes = 0
        self._accepted = 0
        self._closed = False
        self._settled = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Deliveries that no transaction has taken yet."""
        return sum(map(len, self._queues))

    def start(self, supervisor: Supervisor | None = None) -> None:
        """Starts the lanes in the running event loop, kept running by `supervisor` (one of its own by default)."""
        self._supervisor = supervisor or Supervisor(CollectorRegistry())
        first, longest = LANE_PAUSES
        for lane in range(len(self._queues)):
            work = partial(self._run, lane)
            self._supervisor.keep(_lane_name(lane), work, first_pause=first, longest_pause=longest)

    async def submit(self, delivery: Delivery) -> str:
        """What became of it, one of `OUTCOMES`.

        Raises `Unavailable`; what then became of it is unknown, and delivering it again is harmless. The same holds
        where the caller is cancelled, as by a deadline.
        """
        size = len(delivery.event.body)
        if self._closed:
            raise Unavailable("shutting down")
        if self.waiting >= self._queue_rows or self._bytes + size > self._queue_bytes:
            raise Unavailable("too many events are waiting for the database")
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        key = delivery.event.id or delivery.svix_id
        lane = len(self._queues) - 1 if key in self._poisoners else hash(key) % (len(self._queues) - 1)
        self._bytes += size
        self._accepted += 1
        self._queues[lane].append(_Waiting(delivery, future))
        self._wakes[lane].set()
        try:
            return await future
        finally:
            self._drop_abandoned(self._queues[lane])
            self._accepted -= 1
            if self._closed and not self._accepted:
                self._settled.set()

    async def close(self) -> None:
        """Refuses what comes from now on and returns when all that was accepted is stored or refused."""
        self._closed = True
        if self._accepted:
            await self._settled.wait()
        for lane in range(len(self._queues)):
            await self._supervisor.end(_lane_name(lane))

    async def _run(self, lane: int) -> None:
        queue, wake = self._queues[lane], self._wakes[lane]
        most = 1 if lane == len(self._queues) - 1 else self._batch_rows
        while True:
            if not queue:
                wake.clear()
                await wake.wait()
            elif batch := self._take(queue, most=most):
                await self._store_in_time(batch)

    def _take(self, queue: "deque[_Waiting]", *, most: int) -> "list[_Waiting]":
        batch: list[_Waiting] = []
        size = 0
        self._drop_abandoned(queue)
        while queue and len(batch) < most and (not batch or size < self._batch_bytes):
            waiting = queue.popleft()
            size += len(waiting.delivery.event.body)
            batch.append(waiting)
            self._bytes -= len(waiting.delivery.event.body)
            self._drop_abandoned(queue)
        return batch

    def _drop_abandoned(self, queue: "deque[_Waiting]") -> None:
        """Deliveries have one patience, so that those that nobody waits for any more stand in front."""
        while queue and queue[0].future.done():
            self._bytes -= len(queue.popleft().delivery.event.body)

    async def _store_in_time(self, batch: "list[_Waiting]") -> None:
        started = time.monotonic()
        failure: Failure | None = INTERRUPTED
        why = INTERRUPTED.sentence
        try:
            async with borrowed(self._pool, seconds=self._transaction_seconds) as connection:
                await self._store(connection, batch)
            failure = None
        except Exception as error:
            failure, why = explain(error), _reason(error)
        finally:  # also where the lane itself is ended: the waiters must hear that nothing is promised
            for waiting in batch:
                waiting.fail(Unavailable(why))
            if self._observe is not None:
                self._observe(Batch(rows=len(batch), seconds=time.monotonic() - started, failure=failure))

    async def _store(self, connection: Any, batch: "list[_Waiting]") -> None:
        await self._failpoint("ingest.gathered")
        try:
            outcomes = await _ingest(connection, [waiting.delivery for waiting in batch])
        except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, OverflowError) as error:
            if not is_poison(error):
                raise
            if len(batch) == 1:
                try:
                    await self._park(connection, batch[0], error)
                except Exception as why:  # fail only this delivery, not its batch
                    if not is_poison(why):
                        raise
                    batch[0].fail(Unavailable(_reason(why)))
                return
            middle = len(batch) // 2
            await self._store(connection, batch[:middle])
            await self._store(connection, batch[middle:])
            return
        await self._failpoint("ingest.committed")
        for waiting, outcome in zip(batch, outcomes, strict=True):
            waiting.done(outcome)

    async def _park(self, connection: Any, waiting: "_Waiting", error: Exception) -> None:
        key = waiting.delivery.event.id or waiting.delivery.svix_id
        self._poisoners[key] = None
        self._poisoners.move_to_end(key)
        if len(self._poisoners) > REMEMBERED_POISONERS:
            self._poisoners.popitem(last=False)
        logger.warning("parked an event", extra={"svix_id": waiting.delivery.svix_id, "why": describe(error)})
        (outcome,) = await _ingest(connection, [waiting.delivery], parked_because=describe(error))
        waiting.done(outcome)


class _Waiting:
    __slots__ = ("delivery", "future")

    def __init__(self, delivery: Delivery, future: "asyncio.Future[str]") -> None:
        self.delivery = delivery
        self.future = future

    def done(self, outcome: str) -> None:
        if not self.future.done():
            self.future.set_result(outcome)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


def change_of(event: Event, *, svix_id: str, source: str) -> Change | None:
    """What an event changes, for clerk_private.apply(); None where it changes nothing."""
    if event.state != "applied" or event.kind is None or event.id is None:
        return None
    buried_by = "event" if event.deleted else None
    return (
        event.kind,
        event.id,
        buried_by,
        event.updated_at,
        event.observed_at,
        WEBHOOK,
        svix_id,
        source,
        event.object_json,
    )


def describe(error: Exception) -> str:
    """An error of the database without any value out of the event: messages quote what they could not read."""
    state = getattr(error, "sqlstate", None) or "client"
    constraint = getattr(error, "constraint_name", None)
    where = getattr(error, "column_name", None) or constraint
    return f"{type(error).__name__} ({state})" + (f" at {where}" if where else "")


async def _ingest(
    connection: Any, deliveries: Sequence[Delivery], *, parked_because: str | None = None
) -> Iterable[str]:
    rows = [_row(delivery, parked_because=parked_because) for delivery in deliveries]
    changes = [
        None if parked_because else change_of(delivery.event, svix_id=delivery.svix_id, source="webhook")
        for delivery in deliveries
    ]
    outcomes: Iterable[str] = await retried(lambda: connection.fetchval(INGEST, rows, changes))
    return outcomes


async def retried(transaction: Callable[[], Awaitable[Result]]) -> Result:
    """Runs a transaction again that lost a deadlock or a serialization conflict, a few times."""
    for _ in range(RETRIES - 1):
        try:
            return await transaction()
        except asyncpg.PostgresError as error:
            if error.sqlstate not in RETRY_STATES:
                raise
    return await transaction()


def _row(delivery: Delivery, *, parked_because: str | None) -> tuple[Any, ...]:
    event = delivery.event
    return (
        delivery.svix_id,
        delivery.svix_timestamp,
        delivery.signature,
        delivery.secret,
        event.type,
        event.instance_id,
        event.observed_at,
        event.kind,
        event.id,
        event.subjects,
        "parked" if parked_because else event.state,
        parked_because or event.error,
        event.body,
        delivery.body_hmac,
    )


def is_poison(error: Exception) -> bool:
    """Whether the same bytes will fail again, whoever brings them; else it is the database's trouble."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:2] in POISON_CLASSES
    return isinstance(error, ValueError | OverflowError)  # what asyncpg could not encode


def _lane_name(lane: int) -> str:
    return f"lane {lane}"


def _reason(error: Exception) -> str:
    """What is wrong, with the SQLSTATE where there is one: it is what Svix shows of the answer."""
    sentence, state = explain(error).sentence, getattr(error, "sqlstate", None)
    return sentence if state is None or state in sentence else f"{sentence} ({state})"
