"""What the reconciler counts; a sync is a label, an id never."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from nexus_auth.reconcile.engine import Result


class ReconcilerMetrics:
    """One object per process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers everything at once."""
        name = "nexus_auth_sync"
        self.runs = Counter(f"{name}_runs", "Runs that ended", ["sync", "mode", "state"], registry=registry)
        self.found = Counter(
            f"{name}_found", "Differences by kind and problem", ["sync", "kind", "what"], registry=registry
        )
        self.requests = Counter(f"{name}_clerk_requests", "Requests to Clerk", ["sync"], registry=registry)
        self.last_success = Gauge(
            f"{name}_last_success_timestamp_seconds", "When a run last completed", ["sync", "mode"], registry=registry
        )
        self.parked = Gauge(f"{name}_parked", "1 while the last run waits for a human", ["sync"], registry=registry)
        self.leading = Gauge(f"{name}_leading", "1 while this process leads the sync", ["sync"], registry=registry)

    def ended(self, result: Result, *, sync: str, mode: str) -> None:
        """Counts one run."""
        self.runs.labels(sync, mode, result.state).inc()
        self.requests.labels(sync).inc(result.requests)
        self.parked.labels(sync).set(result.state == "parked")
        if result.state == "completed":
            self.last_success.labels(sync, mode).set_to_current_time()
        for kind, counts in result.counts.items():
            for what, number in counts.items():
                self.found.labels(sync, kind, what).inc(number)
