"""The operator's metrics. Labels name custom resources by namespace and name; they never hold an id of Clerk's.

The series of a custom resource are removed together with it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from nexus_auth.telemetry.metrics import initialise
from services.reconciler.manifests import KINDS

OBJECT = ("namespace", "name")
CONTROLLERS = ("clerkinstances", "clerksyncs")
RESULTS = ("success", "error", "cancelled", "suspended", "waiting", "skipped")
MODES = ("none", "incremental", "full", "deep")
STATES = ("completed", "parked", "failed", "aborted")
ACTIONS = ("repaired", "adopted", "tombstoned", "revived", "lowered")
PROBLEMS = ("missing", "stale", "extra", "edited", "unadopted", "refused")


class OperatorMetrics:
    """One object per process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers every metric, with a series for each label value that is known."""

        def gauge(name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
            return Gauge(f"nexus_auth_{name}", text, list(labels), registry=registry)

        self._syncs, self._instances = _Series(), _Series()
        self.leader = gauge("leader", "1 while this process leads")
        self.last_event = gauge(
            "watch_last_event_timestamp_seconds", "Time of the newest event of a watch", ["resource"]
        )
        self.watch_restarts = Counter(
            "nexus_auth_watch_restarts", "Times that the watch was started again", registry=registry
        )
        self.requests = Counter(
            "nexus_auth_k8s_requests", "Requests to the API server", ["verb", "code"], registry=registry
        )
        self.reconciles = Counter(
            "nexus_auth_reconcile", "Reconciles that ended, by result", ["controller", "result"], registry=registry
        )
        self.duration = Histogram(
            "nexus_auth_reconcile_duration_seconds",
            "Duration of a reconcile",
            ["controller", "mode"],
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
            registry=registry,
        )
        self.internal_errors = Counter(
            "nexus_auth_internal_errors",
            "Errors that nobody expected; the log has each trace",
            ["controller"],
            registry=registry,
        )
        self.queue_depth = gauge("queue_depth", "Objects that are due and wait for a slot")
        self.delay = Histogram(
            "nexus_auth_sync_schedule_delay_seconds",
            "Time that a due object waited for its slot",
            buckets=(0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300),
            registry=registry,
        )
        self.condition = gauge("sync_condition", "1 where the condition has this status", [*OBJECT, "type", "status"])
        self.instance_condition = gauge(
            "instance_condition", "1 where the condition has this status", [*OBJECT, "type", "status"]
        )
        self.info = gauge("sync_info", "1 for every ClerkSync", [*OBJECT, "instance", "policy"])
        self.suspended = gauge("sync_suspended", "1 where spec.suspend is set", OBJECT)
        self.last_success = gauge("sync_last_success_timestamp_seconds", "When a run last completed", OBJECT)
        self.interval = gauge("sync_interval_seconds", "spec.interval", OBJECT)
        self.failures = gauge("sync_consecutive_failures", "Reconciles that failed, in a row", OBJECT)
        self.drift = gauge(
            "sync_drift_rows", "Differences that the last full sweep found", [*OBJECT, "resource", "kind"]
        )
        self.drift_total = gauge("sync_drift_objects", "Objects that differ and were not repaired", OBJECT)
        self.parked = gauge("sync_parked", "1 while deletions wait for an approval", OBJECT)
        self.repairs = Counter(
            "nexus_auth_sync_repairs", "Rows repaired", [*OBJECT, "resource", "action"], registry=registry
        )
        self.blocked = Counter(
            "nexus_auth_sync_deletions_blocked", "Runs whose deletions the guard stopped", OBJECT, registry=registry
        )
        self.runs = Counter("nexus_auth_sync_runs", "Runs that ended", [*OBJECT, "mode", "state"], registry=registry)
        self.clerk_requests = Counter(
            "nexus_auth_sync_clerk_requests", "Requests to Clerk", [*OBJECT, "instance"], registry=registry
        )
        initialise(self.internal_errors, CONTROLLERS)
        initialise(self.reconciles, CONTROLLERS, RESULTS)
        initialise(self.duration, CONTROLLERS, MODES)
        initialise(self.last_event, (*CONTROLLERS, "secrets"))

    def ran(self, at: tuple[str, str], *, instance: str, mode: str, state: str, requests: int) -> None:
        """Counts one run of the ClerkSync `at` (namespace, name)."""
        self._syncs.one(self.runs, at, mode, state).inc()
        self._syncs.one(self.clerk_requests, at, instance).inc(requests)

    def deletions_blocked(self, at: tuple[str, str]) -> None:
        """Counts a run whose deletions the guard stopped."""
        self._syncs.one(self.blocked, at).inc()

    def repaired(self, at: tuple[str, str], counts: Mapping[str, Mapping[str, int]]) -> None:
        """Counts what a run repaired; `counts` by kind."""
        for resource, kind in KINDS.items():
            for action in ACTIONS:
                if number := counts.get(kind, {}).get(action, 0):
                    self._syncs.one(self.repairs, at, resource, action).inc(number)

    def sync(self, at: tuple[str, str], status: Mapping[str, Any], *, last_success: float | None) -> None:
        """Shows a ClerkSync's status."""
        one = self._syncs.one
        self._syncs.only(self.condition, at, _conditions(status))
        one(self.failures, at).set(status.get("consecutiveFailures", 0))
        one(self.drift_total, at).set(status.get("drift", {}).get("total", 0))
        one(self.parked, at).set("parkedRun" in status)
        if last_success is not None:
            one(self.last_success, at).set(last_success)
        for of in status.get("resources", ()):
            for problem in PROBLEMS:
                one(self.drift, at, of["name"], problem).set(of.get(problem, 0))

    def instance(self, at: tuple[str, str], status: Mapping[str, Any]) -> None:
        """Shows a ClerkInstance's status."""
        self._instances.only(self.instance_condition, at, _conditions(status))

    def spec(self, at: tuple[str, str], *, instance: str, policy: str, suspend: bool, interval: float) -> None:
        """Shows a ClerkSync's spec, and makes its counters, at 0."""
        self._syncs.only(self.info, at, {(instance, policy): 1.0})
        self._syncs.one(self.suspended, at).set(suspend)
        self._syncs.one(self.interval, at).set(interval)
        one = self._syncs.one
        one(self.blocked, at)
        one(self.clerk_requests, at, instance)
        for mode in MODES[1:]:
            for state in STATES:
                one(self.runs, at, mode, state)
        for resource in KINDS:
            for action in ACTIONS:
                one(self.repairs, at, resource, action)

    def forget(self, at: tuple[str, str]) -> None:
        """Removes the series of a ClerkSync that is gone."""
        self._syncs.forget(at)

    def forget_instance(self, at: tuple[str, str]) -> None:
        """Removes the series of a ClerkInstance that is gone."""
        self._instances.forget(at)


