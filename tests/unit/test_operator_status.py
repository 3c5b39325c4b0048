"""A ClerkSync's status after each kind of reconcile: every trouble with its conditions, and that it goes with its
cause."""

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from nexus_auth.clerk.api import ClerkLimited, ClerkRefused, ClerkUnavailable, ClerkUnreachable
from nexus_auth.clerk.api_hosts import ApiHostRefused
from nexus_auth.reconcile.engine import InternalError, Result, SweepResult
from nexus_auth.store.instance import WrongInstance
from nexus_auth.store.pool import UnsafeDatabase
from nexus_auth.store.runs import WaitingRun
from nexus_auth.store.schema import SchemaOutdated
from services.reconciler.leading import About, Drift, Facts, Trouble, trouble_of
from services.reconciler.manifests import ManifestReader, SyncManifest
from services.reconciler.operator import instance_status, status
from services.reconciler.operator.conditions import find
from services.reconciler.operator.metrics import OperatorMetrics
from services.reconciler.operator.status import FinishedSweep, Outcome

T0 = datetime(2026, 11, 25, 12, tzinfo=UTC)
LATER = T0 + timedelta(minutes=5)
KINDS = ("user", "organization", "organization_membership")
FACTS = Facts(live=dict.fromkeys(KINDS, 5), drift_total=0, drift=(), waiting=(), schema_version="20261125000008")


def sync(**spec: Any) -> SyncManifest:
    document = {
        "apiVersion": "nexus-auth.dev/v1alpha1",
        "kind": "ClerkSync",
        "metadata": {"name": "main"},
        "spec": {"instanceRef": {"name": "main"}, "database": {"secretRef": {"name": "database"}}} | spec,
    }
    manifest = ManifestReader(closed=True).read(document)
    assert isinstance(manifest, SyncManifest)
    return manifest


def run(number: int = 1, *, kind: str = "user", mode: Any = "full", **of: Any) -> Result:
    """The run of one kind; the runs of sweep n are 10 n and those that follow."""
    return replace(Result(number, 1, kind, mode, "completed", None, requests=1), **of)


def ran(number: int = 1, *, mode: Any = "full", **of: Any) -> FinishedSweep:
    """A sweep of all kinds, of which the users' run ended as `of` says."""
    runs = [run(10 * number + n, kind=kind, mode=mode, sweep_id=number) for n, kind in enumerate(KINDS)]
    return FinishedSweep(SweepResult(number, mode, (replace(runs[0], **of), *runs[1:])), "first sweep", T0, T0)


def good(number: int = 1, **of: Any) -> Outcome:
    return replace(Outcome(sweeps=(ran(number),), facts=FACTS, database_reached=True, wait=600.0), **of)


def after(known: dict[str, Any], outcome: Outcome, *, generation: int = 1, now: datetime = T0) -> dict[str, Any]:
    before = copy.deepcopy(known)
    fresh = status.after(known, outcome, sync=sync(), generation=generation, now=now)
    assert known == before  # a pure function
    return fresh


def said(of: dict[str, Any], type_: str = "Ready") -> tuple[str, str] | None:
    found = find(of["conditions"], type_)
    return (found["status"], found["reason"]) if found is not None else None


