"""What is due: a pure function of the manifest and of what happened, so that a restart forgets nothing."""

from dataclasses import dataclass, replace

from nexus_auth.reconcile.policy import SyncPolicy
from nexus_auth.store.history import History
from nexus_auth.store.runs import Mode
from services.reconciler.manifests import SyncManifest

AGAIN_SECONDS = 60.0
"""After a run that failed, the next one of its kind waits so long at least."""


@dataclass(frozen=True, slots=True)
class Due:
    """A run that should begin now, and why."""

    mode: Mode
    policy: SyncPolicy
    reason: str


def due(sync: SyncManifest, history: History) -> Due | None:
    """The run that comes first, if any. Deep before full before incremental: each does what the lesser ones do."""
    if sync.suspend:
        return None
    if history.running is not None:
        resumed = _resumable(sync, history.running)
        if resumed is not None:
            return resumed
    now = history.now.timestamp()
    may_sweep = history.failed_at is None or now - history.failed_at.timestamp() >= AGAIN_SECONDS
    if may_sweep:
        never = [kind for kind in sync.policy.kinds if kind not in history.full_at]
        # a first full sweep compares everything; the first deep one may wait its turn
        deep_since = history.deep_at.timestamp() if history.deep_at else min(history.full_at.values(), default=now)
        if not never and now - deep_since >= sync.deep_sweep_interval:
            return Due("deep", sync.policy, "deepSweepInterval")
        late = tuple(
            kind
            for kind in sync.policy.kinds
            if kind in never or now - history.full_at[kind] >= sync.full_sweep_intervals[kind]
        )
        if late:
            return Due("full", replace(sync.policy, kinds=late), "first sweep" if never else "fullSweepInterval")
        differing = tuple(kind for kind in sync.policy.kinds if kind in history.counts_differ)
        if differing:
            return Due("full", replace(sync.policy, kinds=differing), "counts differ")
    in_vain = history.in_vain_at is not None and now - history.in_vain_at.timestamp() < AGAIN_SECONDS
    reason = None if in_vain else _pressing(sync, history)
    if reason is not None:
        return Due("incremental", sync.policy, reason)
    if history.incremental_at is None or now - history.incremental_at.timestamp() >= sync.interval:
        return Due("incremental", sync.policy, "interval")
    return None


def wait(sync: SyncManifest, history: History) -> float:
    """Seconds until something is due by the clock alone; 0 where something is due now.

    What presses (an event that may have been missed, an approval) is seen only by asking the database again.
    """
    now = history.now.timestamp()
    at = [history.incremental_at.timestamp() + sync.interval if history.incremental_at else now]
    sweeps = [
        history.full_at[kind] + sync.full_sweep_intervals[kind] if kind in history.full_at else now
        for kind in sync.policy.kinds
    ]
    deep_since = history.deep_at.timestamp() if history.deep_at else min(history.full_at.values(), default=now)
    sweeps.append(deep_since + sync.deep_sweep_interval)
    not_before = history.failed_at.timestamp() + AGAIN_SECONDS if history.failed_at else 0.0
    at += [max(sweep, not_before) for sweep in sweeps]
    if set(history.counts_differ) & set(sync.policy.kinds):
        at.append(not_before)
    confirmable = _confirmable(sync, history)
    if confirmable is not None:
        in_vain = history.in_vain_at.timestamp() + AGAIN_SECONDS if history.in_vain_at else 0.0
        at.append(max(confirmable, in_vain))
    return max(0.0, min(at) - now)


def _pressing(sync: SyncManifest, history: History) -> str | None:
    """Why an incremental run should not wait for its interval. What only `Fix` can do is not asked for without it."""
    fixes = sync.policy.drift == "Fix"
    if history.approved and fixes:
        return "an approval"
    if history.requested_at is not None:
        return "events may have been missed"
    if history.doubts_due and fixes:
        return "a verification is due"
    confirmable = _confirmable(sync, history)
    if confirmable is not None and confirmable <= history.now.timestamp():
        return "counts differed"
    return None


def _confirmable(sync: SyncManifest, history: History) -> float | None:
    """When a second look at counts that differed says something, seconds since 1970; None where it was taken."""
    if history.counts_doubted_at is None:
        return None
    at = history.counts_doubted_at.timestamp() + sync.policy.verify_after
    looked_at = history.incremental_at.timestamp() if history.incremental_at else 0.0
    return at if looked_at < at else None


def _resumable(sync: SyncManifest, running: str) -> Due | None:
    """The unfinished run, if it is still one that this manifest would begin; else it is given up."""
    mode, _, kinds = running.partition(" ")
    chosen = tuple(kinds.split(",")) if kinds else ()
    if mode not in ("full", "deep") or not set(chosen) <= set(sync.policy.kinds):
        return None
    return Due("deep" if mode == "deep" else "full", replace(sync.policy, kinds=chosen), "resumed")
