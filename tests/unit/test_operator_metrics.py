"""The operator's metrics by Prometheus' conventions: series exist before their first event and go with their object."""

from prometheus_client import generate_latest

from nexus_auth.telemetry.metrics import new_registry
from services.reconciler.operator.metrics import OperatorMetrics

AT = ("ns", "app")


def test_every_counter_has_its_series_before_its_first_event_and_none_is_created() -> None:
    registry = new_registry(service="operator")
    metrics = OperatorMetrics(registry)
    metrics.spec(AT, instance="main", policy="Fix", suspend=False, interval=600.0)
    text = generate_latest(registry).decode()
    for series in (
        'nexus_auth_reconcile_total{controller="clerksyncs",result="error"} 0.0',
        'nexus_auth_internal_errors_total{controller="clerkinstances"} 0.0',
        'nexus_auth_sync_runs_total{mode="full",name="app",namespace="ns",state="failed"} 0.0',
        'nexus_auth_sync_repairs_total{action="tombstoned",name="app",namespace="ns",resource="users"} 0.0',
        'nexus_auth_sync_deletions_blocked_total{name="app",namespace="ns"} 0.0',
        "process_cpu_seconds_total",
        'nexus_auth_build_info{service="operator",version="',
    ):
        assert series in text, series
    assert "_created" not in text


def test_an_objects_series_go_with_it() -> None:
    registry = new_registry(service="operator")
    metrics = OperatorMetrics(registry)
    metrics.spec(AT, instance="main", policy="Fix", suspend=False, interval=600.0)
    metrics.ran(AT, instance="main", mode="full", state="completed", requests=3)
    metrics.forget(AT)
    assert 'name="app"' not in generate_latest(registry).decode()
