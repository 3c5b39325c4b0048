"""What a ClerkSync's status says after each reconcile: a pure function of what it said and of what happened.

The status is the only memory that outlives an operator, besides the database: history, counters and what was handled
are read from it at the start. What a walk found wrong is not forgotten by a cheaper look that could not have seen it.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from nexus_auth.reconcile.engine import Result
from nexus_auth.store.runs import Mode
from services.reconciler.leading import Facts, Trouble, trouble_of
from services.reconciler.manifests import KINDS, SyncManifest
from services.reconciler.operator.conditions import drop, find, moment, put

Status = dict[str, Any]

HISTORY = 5
RESOURCES = {kind: name for name, kind in KINDS.items()}

STALLED = frozenset(
    {
        *("InvalidSpec", "Conflict", "DeletionGuardTripped", "WrongInstance", "StateDatabaseMismatch"),
        *("UpstreamUnauthorized", "DatabaseRefused"),
    }
)
"""Reasons that do not go by themselves, nor by something that may still be on its way."""

REASONS = {
    "interval": "Interval",
    "fullSweepInterval": "FullSweepInterval",
    "deepSweepInterval": "DeepSweepInterval",
    "first sweep": "FirstSweep",
    "events may have been missed": "EventsMissed",
    "a verification is due": "VerificationDue",
    "counts differ": "CountsDiffer",
    "counts differed": "CountsInDoubt",
    "an approval": "Approved",
    "resumed": "Resumed",
}
"""The schedule's reasons as a status writes them; others are written already so."""


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run that ended, whichever way."""

    result: Result
    mode: Mode
    reason: str
    kinds: tuple[str, ...]
    started: datetime
    ended: datetime

    @property
    def trouble(self) -> Trouble | None:
        """Why it was not completed."""
        result = self.result
        if result.state == "completed":
            return None
        if result.error is not None:
            found = trouble_of(result.error)
            if isinstance(found, Trouble):
                return found
        if result.deletions_parked:
            return Trouble("DeletionGuardTripped", result.message or "deletions wait for an approval", about="run")
        return Trouble("IncompleteWalk", result.message or "a listing was not complete", about="run")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a visit to a sync brought."""

    runs: tuple[FinishedRun, ...] = ()
    trouble: Trouble | None = None
    """What kept it from its runs, or ended the last one."""
    facts: Facts | None = None
    database_reached: bool = False
    wait: float | None = None
    """Seconds until the next run is due by its intervals."""
    request: str | None = None
    """The sync request that was handled by it."""
    approval: str | None = None
    """The approval that was handled by it."""


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
    """A run goes on that somebody waits for."""
    fresh = _copy(status)
    said = REASONS.get(reason, reason)
    put(
        fresh["conditions"],
        "Reconciling",
        "True",
        reason=said,
        message="a run goes on",
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
    for ran in outcome.runs:
        _note_run(fresh, ran)
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
    """When the next try comes after a trouble."""
    fresh = _copy(status)
    _next(fresh, at)
    return fresh


def _copy(status: Status) -> Status:
    fresh = copy.deepcopy(status)
    fresh.setdefault("conditions", [])
    return fresh


def _note_run(fresh: Status, ran: FinishedRun) -> None:
    result = ran.result
    entry = {
        "id": result.run_id,
        "mode": ran.mode,
        "reason": REASONS.get(ran.reason, ran.reason),
        "state": result.state,
        "startTime": moment(ran.started),
        "completionTime": moment(ran.ended),
        "requests": result.requests,
    }
    if result.message:
        entry["message"] = result.message[:300]
    fresh["lastSync"] = entry
    former = [of for of in fresh.get("history", []) if of.get("id") != result.run_id]
    fresh["history"] = [entry, *former][:HISTORY]
    if result.state == "completed":
        fresh["lastSuccessTime"] = moment(ran.ended)
    if ran.mode != "incremental" and (result.state == "completed" or result.deletions_parked):
        _note_counts(fresh, ran)


def _note_counts(fresh: Status, ran: FinishedRun) -> None:
    known = {of["name"]: of for of in fresh.get("resources", [])}
    for kind in ran.kinds:
        counts = ran.result.counts.get(kind, {})
        known[RESOURCES[kind]] = {
            "name": RESOURCES[kind],
            "live": known.get(RESOURCES[kind], {}).get("live", 0),
            "missing": counts.get("missing", 0),
            "stale": counts.get("stale", 0) + counts.get("deep", 0) + counts.get("ahead", 0),
            "extra": counts.get("gone", 0) + counts.get("resurfaced", 0),
            "edited": counts.get("edited", 0) + counts.get("projection", 0),
            "repaired": sum(counts.get(what, 0) for what in ("repaired", "revived", "lowered")),
            "tombstoned": counts.get("tombstoned", 0),
        }
    fresh["resources"] = [known[name] for name in KINDS if name in known]


def _note_facts(fresh: Status, facts: Facts, *, now: datetime) -> None:
    for of in fresh.get("resources", []):
        of["live"] = facts.live.get(KINDS[of["name"]], of["live"])
    fresh["database"] = {"schemaVersion": facts.schema_version}
    if facts.parked_run is None:
        fresh.pop("parkedRun", None)
    else:
        fresh["parkedRun"] = facts.parked_run[0]
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
    """ConnectionReady and DatabaseReady; what a visit did not come to stays as it was."""
    about = outcome.trouble.about if outcome.trouble is not None else None
    asked = any(ran.result.error is None for ran in outcome.runs)
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
    elif outcome.runs:
        fresh["consecutiveFailures"] = 0


def _drift(fresh: Status, *, generation: int, now: datetime) -> None:
    total = fresh.get("drift", {}).get("total", 0)
    put(
        fresh["conditions"],
        "DriftDetected",
        "True" if total else "False",
        reason="SyncedWithDrift" if total else "InSync",
        message=_drift_words(fresh) if total else "nothing differs that was not put right",
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
    return f"{total:,} {what} and stay so: {names}{more}. kubectl nexus findings lists them; {then}"


def _ready(fresh: Status, outcome: Outcome, *, generation: int, now: datetime) -> None:
    conditions = fresh["conditions"]
    if outcome.trouble is not None:
        state, reason, text = "False", outcome.trouble.reason, str(outcome.trouble)
    elif outcome.facts is None:
        return
    elif outcome.facts.parked_run is not None:
        run_id, said = outcome.facts.parked_run
        state, reason = "False", "DeletionGuardTripped"
        text = f"{said} (here: kubectl nexus approve {run_id}, or annotate nexus-auth.dev/approve={run_id})"
    elif (incomplete := _incomplete_sweep(fresh)) is not None:
        state, reason, text = "False", "IncompleteWalk", incomplete
    elif "lastSuccessTime" not in fresh:
        return
    elif outcome.facts.drift_total:
        state, reason, text = "True", "SyncedWithDrift", _drift_words(fresh)
    else:
        state, reason, text = "True", "InSync", "what was compared is as Clerk has it"
    put(
        conditions,
        "Ready",
        "True" if state == "True" else "False",
        reason=reason,
        message=text,
        generation=generation,
        now=now,
    )


def _incomplete_sweep(fresh: Status) -> str | None:
    """What the newest sweep said, if it failed: a cheaper look that went well since does not mend that."""
    sweep = next((of for of in fresh.get("history", []) if of.get("mode") != "incremental"), None)
    if sweep is None or sweep.get("state") != "failed":
        return None
    return str(sweep.get("message") or "the last sweep was not completed")


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
    """Moments that differ by less than five seconds are the same."""
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
