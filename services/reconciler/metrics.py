"""What the reconciler counts; a sync is a label, an id never."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from nexus_auth.reconcile.engine import InternalError, SweepResult


class ReconcilerMetrics:
    """One object per process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers everything at once."""
        name = "nexus_auth_sync"
        self.runs = Counter(f"{name}_runs", "Runs that ended", ["sync", "kind", "mode", "state"], registry=registry)
        self.found = Counter(
            f"{name}_found", "Differences by kind and problem", ["sync", "kind", "what"], registry=registry
        )
        self.requests = Counter(f"{name}_clerk_requests", "Requests to Clerk", ["sync"], registry=registry)
        self.last_success = Gauge(
            f"{name}_last_success_timestamp_seconds",
            "When a run last completed",
            ["sync", "kind", "mode"],
            registry=registry,
        )
        self.parked = Gauge(f"{name}_parked", "1 while deletions wait for a human", ["sync"], registry=registry)
        self.internal_errors = Counter(
            f"{name}_internal_errors",
            "Errors that nobody expected; see the log",
            ["sync"],
            registry=registry,
        )
        self.leading = Gauge(f"{name}_leading", "1 while this process leads the sync", ["sync"], registry=registry)

    def known(self, sync: str) -> None:
        """Series of a sync, before anything happened to it."""
        self.parked.labels(sync)
        self.leading.labels(sync)
        self.requests.labels(sync)
        self.internal_errors.labels(sync)

    def ended(self, result: SweepResult, *, sync: str, waiting: int) -> None:
        """Counts the runs of one sweep; `waiting`: runs whose deletions wait for a human now, whichever parked them."""
        for run in result.runs:
            self.runs.labels(sync, run.kind, run.mode, run.state).inc()
            if run.state == "completed":
                self.last_success.labels(sync, run.kind, run.mode).set_to_current_time()
            for what, number in run.counts.items():
                self.found.labels(sync, run.kind, what).inc(number)
            self.internal_errors.labels(sync).inc(isinstance(run.error, InternalError))
        self.requests.labels(sync).inc(result.requests)
        self.parked.labels(sync).set(waiting > 0)
