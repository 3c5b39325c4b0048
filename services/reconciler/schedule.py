"""What is due: a pure function of the manifest and of what happened, so that a restart forgets nothing.

Every kind has times of its own, and retries of its own that come at growing intervals. What is due at one moment makes
one sweep.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from nexus_auth.reconcile.policy import SyncPolicy
from nexus_auth.store.history import History, KindHistory
from nexus_auth.store.runs import Mode
from services.reconciler.manifests import SyncManifest

AGAIN_SECONDS = 60.0
"""After a run that came to nothing, the next one of its kind waits so long at least; each further one twice as long."""
AGAIN_AT_MOST = 900.0
"""But no longer than that, or a 24th of the time between two sweeps, whichever is longer."""


_EPOCH = datetime.fromtimestamp(0, tz=UTC)


@dataclass(frozen=True, slots=True)
class Due:
    """A sweep that should begin now, and why. The kinds of its policy are the sweep's."""

    mode: Mode
    policy: SyncPolicy
    reason: str


def due(sync: SyncManifest, history: History) -> Due | None:
    """The sweep that comes first, if any. Deep before full before incremental: each does what the lesser ones do."""
    if sync.suspend:
        return None
    now = history.now
    kinds = {kind: history.kinds.get(kind, KindHistory()) for kind in sync.policy.kinds}
    never = [kind for kind, of in kinds.items() if of.full_at is None and _swept_again(sync, kind, of, "full") <= now]
    deep = [kind for kind, of in kinds.items() if of.full_at and _deep_at(sync, kind, of) <= _seconds(now)]
    full = [kind for kind, of in kinds.items() if of.full_at and _full_at(sync, kind, of) <= _seconds(now)]
    for mode, also in (("deep", deep), ("full", never + full)):
        unfinished = [kind for kind, of in kinds.items() if of.running == mode]
        if unfinished:
            chosen: Mode = "deep" if mode == "deep" else "full"
            return _due(chosen, sync, {*unfinished, *also}, "resumed")
    if never:
        return _due("full", sync, {*never, *full}, "first sweep")
    if deep:
        return _due("deep", sync, deep, "deepSweepInterval")
    if full:
        return _due("full", sync, full, "fullSweepInterval")
    differ = [k for k, of in kinds.items() if of.counts_differ and _swept_again(sync, k, of, "full") <= now]
    if differ:
        return _due("full", sync, differ, "counts differ")
    return _look(sync, kinds, now=now)


def wait(sync: SyncManifest, history: History) -> float:
    """Seconds until something is due by the clock alone; 0 where something is due now.

    What presses (an event that may have been missed, an approval) is seen only by asking the database again.
    """
    now = _seconds(history.now)
    at: list[float] = []
    for kind in sync.policy.kinds:
        of = history.kinds.get(kind, KindHistory())
        at.append(_seconds(of.looked_at) + sync.interval if of.looked_at else now)
        again = _seconds(_swept_again(sync, kind, of, "full"))
        at.append(max(_full_at(sync, kind, of), again))
        if of.full_at is not None:
            at.append(_deep_at(sync, kind, of))
        if of.counts_differ:
            at.append(again)
        looked_again = _seconds(_looked_again(of))
        confirmable = _confirmable(sync, of)
        if confirmable is not None:
            at.append(max(confirmable, looked_again))
        if of.next_doubt_at is not None and sync.policy.drift == "Fix":
            at.append(max(_seconds(of.next_doubt_at), looked_again))
    return max(0.0, min(at) - now)


def _due(mode: Mode, sync: SyncManifest, kinds: Iterable[str], reason: str) -> Due:
    """Parents before children, as the policy has them."""
    chosen = set(kinds)
    ordered = tuple(kind for kind in sync.policy.kinds if kind in chosen)
    return Due(mode, replace(sync.policy, kinds=ordered, scope=sync.policy.everything), reason)


def _look(sync: SyncManifest, kinds: dict[str, KindHistory], *, now: datetime) -> Due | None:
    """An incremental sweep: of every kind whose interval has passed, and of those that something presses for."""
    late = [
        kind
        for kind, of in kinds.items()
        if of.looked_at is None or _seconds(now) - _seconds(of.looked_at) >= sync.interval
    ]
    reasons = {
        kind: reason
        for kind, of in kinds.items()
        if _looked_again(of) <= now and (reason := _pressing(sync, of, now=now)) is not None
    }
    if reasons:
        return _due("incremental", sync, {*reasons, *late}, next(iter(reasons.values())))
    return _due("incremental", sync, late, "interval") if late else None


def _pressing(sync: SyncManifest, of: KindHistory, *, now: datetime) -> str | None:
    """Why an incremental run should not wait for its interval. What only `Fix` can do is not asked for without it."""
    fixes = sync.policy.drift == "Fix"
    if of.approved and fixes:
        return "an approval"
    if of.requested:
        return "events may have been missed"
    if of.held_due:
        return "deletions are held"
    if of.doubts_due and fixes:
        return "a verification is due"
    confirmable = _confirmable(sync, of)
    if confirmable is not None and confirmable <= _seconds(now):
        return "counts differed"
    return None


def _confirmable(sync: SyncManifest, of: KindHistory) -> float | None:
    """When a second look at counts that differed says something, seconds since 1970; None where it was taken."""
    if of.counts_doubted_at is None:
        return None
    at = _seconds(of.counts_doubted_at) + sync.policy.verify_after
    looked_at = _seconds(of.looked_at) if of.looked_at else 0.0
    return at if looked_at < at else None


def _full_at(sync: SyncManifest, kind: str, of: KindHistory) -> float:
    """When the next full sweep of a kind is due, seconds since 1970."""
    due_at = _seconds(of.full_at) + sync.full_sweep_intervals[kind] if of.full_at else 0.0
    return max(due_at, _seconds(_swept_again(sync, kind, of, "full")))


def _deep_at(sync: SyncManifest, kind: str, of: KindHistory) -> float:
    """The same of the next deep one: a first full sweep compares everything, the first deep one may wait its turn."""
    since = of.deep_at or of.first_full_at or of.full_at
    due_at = _seconds(since) + sync.deep_sweep_interval if since else 0.0
    return max(due_at, _seconds(_swept_again(sync, kind, of, "deep")))


def _swept_again(sync: SyncManifest, kind: str, of: KindHistory, mode: Mode) -> datetime:
    """When a full or deep run of a kind may begin again, after those that came to nothing."""
    interval = sync.deep_sweep_interval if mode == "deep" else sync.full_sweep_intervals[kind]
    return _after(of.failed_at, failures=of.failures, most=max(AGAIN_AT_MOST, interval / 24))


def _looked_again(of: KindHistory) -> datetime:
    """The same of what presses for an incremental one."""
    return _after(of.look_failed_at, failures=of.look_failures, most=AGAIN_AT_MOST)


def _after(failed_at: datetime | None, *, failures: int, most: float) -> datetime:
    if failed_at is None or not failures:
        return _EPOCH
    pause = min(AGAIN_SECONDS * 2.0 ** min(failures - 1, 20), most)
    return datetime.fromtimestamp(failed_at.timestamp() + pause, tz=failed_at.tzinfo)


def _seconds(moment: datetime) -> float:
    return moment.timestamp()
