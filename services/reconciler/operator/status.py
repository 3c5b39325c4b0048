"""The status of a ClerkSync after a reconcile: a pure function of the former status and of what happened.

Besides the database, the status is all that outlives an operator: history, counters and what was handled are read
from it at the start. What a full sweep of a resource found wrong stays until another full sweep of that resource
clears it: an incremental run cannot see it.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from nexus_auth.reconcile.engine import Result, SweepResult
from services.reconciler.leading import Facts, Trouble, result_trouble
from services.reconciler.manifests import KINDS, SyncManifest
from services.reconciler.operator.conditions import drop, find, moment, put

Status = dict[str, Any]

HISTORY = 5
"""Sweeps."""
LONGEST_MESSAGE = 300
RESOURCES = {kind: name for name, kind in KINDS.items()}

STALLED = frozenset(
    {
        *("InvalidSpec", "Conflict", "DeletionGuardTripped", "WrongInstance", "StateDatabaseMismatch"),
        *("UpstreamUnauthorized", "DatabaseRefused", "ApiHostRefused"),
    }
)
"""Reasons that wait for a person: they do not clear by themselves, nor by an object that may still be created."""

REASONS = {
    "interval": "Interval",
    "fullSweepInterval": "FullSweepInterval",
    "deepSweepInterval": "DeepSweepInterval",
    "first sweep": "FirstSweep",
    "events may have been missed": "EventsMissed",
    "a verification is due": "VerificationDue",
    "deletions are held": "DeletionsHeld",
    "counts differ": "CountsDiffer",
    "counts differed": "CountsInDoubt",
    "an approval": "Approved",
    "resumed": "Resumed",
}
"""The schedule's reasons as a status writes them; the others are written so already."""


