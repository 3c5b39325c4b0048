"""What the webhook service counts. Labels are bounded: event types of the catalogue, never an id."""

import math
from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from nexus_auth.clerk.catalogue import ENTITIES, MESSAGE_GROUPS
from nexus_auth.store.ingest import OUTCOMES
from nexus_auth.store.maintenance import Backlog
from nexus_auth.telemetry.metrics import initialise

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LAG = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1_800, 7_200, 43_200, 172_800)

REASONS = (
    *("missing_header", "malformed_header", "encoding", "signature", "stale"),
    *("too_large", "overloaded", "slow_body", "broken_body", "unavailable"),
)
"""Why a request is not accepted."""


class WebhookMetrics:
    """One object per process, registered where it is told."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers every metric at once: an absent series means that the process is down."""

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"nexus_auth_webhook_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"nexus_auth_webhook_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"nexus_auth_webhook_{name}", text, buckets=buckets, registry=registry)

        self.received = counter("received", "Verified events, by type and by what became of them", "type", "outcome")
        self.rejected = counter("rejected", "Requests that were not accepted, by reason", "reason")
        self.verified = counter("verified", "Events by the secret that verified them (fingerprint)", "secret")
        self.secrets = gauge("secret_loaded", "1 for every secret that is accepted (fingerprint)", "secret")
        self.clock_skew = counter(
            "clock_skew", "Stale events with a right signature, from the third one on: this machine's clock is off"
        )
        self.clock_skew_seconds = gauge("clock_skew_seconds", "Seconds by which the last of them was off")
        self.wrong_instance = counter("wrong_instance", "Verified events of another Clerk instance, refused")
        self.examples = counter("examples", "Example events of Clerk's dashboard, refused: the endpoint works")
        self.last_event = gauge(
            "last_verified_event_timestamp_seconds", "When the last verified event came, 0 = none yet"
        )
        self.lag = histogram("event_lag_seconds", "From the event at Clerk to its commit here", _LAG)
        self.batch_seconds = histogram(
            "batch_duration_seconds", "One transaction, waiting for a connection included", _SECONDS
        )
        self.batch_rows = histogram("batch_rows", "Events in one transaction", (1, 2, 4, 8, 16, 32, 64, 128, 256, 512))
        self.batch_failures = counter("batch_failures", "Transactions that failed; their events were answered with 503")
        self.queued = gauge("queued_events", "Events that wait for a transaction")
        self.database_up = gauge("database_up", "1 while the last transaction succeeded")
        self.sweeps_requested = counter(
            "sweeps_requested", "Times that events may have been missed and a sweep was asked for"
        )
        self.parked = gauge("parked_events", "Events that could not be applied: nexus-auth inbox list --state parked")
        self.waiting = gauge("waiting_events", "Events kept until their projection exists (counted up to 100,000)")
        self.burying = gauge("unfinished_deletions", "Deleted objects whose rows are hidden but not gone yet")
        self.blocking = gauge(
            "blocking_constraint",
            "1 for a foreign key of another schema that keeps such a row from being deleted",
            "constraint",
        )
        self.default_rows = gauge("unpartitioned_events", "Events stored without a partition: maintenance has not run")
        self.overdue = gauge("overdue_partitions", "Days past keeping that still hold parked or waiting events")
        self.held = gauge(
            "held_deletions", "Deletion events that are held until Clerk or a human decides: nexus-auth held list"
        )
        self.held_oldest = gauge("held_oldest_seconds", "Age of the oldest of them; from 300 on its row is hidden")
        self.distrusted = gauge(
            "distrusted_secrets", "Signing secrets whose deletions were refused: nexus-auth held list"
        )
        self.unverified = gauge(
            "unverified_deletions", "Deletions beyond an hour's share that nobody could verify, ever"
        )
        self.verifier_age = gauge(
            "verifier_age_seconds", "Since somebody who can verify held deletions was there; +Inf: never"
        )
        initialise(self.rejected, REASONS)
        for event_type, outcomes in TYPES.items():
            initialise(self.received, [event_type], outcomes)

    def show_secrets(self, fingerprints: Iterable[str]) -> None:
        """Sets the series of the secrets that are accepted now."""
        for fingerprint in fingerprints:
            self.secrets.labels(fingerprint).set(1)
            self.verified.labels(fingerprint)

    def show_backlog(self, backlog: Backlog) -> None:
        """Sets the gauges of what waits in the database."""
        self.parked.set(backlog.parked)
        self.waiting.set(backlog.waiting)
        self.burying.set(backlog.burying)
        self.default_rows.set(backlog.default_rows)
        self.overdue.set(backlog.overdue_partitions)
        self.held.set(backlog.held)
        self.held_oldest.set(backlog.held_oldest_seconds or 0)
        self.distrusted.set(backlog.distrusted_secrets)
        self.unverified.set(backlog.unverified_deletions)
        self.verifier_age.set(math.inf if backlog.verifier_seconds is None else backlog.verifier_seconds)
        self.blocking.clear()
        for constraint in backlog.blocking_constraints:
            self.blocking.labels(constraint).set(1)


TYPES: Mapping[str, Sequence[str]] = {
    **{
        f"{entity.group}.{verb}": OUTCOMES if entity.projected else ("waiting", "seen")
        for entity in ENTITIES.values()
        for verb in entity.verbs
    },
    **{f"{group}.created": ("kept", "seen") for group in sorted(MESSAGE_GROUPS)},
    "other": ("kept", "waiting", "parked", "seen"),
}
"""Types of events that have a label of their own, and what can become of each."""


def type_label(event_type: str) -> str:
    """The event's type where the catalogue knows it, else `other`: a label must not grow with what is sent."""
    return event_type if event_type in TYPES else "other"
