"""When objects are due and who has a place, by an injected clock."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from services.reconciler.manifests import ManifestReader
from services.reconciler.operator.agenda import LOOKS_AT_ONCE, Agenda, Place
from services.reconciler.operator.cluster import INSTANCES, KINDS, SYNCS
from services.reconciler.operator.standing import REQUEST, Book, Standing

READER = ManifestReader(closed=False)
LOOK = 60.0


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def __call__(self) -> float:
        return self.at


class Office:
    """An agenda with its book and clock."""

    def __init__(self, *, concurrency: int = 2) -> None:
        self.book = Book()
        self.clock = Clock()
        self.agenda = Agenda(self.book, look_seconds=LOOK, concurrency=concurrency, now=self.clock)

    def add(self, name: str, *, plural: str = SYNCS, status: dict[str, Any] | None = None, **spec: Any) -> Standing:
        """A new object, not on the agenda yet."""
        body = {
            "kind": KINDS[plural],
            "metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1", "generation": 1},
            "spec": (_instance() if plural == INSTANCES else _sync()) | spec,
        }
        standing = Standing((plural, "ns", name), body, status or {})
        standing.read(body, READER)
        self.book.put(standing)
        return standing

    def started(self) -> list[tuple[str, Place]]:
        """Who begins now."""
        return [(standing.name, place) for standing, place, _ in self.agenda.start()]


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
    office = Office(concurrency=2)
    for moment, name in ((1_003.0, "c"), (1_001.0, "a"), (1_002.0, "b"), (2_000.0, "later")):
        office.agenda.at(office.add(name, status=settled(next_in=0)), moment)
    assert office.started() == []
    assert office.agenda.next() == 1_001.0
    office.clock.at = 1_010.0
    assert office.started() == [("a", "run"), ("b", "run")]
    assert office.agenda.waiting == 1
    assert office.started() == []
    office.agenda.ended("run")
    assert office.started() == [("c", "run")]
    assert office.agenda.next() == 2_000.0


def test_what_is_over_at_once_does_not_wait_behind_runs() -> None:
    office = Office(concurrency=1)
    for name, more in (
        ("long", {}),
        ("next", {"status": settled(next_in=0)}),
        ("suspended", {"suspend": True}),
        ("new", {}),
        ("wrong", {"interval": "soon"}),
    ):
        office.agenda.soon(office.add(name, **more))
    office.agenda.soon(office.add("main", plural=INSTANCES))
    # "new" is told that it waits; "next" knows it already
    assert office.started() == [
        ("suspended", "look"),
        ("new", "look"),
        ("wrong", "look"),
        ("main", "look"),
        ("long", "run"),
    ]
    assert office.agenda.waiting == 1


def test_looks_have_a_limit_too() -> None:
    office = Office()
    for number in range(LOOKS_AT_ONCE + 3):
        office.agenda.soon(office.add(f"sync-{number}", suspend=True))
    assert len(office.started()) == LOOKS_AT_ONCE
    office.agenda.ended("look")
    assert office.started() == [(f"sync-{LOOKS_AT_ONCE}", "look")]


def test_one_that_was_removed_or_put_off_does_not_begin() -> None:
    office = Office()
    gone, off = office.add("gone"), office.add("off")
    office.agenda.soon(gone)
    office.agenda.soon(off)
    office.book.remove(gone.key)
    office.agenda.at(off, 5_000.0)
    assert office.started() == []
    assert office.agenda.next() == 5_000.0
    office.agenda.at(off, math.inf)
    assert office.agenda.next() == math.inf


def test_what_came_in_during_a_visit_makes_the_next_one_due_at_once() -> None:
    office = Office()
    sync = office.add("sync", status=settled(next_in=3_600))
    office.agenda.soon(sync)
    assert office.started() == [("sync", "run")]
    sync.visited = True
    office.agenda.settle(sync)
    assert office.clock.at + LOOK <= office.agenda.next() <= office.clock.at + 1.1 * LOOK
    office.agenda.soon(sync)
    assert office.started() == [("sync", "run")]
    office.agenda.soon(sync)  # a Secret changed while it was visited
    office.agenda.settle(sync, pause=600.0)
    assert office.agenda.next() == office.clock.at


def test_a_request_is_not_put_off_by_a_failure() -> None:
    office = Office()
    sync = office.add("sync", status=settled(next_in=3_600))
    office.agenda.settle(sync, pause=600.0)
    assert office.agenda.next() == office.clock.at + 600.0
    sync.body["metadata"]["annotations"] = {REQUEST: "now"}
    office.agenda.settle(sync, pause=600.0)
    assert office.agenda.next() == office.clock.at


@pytest.mark.parametrize(
    ("status", "spec", "visited", "least", "most"),
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
    status: Callable[[], dict[str, Any]], spec: dict[str, Any], visited: bool, least: float, most: float
) -> None:
    """A status is made when the test runs: it names a moment of the clock on the wall."""
    office = Office()
    sync = office.add("sync", status=status(), **spec)
    sync.visited = visited
    office.agenda.again(sync)
    assert least <= sync.due_at - office.clock.at <= most


def test_with_many_syncs_each_is_looked_at_less_often() -> None:
    office = Office()
    for number in range(300):
        sync = office.add(f"sync-{number}", status=settled(next_in=3_600))
    sync.visited = True
    office.agenda.again(sync)
    assert 300.0 <= sync.due_at - office.clock.at <= 330.0


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(1, 5.0), (2, 10.0), (3, 20.0), (4, 40.0), (6, 160.0), (7, 300.0), (100, 300.0), (10**6, 300.0)],
)
def test_retries_back_off_up_to_a_bound(failures: int, seconds: float) -> None:
    pauses = [Office().agenda.retry_after(failures) for _ in range(50)]
    assert all(seconds <= pause <= 1.1 * seconds for pause in pauses)
    assert len(set(pauses)) > 1  # not all at once
