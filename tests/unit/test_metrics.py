"""What the metrics of every service have in common, and that the webhook's series are there from the start."""

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from nexus_auth.telemetry.metrics import initialise, new_registry
from services.webhook.metrics import REASONS, TYPES, WebhookMetrics, type_label


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = new_registry(service="webhook")
    WebhookMetrics(registry)
    return registry


def test_a_process_tells_its_version_its_memory_and_no_moment_of_creation(registry: CollectorRegistry) -> None:
    for generate in (generate_latest, openmetrics.generate_latest):
        text = generate(registry).decode()
        assert "_created" not in text
        assert 'nexus_auth_build_info{service="webhook",version="' in text
        for name in ("process_resident_memory_bytes", "process_open_fds", "python_gc_objects_collected_total"):
            assert f"\n{name}" in text


def test_every_reason_and_every_type_has_its_series_before_the_first_event(registry: CollectorRegistry) -> None:
    for reason in REASONS:
        assert registry.get_sample_value("nexus_auth_webhook_rejected_total", {"reason": reason}) == 0
    for event_type, outcomes in TYPES.items():
        for outcome in outcomes:
            labels = {"type": event_type, "outcome": outcome}
            assert registry.get_sample_value("nexus_auth_webhook_received_total", labels) == 0, labels


def test_types_that_the_catalogue_does_not_know_share_one_label() -> None:
    assert [type_label(name) for name in ("user.created", "session.ended", "sms.created")] == [
        "user.created",
        "session.ended",
        "sms.created",
    ]
    assert {type_label(name) for name in ("galaxy.created", "user.exploded", "", "user", "email.resent")} == {"other"}


def test_every_combination_of_label_values_gets_a_series() -> None:
    registry = CollectorRegistry()
    initialise(Counter("runs", "Runs", ["mode", "state"], registry=registry), ["full", "deep"], ["failed"])
    assert registry.get_sample_value("runs_total", {"mode": "deep", "state": "failed"}) == 0
