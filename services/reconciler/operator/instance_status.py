"""The status of a ClerkInstance after a reconcile: a pure function of the former status and of what happened."""

import copy
from datetime import datetime
from typing import Any

from nexus_auth.store.budget import LIMITS
from services.reconciler.leading import Trouble
from services.reconciler.manifests import InstanceManifest
from services.reconciler.operator.conditions import State, drop, find, put
from services.reconciler.operator.status import STALLED, Status


def initial(status: Status, *, generation: int, now: datetime) -> Status:
    """Adds the conditions that are missing, as Unknown: `kubectl wait` needs them to exist."""
    fresh = copy.deepcopy(status)
    conditions = fresh.setdefault("conditions", [])
    for type_ in ("Ready", "ConnectionReady", "DatabaseReady"):
        if find(conditions, type_) is None:
            put(
                conditions,
                type_,
                "Unknown",
                reason="Pending",
                message="not reconciled yet",
                generation=generation,
                now=now,
            )
    fresh["observedGeneration"] = generation
    return fresh


def after(
    status: Status,
    *,
    of: InstanceManifest | None,
    instance_id: str | None,
    trouble: Trouble | None,
    syncs: int,
    generation: int,
    now: datetime,
) -> Status:
    """The status after a reconcile."""
    fresh = initial(status, generation=generation, now=now)
    conditions = fresh["conditions"]
    if instance_id is not None:
        fresh["instanceId"] = instance_id
    if of is not None:
        limit = LIMITS[of.environment]
        fresh["environment"] = of.environment
        fresh["budget"] = {"requestsPer10s": limit, "shareRequestsPer10s": max(1, limit * of.budget_percent // 100)}
    fresh["syncs"] = syncs
    _reached(conditions, trouble=trouble, generation=generation, now=now)
    if trouble is None:
        reason, text = "Connected", "API key and state database work"
    else:
        reason, text = trouble.reason, str(trouble)
    ready: State = "True" if trouble is None else "False"
    put(conditions, "Ready", ready, reason=reason, message=text, generation=generation, now=now)
    if trouble is not None and reason in STALLED:
        put(conditions, "Stalled", "True", reason=reason, message=text, generation=generation, now=now)
    else:
        drop(conditions, "Stalled")
    return fresh


def _reached(conditions: list[dict[str, Any]], *, trouble: Trouble | None, generation: int, now: datetime) -> None:
    """What the reconcile did not reach stays as it was. The database is asked before Clerk is."""
    about = trouble.about if trouble is not None else None
    asked_clerk = about is None
    asked_database = asked_clerk or (
        about == "connection" and trouble is not None and trouble.reason not in ("SecretMissing", "ApiHostRefused")
    )
    for type_, mine, reached in (
        ("ConnectionReady", "connection", asked_clerk),
        ("DatabaseReady", "database", asked_database),
    ):
        if trouble is not None and about == mine:
            said = {"reason": trouble.reason, "message": str(trouble)}
            put(conditions, type_, "False", **said, generation=generation, now=now)
        elif reached:
            put(conditions, type_, "True", reason="Connected", message="answers", generation=generation, now=now)