@pytest.mark.parametrize(
    ("error", "reason", "about", "sentence"),
    [
        (ClerkLimited("u answered 429", retry_after=3.0), "UpstreamRateLimited", "connection", "waits for it"),
        (ClerkUnavailable("u answered 503"), "UpstreamUnavailable", "connection", "u answered 503"),
        (ClerkUnreachable("no answer"), "UpstreamUnavailable", "connection", "cannot be reached"),
        (ApiHostRefused("not that host"), "ApiHostRefused", "connection", "not that host"),
        (ClerkRefused("u answered 401; bad", status=401), "UpstreamUnauthorized", "connection", "valid API key"),
        (ClerkRefused("u answered 404", status=404), "UpstreamUnavailable", "connection", "is apiUrl right?"),
        (WrongInstance("it is ins_b's"), "WrongInstance", "connection", "it is ins_b's"),
        (UnsafeDatabase("a superuser"), "DatabaseRefused", "database", "a superuser"),
        (SchemaOutdated("run the migrations"), "SchemaOutdated", "database", "run the migrations"),
        (asyncpg.InvalidPasswordError("no"), "DatabaseRefused", "database", "check user and password"),
        (asyncpg.InsufficientPrivilegeError("no"), "DatabaseRefused", "database", "member of the reconciler's group"),
        (asyncpg.UndefinedTableError("none"), "SchemaOutdated", "database", "nexus-auth migrate"),
        (asyncpg.TooManyConnectionsError("full"), "DatabaseUnavailable", "database", "cannot be reached"),
        (asyncpg.InterfaceError("closed"), "DatabaseUnavailable", "database", "cannot be reached"),
        (ConnectionRefusedError("refused"), "DatabaseUnavailable", "database", "cannot be reached"),
        (TimeoutError(), "DatabaseUnavailable", "database", "cannot be reached"),
    ],
)
def test_what_an_error_means(error: Exception, reason: str, about: str, sentence: str) -> None:
    trouble = trouble_of(error)
    assert isinstance(trouble, Trouble)
    assert (trouble.reason, trouble.about) == (reason, about)
    assert sentence in str(trouble)