@dataclass(frozen=True, slots=True)
class FinishedSweep:
    """A sweep that ended: for each of its resources a run."""

    result: SweepResult
    reason: str
    """What began it."""
    started: datetime
    ended: datetime

    @property
    def trouble(self) -> Trouble | None:
        """Why it was not completed: an error before deletions that wait."""
        found = [trouble for run in self.result.runs if (trouble := result_trouble(run)) is not None]
        return next((trouble for trouble in found if trouble.reason != "DeletionGuardTripped"), next(iter(found), None))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reconcile of a sync brought."""

    sweeps: tuple[FinishedSweep, ...] = ()
    trouble: Trouble | None = None
    """What prevented its sweeps, or ended the last one."""
    facts: Facts | None = None
    database_reached: bool = False
    wait: float | None = None
    """Seconds until the next sweep is due by the intervals."""
    request: str | None = None
    """The sync request that it handled."""
    approval: str | None = None
    """The approval that it handled."""


def initial(status: Status, *, generation: int, suspended: bool, now: datetime) -> Status:
    """The first reconcile: conditions are there, also for those who wait for them."""
    fresh = _copy(status)
    conditions = fresh["conditions"]
    reason, text = ("Suspended", "spec.suspend is set") if suspended else ("Pending", "no run has ended yet")
    for type_ in ("Ready", "ConnectionReady", "DatabaseReady", "DriftDetected"):
        if find(conditions, type_) is None:
            put(conditions, type_, "Unknown", reason=reason, message=text, generation=generation, now=now)
    _suspension(conditions, suspended=suspended, generation=generation, now=now)
    if suspended:
        fresh.pop("nextSyncTime", None)
    fresh["observedGeneration"] = generation
    return fresh


def reconciling(status: Status, *, reason: str, generation: int, now: datetime) -> Status:
    """A run is in progress that somebody waits for."""
    fresh = _copy(status)
    said = REASONS.get(reason, reason)
    put(
        fresh["conditions"],
        "Reconciling",
        "True",
        reason=said,
        message="a run is in progress",
        generation=generation,
        now=now,
    )
    return fresh


def after(status: Status, outcome: Outcome, *, sync: SyncManifest | None, generation: int, now: datetime) -> Status:
    """The status after a reconcile."""
    fresh = initial(status, generation=generation, suspended=sync is not None and sync.suspend, now=now)
    drop(fresh["conditions"], "Reconciling")
    if outcome.request is not None:
        fresh["lastHandledSyncRequest"] = outcome.request
    if outcome.approval is not None:
        fresh["lastHandledApproval"] = outcome.approval
    for sweep in outcome.sweeps:
        _note_sweep(fresh, sweep)
    if outcome.facts is not None:
        _note_facts(fresh, outcome.facts, now=now)
    trouble = outcome.trouble
    _reached(fresh, outcome, generation=generation, now=now)
    _count_failures(fresh, outcome)
    if outcome.facts is not None and "resources" in fresh:
        _drift(fresh, generation=generation, now=now)
    _ready(fresh, outcome, generation=generation, now=now)
    _stalled(fresh, generation=generation, now=now)
    if outcome.wait is not None and trouble is None:
        _next(fresh, now + timedelta(seconds=outcome.wait))
    return fresh


def retrying(status: Status, *, at: datetime) -> Status:
    """Sets when the next try comes after a trouble."""
    fresh = _copy(status)
    _next(fresh, at)
    return fresh


def _copy(status: Status) -> Status:
    fresh = copy.deepcopy(status)
    fresh.setdefault("conditions", [])
    return fresh


def _note_sweep(fresh: Status, sweep: FinishedSweep) -> None:
    """Adds a sweep to the history, or replaces the entry that it had before it was resumed."""
    result = sweep.result
    entry: dict[str, Any] = {
        "id": result.sweep_id,
        "mode": result.mode,
        "reason": REASONS.get(sweep.reason, sweep.reason),
        "state": result.state,
        "startTime": moment(sweep.started),
        "completionTime": moment(sweep.ended),
        "requests": result.requests,
        "runs": [_run_entry(run) for run in result.runs],
    }
    if result.message:
        entry["message"] = result.message[:LONGEST_MESSAGE]
    fresh["lastSync"] = entry
    former = [of for of in fresh.get("history", []) if of.get("id") != result.sweep_id]
    fresh["history"] = [entry, *former][:HISTORY]
    if result.state == "completed":
        fresh["lastSuccessTime"] = moment(sweep.ended)
    for run in result.runs:
        if result.mode != "incremental":
            _note_resource(fresh, run)
        else:
            _add_deletions(fresh, run)


def _run_entry(run: Result) -> dict[str, Any]:
    trouble = result_trouble(run) if run.error is None or run.state != "completed" else None
    entry: dict[str, Any] = {"id": run.run_id, "resource": RESOURCES[run.kind], "state": run.state}
    return entry | ({"failure": trouble.reason} if trouble is not None else {})


def _note_resource(fresh: Status, run: Result) -> None:
    """What a full or deep run counted; of one that failed, only why: the former counts stand."""
    known = {of["name"]: of for of in fresh.get("resources", [])}
    name, counts = RESOURCES[run.kind], run.counts
    former = known.get(name, {"name": name, "live": 0})
    trouble = result_trouble(run)
    if trouble is not None and trouble.reason != "DeletionGuardTripped":
        known[name] = {**former, "failure": trouble.reason, "message": str(trouble)[:LONGEST_MESSAGE]}
    else:
        known[name] = {
            "name": name,
            "live": former.get("live", 0),
            "missing": counts.get("missing", 0),
            "stale": sum(counts.get(what, 0) for what in ("stale", "deep", "ahead")),
            "extra": max(counts.get("gone", 0), counts.get("awaiting", 0)) + counts.get("resurfaced", 0),
            "edited": counts.get("edited", 0) + counts.get("projection", 0),
            "unadopted": counts.get("unadopted", 0),
            "refused": counts.get("refused", 0),
            "repaired": sum(counts.get(what, 0) for what in ("repaired", "adopted", "revived", "lowered")),
            "tombstoned": counts.get("tombstoned", 0),
        }
    fresh["resources"] = [known[each] for each in KINDS if each in known]


def _add_deletions(fresh: Status, run: Result) -> None:
    """A full run queues the second read of what it did not find; an incremental run makes that read, and deletes."""
    for of in fresh.get("resources", []):
        if of["name"] == RESOURCES[run.kind] and (deleted := run.counts.get("tombstoned", 0)):
            of["tombstoned"] = of.get("tombstoned", 0) + deleted


def _note_facts(fresh: Status, facts: Facts, *, now: datetime) -> None:
    for of in fresh.get("resources", []):
        of["live"] = facts.live.get(KINDS[of["name"]], of["live"])
    fresh["database"] = {"schemaVersion": facts.schema_version}
    fresh.pop("parkedRun", None)
    fresh.pop("parkedRuns", None)
    if facts.waiting:
        fresh["parkedRun"] = min((run for run in facts.waiting), key=lambda run: (run.approved, run.run_id)).run_id
        fresh["parkedRuns"] = [
            {"id": run.run_id, "resource": RESOURCES[run.kind], "approved": run.approved} for run in facts.waiting
        ]
    drift: dict[str, Any] = {"total": facts.drift_total}
    if facts.drift_total:
        drift["since"] = fresh.get("drift", {}).get("since") or moment(now)
        drift["items"] = [
            {"resource": RESOURCES[item.kind], "id": item.id, "problem": item.problem}
            | ({"cause": item.cause} if item.cause else {})
            for item in facts.drift
        ]
    fresh["drift"] = drift


def _reached(fresh: Status, outcome: Outcome, *, generation: int, now: datetime) -> None:
    """ConnectionReady and DatabaseReady. What the reconcile did not reach stays as it was."""
    about = outcome.trouble.about if outcome.trouble is not None else None
    asked = any(run.error is None for sweep in outcome.sweeps for run in sweep.result.runs)
    for type_, mine, reached in (
        ("ConnectionReady", "connection", asked),
        ("DatabaseReady", "database", outcome.database_reached),
    ):
        if about == mine and outcome.trouble is not None:
            state, reason, text = "False", outcome.trouble.reason, str(outcome.trouble)
        elif reached:
            state, reason, text = "True", "Connected", "answers"
        else:
            continue
        put(
            fresh["conditions"],
            type_,
            "True" if state == "True" else "False",
            reason=reason,
            message=text,
            generation=generation,
            now=now,
        )


def _count_failures(fresh: Status, outcome: Outcome) -> None:
    if outcome.trouble is not None:
        fresh["consecutiveFailures"] = fresh.get("consecutiveFailures", 0) + 1
    elif outcome.sweeps:
        fresh["consecutiveFailures"] = 0


def _drift(fresh: Status, *, generation: int, now: datetime) -> None:
    total = fresh.get("drift", {}).get("total", 0)
    put(
        fresh["conditions"],
        "DriftDetected",
        "True" if total else "False",
        reason="SyncedWithDrift" if total else "InSync",
        message=_drift_words(fresh) if total else "no difference is left",
        generation=generation,
        now=now,
    )


def _drift_words(fresh: Status) -> str:
    total = fresh["drift"]["total"]
    names = ", ".join(f"{item['resource']} {item['id']} ({item['problem']})" for item in fresh["drift"]["items"][:3])
    more = f" and {total - 3:,} more" if total > 3 else ""
    what = "object differs" if total == 1 else "objects differ"
    parked = fresh.get("parkedRun")
    then = "drift.policy Fix repairs" if parked is None else f"kubectl nexus approve {parked} lets deletions happen"
    return f"{total:,} {what}: {names}{more}. kubectl nexus findings lists them; {then}"


def _ready(fresh: Status, outcome: Outcome, *, generation: int, now: datetime) -> None:
    conditions = fresh["conditions"]
    if outcome.trouble is not None:
        state, reason, text = "False", outcome.trouble.reason, str(outcome.trouble)
    elif outcome.facts is None:
        return
    elif outcome.facts.waiting:
        state, reason, text = "False", "DeletionGuardTripped", _waiting_words(outcome.facts)
    elif (failed := _failed_resource(fresh)) is not None:
        state, (reason, text) = "False", failed
    elif "lastSuccessTime" not in fresh:
        return
    elif outcome.facts.drift_total:
        state, reason, text = "True", "SyncedWithDrift", _drift_words(fresh)
    else:
        state, reason, text = "True", "InSync", "everything that was compared is the same at Clerk"
    put(
        conditions,
        "Ready",
        "True" if state == "True" else "False",
        reason=reason,
        message=text,
        generation=generation,
        now=now,
    )


def _waiting_words(facts: Facts) -> str:
    """One sentence for each run that waits, and how it is approved from here."""
    said = []
    for run in facts.waiting:
        how = f"kubectl nexus approve {run.run_id}, or annotate nexus-auth.dev/approve={run.run_id}"
        then = "approved; the next run deletes them" if run.approved else f"here: {how}"
        said.append(f"{RESOURCES[run.kind]}: {run.message or 'deletions wait for an approval'} ({then})")
    return "; ".join(said)


def _failed_resource(fresh: Status) -> tuple[str, str] | None:
    """Reason and sentence of the first resource whose newest full or deep run failed."""
    for of in fresh.get("resources", []):
        if "failure" in of:
            return str(of["failure"]), f"the last full sweep of {of['name']} failed: {of.get('message', '')}"
    return None


def _stalled(fresh: Status, *, generation: int, now: datetime) -> None:
    conditions = fresh["conditions"]
    ready = find(conditions, "Ready")
    if ready is not None and ready["status"] == "False" and ready["reason"] in STALLED:
        put(
            conditions,
            "Stalled",
            "True",
            reason=ready["reason"],
            message=ready["message"],
            generation=generation,
            now=now,
        )
    else:
        drop(conditions, "Stalled")


def _suspension(conditions: list[dict[str, Any]], *, suspended: bool, generation: int, now: datetime) -> None:
    put(
        conditions,
        "Suspended",
        "True" if suspended else "False",
        reason="Suspended" if suspended else "Active",
        message="spec.suspend is set: no run begins" if suspended else "runs begin when they are due",
        generation=generation,
        now=now,
    )


def _next(fresh: Status, at: datetime) -> None:
    """A time that differs by less than five seconds from the former is not written."""
    former = fresh.get("nextSyncTime")
    if former is not None:
        known = datetime.fromisoformat(str(former).replace("Z", "+00:00"))
        if abs((known - at).total_seconds()) < 5:
            return
    fresh["nextSyncTime"] = moment(at)


def handled_generation(status: Mapping[str, Any]) -> int:
    """The generation that Ready speaks of."""
    ready = find(status.get("conditions", []), "Ready")
    return int(ready.get("observedGeneration", -1)) if ready is not None and ready["status"] != "Unknown" else -1
