"""Who may lead, by an injected clock: taken, renewed, lost, and whatever anybody's wall clock says."""

import copy
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from nexus_auth.tasks import Supervisor
from services.reconciler.leading import LeadLost
from services.reconciler.operator.cluster import Changed, Cluster, Gone, Unreachable
from services.reconciler.operator.lease import Lease

SECONDS = 15.0
LEADS_FOR = SECONDS * 2 / 3


class Records:
    """The API server's part: one Lease under optimistic concurrency, slow or away on demand."""

    namespaces: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.record: Any = None
        self.away = False
        self.between: Any = None
        """Called between a candidate's reading and its writing."""
        self._versions = itertools.count(1)

    async def lease(self, namespace: str, name: str) -> Any:
        if self.away:
            raise Unreachable("away")
        if self.record is None:
            raise Gone(name)
        found = copy.deepcopy(self.record)
        if self.between is not None:
            self.between()
        return found

    async def create_lease(self, namespace: str, body: Any) -> Any:
        if self.record is not None:
            raise Changed(namespace)
        return self._keep(body)

    async def replace_lease(self, namespace: str, name: str, body: Any) -> Any:
        if body.metadata.resource_version != self.record.metadata.resource_version:
            raise Changed(name)
        return self._keep(body)

    async def leases(self, *, namespace: str | None, label: str) -> list[Any]:
        return []

    def touch(self) -> None:
        """Somebody writes it."""
        self.record.metadata.resource_version = str(next(self._versions))

    def _keep(self, body: Any) -> Any:
        self.record = copy.deepcopy(body)
        self.touch()
        return copy.deepcopy(self.record)


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def records() -> Records:
    """An API server without a Lease."""
    return Records()


@pytest.fixture
def clock() -> Clock:
    """The candidates' monotonic clock."""
    return Clock()


def candidate(records: Records, clock: Clock, identity: str = "me") -> Lease:
    return Lease(
        cast(Cluster, records),
        namespace="ns",
        name="lease",
        identity=identity,
        seconds=SECONDS,
        controller_class="",
        now=clock,
    )


async def test_a_lease_that_nobody_has_is_taken_and_renewed(records: Records, clock: Clock) -> None:
    lease = candidate(records, clock)
    assert not lease.leads
    assert await lease.attempt()
    taken = copy.deepcopy(records.record.spec)
    clock.at += 3.0
    assert await lease.attempt()
    assert records.record.spec.acquire_time == taken.acquire_time
    assert records.record.spec.lease_transitions == 0
    clock.at += LEADS_FOR - 0.01
    assert lease.leads


async def test_who_cannot_renew_leads_no_more_well_before_another_may(records: Records, clock: Clock) -> None:
    lease = candidate(records, clock)
    await lease.attempt()
    records.away = True
    clock.at += LEADS_FOR - 0.01
    assert await lease.attempt()
    lease.check()
    clock.at += 0.02
    assert not await lease.attempt()
    with pytest.raises(LeadLost):
        lease.check()


async def test_a_renewal_counts_from_when_it_was_asked_for(records: Records, clock: Clock) -> None:
    lease = candidate(records, clock)
    await lease.attempt()

    def slow() -> None:
        clock.at += 9.0

    records.between = slow
    assert await lease.attempt()
    clock.at += LEADS_FOR - 9.0 + 0.01
    assert not lease.leads


@pytest.mark.parametrize("skew", [timedelta(days=-3), timedelta(0), timedelta(days=3)])
async def test_another_is_waited_for_by_our_own_clock_whatever_theirs_says(
    records: Records, clock: Clock, skew: timedelta
) -> None:
    await candidate(records, clock, "other").attempt()
    records.record.spec.renew_time = datetime.now(UTC) + skew
    lease = candidate(records, clock)
    assert not await lease.attempt()
    clock.at += SECONDS - 0.01
    assert not await lease.attempt()
    clock.at += 0.02
    assert await lease.attempt()
    assert records.record.spec.holder_identity == "me"
    assert records.record.spec.lease_transitions == 1


async def test_a_holder_that_goes_on_renewing_is_waited_for_anew(records: Records, clock: Clock) -> None:
    await candidate(records, clock, "other").attempt()
    lease = candidate(records, clock)
    for _ in range(5):
        assert not await lease.attempt()
        clock.at += SECONDS - 1.0
        records.touch()
    assert not await lease.attempt()


async def test_the_duration_that_counts_is_the_holders(records: Records, clock: Clock) -> None:
    await candidate(records, clock, "other").attempt()
    records.record.spec.lease_duration_seconds = 60
    lease = candidate(records, clock)
    assert not await lease.attempt()
    clock.at += 59.0
    assert not await lease.attempt()
    clock.at += 2.0
    assert await lease.attempt()


async def test_a_lease_that_was_given_up_is_taken_at_once(records: Records, clock: Clock) -> None:
    other = candidate(records, clock, "other")
    async with other.held(Supervisor(CollectorRegistry())):
        pass
    assert records.record.spec.holder_identity == ""
    assert await candidate(records, clock).attempt()


async def test_of_two_that_write_at_once_one_leads(records: Records, clock: Clock) -> None:
    lease = candidate(records, clock)
    await lease.attempt()
    clock.at += SECONDS
    records.between = records.touch
    assert not await lease.attempt()


async def test_a_former_holder_whose_lease_was_taken_leads_no_more(records: Records, clock: Clock) -> None:
    lease = candidate(records, clock)
    await lease.attempt()
    records.record.spec.holder_identity = "other"
    records.touch()
    assert not await lease.attempt()


async def test_an_end_leaves_anothers_lease_alone(records: Records, clock: Clock) -> None:
    lease = candidate(records, clock)
    async with lease.held(Supervisor(CollectorRegistry())):
        records.record.spec.holder_identity = "other"
        records.touch()
    assert records.record.spec.holder_identity == "other"