def test_every_way_in_which_a_connection_fails_reads_the_same_in_a_status() -> None:
    """Else whoever may write a Secret and a ClerkSync could scan ports with the operator."""
    errors = [
        ConnectionRefusedError(111, "Connect call failed ('10.0.0.7', 22)"),
        TimeoutError(),
        OSError(113, "No route to host"),
        asyncpg.InterfaceError("unexpected SSL reply b'S'"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.InvalidCatalogNameError('database "x" does not exist'),
        asyncpg.TooManyConnectionsError("full"),
        asyncpg.CannotConnectNowError("starting up"),
    ]
    troubles = [trouble_of(error) for error in errors]
    assert len({(str(trouble), trouble.reason) for trouble in troubles if isinstance(trouble, Trouble)}) == 1
    for error, trouble in zip(errors, troubles, strict=True):
        assert isinstance(trouble, Trouble)
        assert str(error) in trouble.detail


def test_what_a_server_says_to_a_login_is_for_the_log() -> None:
    said = 'no pg_hba.conf entry for host "10.0.0.9", user "x", database "y", no encryption'
    trouble = trouble_of(asyncpg.InvalidAuthorizationSpecificationError(said))
    assert isinstance(trouble, Trouble)
    assert "10.0.0.9" not in str(trouble)
    assert trouble.detail == said


def test_of_an_unexpected_error_a_status_tells_the_type_alone() -> None:
    trouble = trouble_of(KeyError("sk_live_secret"))
    assert (trouble.reason, trouble.about) == ("InternalError", "run")
    assert "KeyError" in str(trouble)
    assert "sk_live_secret" not in str(trouble)


TROUBLES: list[tuple[str, About, bool]] = [
    ("InvalidSpec", "spec", True),
    ("Conflict", "spec", True),
    ("WrongInstance", "connection", True),
    ("UpstreamUnauthorized", "connection", True),
    ("UpstreamRateLimited", "connection", False),
    ("UpstreamUnavailable", "connection", False),
    ("SecretMissing", "connection", False),
    ("SecretMissing", "database", False),
    ("InstanceNotFound", "connection", False),
    ("InstanceNotReady", "connection", False),
    ("StateDatabaseMismatch", "database", True),
    ("DatabaseRefused", "database", True),
    ("DatabaseUnavailable", "database", False),
    ("SchemaOutdated", "database", False),
    ("IncompleteWalk", "run", False),
]


@pytest.mark.parametrize(("reason", "about", "stalls"), TROUBLES)
@pytest.mark.parametrize("fresh", [True, False])
def test_a_trouble_and_its_end(reason: str, about: About, stalls: bool, fresh: bool) -> None:
    known = {} if fresh else after({}, good())
    trouble = Trouble(reason, f"{reason}: do this", about=about)
    bad = after(known, Outcome(trouble=trouble, database_reached=about == "connection"), generation=2, now=LATER)
    assert said(bad) == ("False", reason)
    assert find(bad["conditions"], "Ready") == {
        "type": "Ready",
        "status": "False",
        "observedGeneration": 2,
        "reason": reason,
        "message": f"{reason}: do this",
        "lastTransitionTime": "2026-11-25T12:05:00Z",
    }
    assert said(bad, "Stalled") == (("True", reason) if stalls else None)
    untouched = ("Unknown", "Pending") if fresh else ("True", "Connected")
    wrong = ("False", reason)
    assert said(bad, "ConnectionReady") == (wrong if about == "connection" else untouched)
    reached = ("True", "Connected") if about == "connection" else untouched
    assert said(bad, "DatabaseReady") == (wrong if about == "database" else reached)
    assert bad["consecutiveFailures"] == 1
    assert bad["observedGeneration"] == 2
    worse = after(bad, Outcome(trouble=trouble), generation=2, now=LATER + timedelta(hours=1))
    assert worse["consecutiveFailures"] == 2
    assert find(worse["conditions"], "Ready") == find(bad["conditions"], "Ready")  # its moment stays
    cleared = after(worse, good(9), generation=2, now=LATER)
    assert said(cleared) == ("True", "InSync")
    assert said(cleared, "ConnectionReady") == said(cleared, "DatabaseReady") == ("True", "Connected")
    assert said(cleared, "Stalled") is None
    assert cleared["consecutiveFailures"] == 0


def test_the_first_words_about_a_sync() -> None:
    first = status.initial({}, generation=1, suspended=False, now=T0)
    assert {c["type"]: (c["status"], c["reason"]) for c in first["conditions"]} == {
        "Ready": ("Unknown", "Pending"),
        "ConnectionReady": ("Unknown", "Pending"),
        "DatabaseReady": ("Unknown", "Pending"),
        "DriftDetected": ("Unknown", "Pending"),
        "Suspended": ("False", "Active"),
    }
    assert said(status.initial({}, generation=1, suspended=True, now=T0)) == ("Unknown", "Suspended")
    assert status.initial(first, generation=1, suspended=False, now=LATER) == first


def test_a_run_that_somebody_waits_for_is_told_while_it_lasts() -> None:
    going = status.reconciling(after({}, good()), reason="first sweep", generation=1, now=T0)
    assert said(going, "Reconciling") == ("True", "FirstSweep")
    assert said(after(going, good()), "Reconciling") is None


def test_suspended_and_back() -> None:
    known = after({}, good())
    rests = status.initial(known, generation=2, suspended=True, now=LATER)
    assert said(rests, "Suspended") == ("True", "Suspended")
    assert said(rests) == ("True", "InSync")
    assert "nextSyncTime" not in rests
    assert said(status.initial(rests, generation=3, suspended=False, now=LATER), "Suspended") == ("False", "Active")


def test_drift_that_stays_is_ready_and_says_so() -> None:
    items = tuple(Drift("user", f"user_{n}", "edited", "by hand" if n else None) for n in range(4))
    drifted = after({}, good(facts=replace(FACTS, drift_total=4, drift=items)))
    assert said(drifted) == ("True", "SyncedWithDrift")
    assert said(drifted, "DriftDetected") == ("True", "SyncedWithDrift")
    message = find(drifted["conditions"], "DriftDetected")
    assert message is not None
    assert "4 objects differ: users user_0 (edited)" in message["message"]
    assert "and 1 more" in message["message"]
    assert drifted["drift"]["items"][1] == {
        "resource": "users",
        "id": "user_1",
        "problem": "edited",
        "cause": "by hand",
    }
    later = after(drifted, good(2, facts=replace(FACTS, drift_total=1, drift=items[:1])), now=LATER)
    assert later["drift"]["since"] == "2026-11-25T12:00:00Z"
    gone = after(later, good(3))
    assert said(gone, "DriftDetected") == ("False", "InSync")
    assert gone["drift"] == {"total": 0}


def test_deletions_that_wait_and_their_approval() -> None:
    parked = ran(7, state="parked", message="12 deletions, the guard allows 10", waits_for=70)
    facts = replace(FACTS, waiting=(WaitingRun(70, "user", "12 deletions wait", approved=False),))
    waits = after({}, Outcome(sweeps=(parked,), facts=facts, database_reached=True))
    assert said(waits) == ("False", "DeletionGuardTripped")
    assert said(waits, "Stalled") == ("True", "DeletionGuardTripped")
    assert waits["parkedRun"] == 70
    assert waits["parkedRuns"] == [{"id": 70, "resource": "users", "approved": False}]
    message = find(waits["conditions"], "Ready")
    assert message is not None
    assert "kubectl nexus approve 70" in message["message"]
    done = after(waits, good(8, approval="70"))
    assert (done["lastHandledApproval"], "parkedRun" in done, said(done, "Stalled")) == ("70", False, None)
    assert "parkedRuns" not in done


def test_a_run_that_waits_keeps_waiting_while_incremental_sweeps_complete() -> None:
    """The metric `parked` shows the status: 1 while something waits."""
    facts = replace(FACTS, waiting=(WaitingRun(70, "user", "12 deletions wait", approved=False),))
    waits = after({}, Outcome(sweeps=(ran(7, state="parked", waits_for=70),), facts=facts, database_reached=True))
    later = after(waits, good(8, sweeps=(ran(8, mode="incremental"),), facts=facts))
    assert later["parkedRun"] == 70
    assert said(later) == ("False", "DeletionGuardTripped")
    registry = CollectorRegistry()
    OperatorMetrics(registry).sync(("ns", "main"), later, last_success=None)
    assert registry.get_sample_value("nexus_auth_sync_parked", {"namespace": "ns", "name": "main"}) == 1.0


def test_runs_of_two_resources_wait_for_an_approval_each() -> None:
    waiting = (
        WaitingRun(70, "user", "12 users", approved=True),
        WaitingRun(72, KINDS[2], "99 of them", approved=False),
    )
    known = after({}, good(7, facts=replace(FACTS, waiting=waiting)))
    assert known["parkedRun"] == 72
    assert [of["id"] for of in known["parkedRuns"]] == [70, 72]
    message = find(known["conditions"], "Ready")
    assert message is not None
    assert "users: 12 users (approved; the next run deletes them)" in message["message"]
    assert "memberships: 99 of them (here: kubectl nexus approve 72" in message["message"]


def test_a_sweep_that_failed_is_not_cleared_by_an_incremental_one_nor_by_another_resources() -> None:
    broken = Outcome(sweeps=(ran(1, state="failed", message="users: a page repeats"),), facts=FACTS)
    known = after(after({}, replace(broken, database_reached=True)), good(2, sweeps=(ran(2, mode="incremental"),)))
    assert said(known) == ("False", "IncompleteWalk")
    others = SweepResult(3, "full", (run(31, kind=KINDS[2], sweep_id=3),))
    known = after(known, good(3, sweeps=(FinishedSweep(others, "fullSweepInterval", T0, T0),)))
    assert said(known) == ("False", "IncompleteWalk")
    assert said(after(known, good(4))) == ("True", "InSync")


def test_an_unexpected_error_of_one_resource_stays_the_reason_until_that_resource_is_swept() -> None:
    failed = ran(1, state="failed", error=InternalError(KeyError("x")), message="an unexpected KeyError")
    known = after({}, Outcome(sweeps=(failed,), trouble=failed.trouble, facts=None, database_reached=True))
    assert said(known) == ("False", "InternalError")
    known = after(known, good(2, sweeps=(ran(2, mode="incremental"),)))
    assert said(known) == ("False", "InternalError")
    assert known["history"][1]["runs"][0] == {
        "id": 10,
        "resource": "users",
        "state": "failed",
        "failure": "InternalError",
    }
    assert said(after(known, good(3))) == ("True", "InSync")


@pytest.mark.parametrize(
    ("of", "reason"),
    [
        ({"state": "failed", "error": ClerkUnavailable("away")}, "UpstreamUnavailable"),
        ({"state": "parked", "waits_for": 10}, "DeletionGuardTripped"),
        ({"state": "failed", "message": "a page repeats"}, "IncompleteWalk"),
        ({"state": "failed", "error": InternalError(KeyError("x"))}, "InternalError"),
    ],
)
def test_why_a_run_was_not_completed(of: dict[str, Any], reason: str) -> None:
    trouble = ran(1, **of).trouble
    assert trouble is not None
    assert trouble.reason == reason
    assert ran(1).trouble is None


def test_history_has_five_sweeps_each_once_with_their_runs() -> None:
    known: dict[str, Any] = {}
    for number in (1, 2, 3, 4, 5, 6, 6):
        known = after(known, good(number))
    assert [of["id"] for of in known["history"]] == [6, 5, 4, 3, 2]
    assert known["lastSync"] == known["history"][0]
    assert [of["resource"] for of in known["lastSync"]["runs"]] == ["users", "organizations", "memberships"]


def test_moments_that_hardly_differ_write_nothing() -> None:
    known = after({}, good())
    assert known["nextSyncTime"] == "2026-11-25T12:10:00Z"
    look = Outcome(facts=FACTS, database_reached=True, wait=600.0)
    assert after(known, look, now=T0 + timedelta(seconds=4)) == known
    assert after(known, look, now=T0 + timedelta(seconds=6))["nextSyncTime"] == "2026-11-25T12:10:06Z"
    assert status.retrying(known, at=T0 + timedelta(hours=1))["nextSyncTime"] == "2026-11-25T13:00:00Z"


@pytest.mark.parametrize(
    ("reason", "about", "connection", "database", "stalls"),
    [
        ("SecretMissing", "connection", "False", "Unknown", False),
        ("UpstreamUnauthorized", "connection", "False", "True", True),
        ("WrongInstance", "connection", "False", "True", True),
        ("DatabaseUnavailable", "database", "Unknown", "False", False),
        ("StateDatabaseMismatch", "database", "Unknown", "False", True),
        ("InvalidSpec", "spec", "Unknown", "Unknown", True),
    ],
)
def test_an_instances_trouble_and_its_end(
    reason: str, about: About, connection: str, database: str, stalls: bool
) -> None:
    def instance_after(known: dict[str, Any], trouble: Trouble | None) -> dict[str, Any]:
        return instance_status.after(
            known, of=None, instance_id="ins_a", trouble=trouble, syncs=2, generation=1, now=T0
        )

    bad = instance_after({}, Trouble(reason, "do this", about=about))
    states = {c["type"]: c["status"] for c in bad["conditions"]}
    assert states == {"Ready": "False", "ConnectionReady": connection, "DatabaseReady": database} | (
        {"Stalled": "True"} if stalls else {}
    )
    assert said(bad) == ("False", reason)
    cleared = instance_after(bad, None)
    assert {c["type"]: c["status"] for c in cleared["conditions"]} == {
        "Ready": "True",
        "ConnectionReady": "True",
        "DatabaseReady": "True",
    }
    assert (cleared["instanceId"], cleared["syncs"]) == ("ins_a", 2)


def test_a_deletion_by_a_second_read_counts_for_the_sweep_that_queued_it() -> None:
    known = after({}, good(1, sweeps=(ran(1, counts={"gone": 2, "awaiting": 2}),)))
    assert known["resources"][0]["tombstoned"] == 0
    known = after(known, good(2, sweeps=(ran(2, mode="incremental", counts={"tombstoned": 2}),)))
    assert known["resources"][0]["tombstoned"] == 2
    assert after(known, good(3))["resources"][0]["tombstoned"] == 0
