"""The page of `kubectl nexus status`: tables first, then the troubles as sentences."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.text import Text

from services.cli.kubernetes.objects import Object, condition, moment, name_of, status_of
from services.cli.output import print_pairs, print_table, printable, say
from services.cli.status import ago

NONE = "-"
SHOWN = 5
"""Items of drift of each sync."""
OVERDUE_SECONDS = 120.0
OPERATOR = "is an operator running that watches this namespace? kubectl nexus logs"
COLOURS = {"True": "green", "False": "red"}


def troubles(instances: Sequence[Object], syncs: Sequence[Object], *, now: datetime) -> Iterator[str]:
    """A sentence for each object that needs somebody to act."""
    for kind, objects in (("ClerkInstance", instances), ("ClerkSync", syncs)):
        for of in objects:
            ready = condition(of, "Ready")
            if ready["status"] == "False":
                yield f"{kind} {name_of(of)}: {ready['reason']}: {ready['message']}"
            elif ready["reason"] == "NotSeen":
                yield f"{kind} {name_of(of)}: {ready['message']}; {OPERATOR}"
            elif (overdue := _overdue(of, now=now)) > OVERDUE_SECONDS:
                yield f"{kind} {name_of(of)}: its run is overdue by {overdue / 60:,.0f} min; {OPERATOR}"


def print_page(instances: Sequence[Object], syncs: Sequence[Object], *, now: datetime) -> None:
    """Instances, syncs, rows, open drift, and what waits for a human."""
    print_table(
        ("instance", "id", "environment", "ready", "budget in 10 s", "syncs"),
        (_instance(of) for of in instances),
        title="Instances",
    )
    print_table(
        ("sync", "instance", "policy", "ready", "drift", "last run", "ended", "in step", "next"),
        (_sync(of, now=now) for of in syncs),
        title="\nSyncs",
    )
    counted = [(of, row) for of in syncs for row in status_of(of).get("resources") or ()]
    if counted:
        columns = ("live", "missing", "stale", "extra", "edited", "repaired", "tombstoned")
        print_table(
            ("sync", "resource", *columns),
            ((name_of(of), row.get("name"), *(f"{row.get(c, 0):,}" for c in columns)) for of, row in counted),
            title="\nLast sweep",
        )
    _print_drift(syncs, now=now)
    waits = list(_waiting(syncs))
    if waits:
        print_pairs(waits, title="\nWaits for you")


def shown(of: Object) -> dict[str, Any]:
    """An object for JSON output: name, spec and status."""
    meta = of["metadata"]
    kept = {"namespace": meta["namespace"], "name": meta["name"], "generation": meta.get("generation")}
    return {**kept, "spec": of.get("spec"), "status": of.get("status")}


def _instance(of: Object) -> tuple[object, ...]:
    status = status_of(of)
    budget = status.get("budget") or {}
    share = budget.get("shareRequestsPer10s")
    return (
        name_of(of),
        status.get("instanceId") or of["spec"].get("instanceId") or NONE,
        of["spec"].get("environment", NONE),
        _ready(of),
        f"{share:,} of {budget.get('requestsPer10s', 0):,}" if share is not None else NONE,
        status.get("syncs", NONE),
    )


def _sync(of: Object, *, now: datetime) -> tuple[object, ...]:
    status, spec = status_of(of), of["spec"]
    last = status.get("lastSync") or {}
    return (
        name_of(of),
        (spec.get("instanceRef") or {}).get("name"),
        (spec.get("drift") or {}).get("policy", "Report"),
        _ready(of),
        _drift(of),
        f"{last.get('id')} {last.get('mode')} {last.get('state')}" if last else NONE,
        _ago(last.get("completionTime"), now=now),
        _ago(status.get("lastSuccessTime"), now=now),
        "suspended" if spec.get("suspend") else _until(status.get("nextSyncTime"), now=now),
    )


def _overdue(of: Object, *, now: datetime) -> float:
    """Seconds since a run should have begun: the status may be old because no operator runs."""
    due = moment(status_of(of).get("nextSyncTime"))
    if due is None or of["spec"].get("suspend") or condition(of, "Reconciling")["status"] == "True":
        return 0.0
    return (now - due).total_seconds()


def _ready(of: Object) -> Text:
    if of["spec"].get("suspend"):
        return Text("Suspended", style="yellow")
    ready = condition(of, "Ready")
    said = ready["reason"] if ready["status"] == "True" else f"{ready['status']}: {ready['reason']}"
    running = " (running)" if condition(of, "Reconciling")["status"] == "True" else ""
    return Text(printable(f"{said}{running}"), style=COLOURS.get(ready["status"], "yellow"))


def _drift(of: Object) -> str:
    drift = status_of(of).get("drift")
    if not drift:
        return NONE
    total = drift.get("total", 0)
    return f"{total:,}" if total else "none"


def _print_drift(syncs: Sequence[Object], *, now: datetime) -> None:
    rows: list[tuple[object, ...]] = []
    for of in syncs:
        drift = status_of(of).get("drift") or {}
        columns = ("resource", "id", "problem", "cause")
        rows += [
            (name_of(of), *(item.get(column) for column in columns)) for item in (drift.get("items") or ())[:SHOWN]
        ]
    if not rows:
        return
    print_table(("sync", "resource", "id", "problem", "cause"), rows, title="\nDrift")
    for of in syncs:
        drift = status_of(of).get("drift") or {}
        if drift.get("total", 0) > SHOWN:
            meta = of["metadata"]
            since = _ago(drift.get("since"), now=now)
            command = f"kubectl nexus findings {meta['name']} -n {meta['namespace']}"
            say(f"and {drift['total'] - SHOWN:,} more of {name_of(of)}, the first {since}: {command}")


def _waiting(syncs: Sequence[Object]) -> Iterator[tuple[str, str]]:
    for of in syncs:
        for run in status_of(of).get("parkedRuns") or ():
            if not run.get("approved"):
                yield name_of(of), f"kubectl nexus approve {run['id']} -n {of['metadata']['namespace']}"


def _ago(text: Any, *, now: datetime) -> str:
    at = moment(text)
    return ago(at, now=now) if at is not None else NONE


def _until(text: Any, *, now: datetime) -> str:
    at = moment(text)
    if at is None:
        return NONE
    left = (at - now).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if left >= 2 * length:
            return f"in {left / length:.0f} {unit}"
    return f"in {left:.0f} s" if left > 0 else "due"
