"""When objects are due and who has a slot, by an injected clock."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from services.reconciler.manifests import ManifestReader
from services.reconciler.operator.cache import REQUEST, Cache, TrackedObject
from services.reconciler.operator.cluster import INSTANCES, KINDS, SYNCS
from services.reconciler.operator.work_queue import CHECKS_AT_ONCE, Slot, WorkQueue

READER = ManifestReader(closed=False)
LOOK = 60.0


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def __call__(self) -> float:
        return self.at


class Queued:
    """A work queue with its cache and clock."""

    def __init__(self, *, concurrency: int = 2) -> None:
        self.cache = Cache()
        self.clock = Clock()
        self.queue = WorkQueue(self.cache, look_seconds=LOOK, concurrency=concurrency, now=self.clock)

    def add(
        self, name: str, *, plural: str = SYNCS, status: dict[str, Any] | None = None, **spec: Any
    ) -> TrackedObject:
        """A new object that is not queued yet."""
        body = {
            "kind": KINDS[plural],
            "metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1", "generation": 1},
            "spec": (_instance() if plural == INSTANCES else _sync()) | spec,
        }
        tracked = TrackedObject((plural, "ns", name), body, status or {})
        tracked.read(body, READER)
        self.cache.put(tracked)
        return tracked

    def started(self) -> list[tuple[str, Slot]]:
        """Who begins now."""
        return [(tracked.name, slot) for tracked, slot, _ in self.queue.pop_due()]


def _sync() -> dict[str, Any]:
    return {"instanceRef": {"name": "main"}, "database": {"secretRef": {"name": "database"}}}


def _instance() -> dict[str, Any]:
    return {
        "apiUrl": "https://api.clerk.com",
        "secretKeyRef": {"name": "clerk"},
        "environment": "Production",
        "stateDatabase": {"secretRef": {"name": "database"}},
    }


def settled(*, next_in: float) -> dict[str, Any]:
    """The status of a sync that is in step."""
    at = datetime.now(UTC) + timedelta(seconds=next_in)
    ready = {"type": "Ready", "status": "True", "reason": "InSync", "message": "", "observedGeneration": 1}
    return {"observedGeneration": 1, "conditions": [ready], "nextSyncTime": at.isoformat()}


def test_what_is_due_first_begins_first_and_the_rest_waits_for_a_place() -> None:
    queued = Queued(concurrency=2)
    for moment, name in ((1_003.0, "c"), (1_001.0, "a"), (1_002.0, "b"), (2_000.0, "later")):
        queued.queue.schedule(queued.add(name, status=settled(next_in=0)), moment)
    assert queued.started() == []
    assert queued.queue.next_due() == 1_001.0
    queued.clock.at = 1_010.0
    assert queued.started() == [("a", "run"), ("b", "run")]
    assert queued.queue.waiting == 1
    assert queued.started() == []
    queued.queue.release("run")
    assert queued.started() == [("c", "run")]
    assert queued.queue.next_due() == 2_000.0


def test_what_is_over_at_once_does_not_wait_behind_runs() -> None:
    queued = Queued(concurrency=1)
    for name, more in (
        ("long", {}),
        ("next", {"status": settled(next_in=0)}),
        ("suspended", {"suspend": True}),
        ("new", {}),
        ("wrong", {"interval": "soon"}),
    ):
        queued.queue.enqueue(queued.add(name, **more))
    queued.queue.enqueue(queued.add("main", plural=INSTANCES))
    # "new" is told that it waits; "next" knows it already
    assert queued.started() == [
        ("suspended", "check"),
        ("new", "check"),
        ("wrong", "check"),
        ("main", "check"),
        ("long", "run"),
    ]
    assert queued.queue.waiting == 1


def test_looks_have_a_limit_too() -> None:
    queued = Queued()
    for number in range(CHECKS_AT_ONCE + 3):
        queued.queue.enqueue(queued.add(f"sync-{number}", suspend=True))
    assert len(queued.started()) == CHECKS_AT_ONCE
    queued.queue.release("check")
    assert queued.started() == [(f"sync-{CHECKS_AT_ONCE}", "check")]


def test_one_that_was_removed_or_put_off_does_not_begin() -> None:
    queued = Queued()
    gone, off = queued.add("gone"), queued.add("off")
    queued.queue.enqueue(gone)
    queued.queue.enqueue(off)
    queued.cache.remove(gone.key)
    queued.queue.schedule(off, 5_000.0)
    assert queued.started() == []
    assert queued.queue.next_due() == 5_000.0
    queued.queue.schedule(off, math.inf)
    assert queued.queue.next_due() == math.inf


def test_what_is_enqueued_during_a_reconcile_makes_the_next_one_due_at_once() -> None:
    queued = Queued()
    sync = queued.add("sync", status=settled(next_in=3_600))
    queued.queue.enqueue(sync)
    assert queued.started() == [("sync", "run")]
    sync.reconciled = True
    queued.queue.finish(sync)
    assert queued.clock.at + LOOK <= queued.queue.next_due() <= queued.clock.at + 1.1 * LOOK
    queued.queue.enqueue(sync)
    assert queued.started() == [("sync", "run")]
    queued.queue.enqueue(sync)  # a Secret changed while it was reconciled
    queued.queue.finish(sync, pause=600.0)
    assert queued.queue.next_due() == queued.clock.at


def test_a_request_is_not_put_off_by_a_failure() -> None:
    queued = Queued()
    sync = queued.add("sync", status=settled(next_in=3_600))
    queued.queue.finish(sync, pause=600.0)
    assert queued.queue.next_due() == queued.clock.at + 600.0
    sync.body["metadata"]["annotations"] = {REQUEST: "now"}
    queued.queue.finish(sync, pause=600.0)
    assert queued.queue.next_due() == queued.clock.at


@pytest.mark.parametrize(
    ("status", "spec", "reconciled", "least", "most"),
    [
        (dict, {}, False, 0.0, 0.0),  # nobody has looked at it
        (dict, {"suspend": True}, False, 0.0, 0.0),
        (dict, {"suspend": True}, True, math.inf, math.inf),
        (partial(settled, next_in=30), {}, True, 5.0, 30.0),
        (partial(settled, next_in=-10), {}, True, 0.0, 0.0),
        (partial(settled, next_in=3_600), {}, True, LOOK, 1.1 * LOOK),
        (partial(settled, next_in=3_600), {}, False, 0.0, 1.1 * LOOK),  # after a start, spread
        (lambda: settled(next_in=3_600) | {"nextSyncTime": "whenever"}, {}, True, 0.0, 0.0),
    ],
)
def test_when_a_sync_is_due_again(
    status: Callable[[], dict[str, Any]], spec: dict[str, Any], reconciled: bool, least: float, most: float
) -> None:
    """A status is made when the test runs: it names a moment of the clock on the wall."""
    queued = Queued()
    sync = queued.add("sync", status=status(), **spec)
    sync.reconciled = reconciled
    queued.queue.schedule_next(sync)
    assert least <= sync.due_at - queued.clock.at <= most


def test_with_many_syncs_each_is_looked_at_less_often() -> None:
    queued = Queued()
    for number in range(300):
        sync = queued.add(f"sync-{number}", status=settled(next_in=3_600))
    sync.reconciled = True
    queued.queue.schedule_next(sync)
    assert 300.0 <= sync.due_at - queued.clock.at <= 330.0


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(1, 5.0), (2, 10.0), (3, 20.0), (4, 40.0), (6, 160.0), (7, 300.0), (100, 300.0), (10**6, 300.0)],
)
def test_retries_back_off_up_to_a_bound(failures: int, seconds: float) -> None:
    pauses = [Queued().queue.retry_after(failures) for _ in range(50)]
    assert all(seconds <= pause <= 1.1 * seconds for pause in pauses)
    assert len(set(pauses)) > 1  # not all at once