class _Series:
    """The series of each object. prometheus_client could find those of one object only by a search through all."""

    def __init__(self) -> None:
        # lists: they are short, and take a third of a set's memory
        self._of: dict[tuple[str, str], dict[Any, list[tuple[str, ...]]]] = {}

    def one(self, metric: Any, at: tuple[str, str], *labels: str) -> Any:
        """One series of an object."""
        has = self._of.setdefault(at, {}).setdefault(metric, [])
        if labels not in has:
            has.append(labels)
        return metric.labels(*at, *labels)

    def only(self, metric: Gauge, at: tuple[str, str], values: Mapping[tuple[str, ...], float]) -> None:
        """Sets these series of an object and removes its other series of this gauge."""
        has = self._of.setdefault(at, {}).setdefault(metric, [])
        for labels in [labels for labels in has if labels not in values]:
            metric.remove(*at, *labels)
            has.remove(labels)
        for labels, value in values.items():
            self.one(metric, at, *labels).set(value)

    def forget(self, at: tuple[str, str]) -> None:
        """Removes all series of an object."""
        for metric, has in self._of.pop(at, {}).items():
            for labels in has:
                metric.remove(*at, *labels)


def _conditions(status: Mapping[str, Any]) -> dict[tuple[str, ...], float]:
    return {
        (condition["type"], state): float(condition["status"] == state)
        for condition in status.get("conditions", ())
        for state in ("True", "False", "Unknown")
    }
