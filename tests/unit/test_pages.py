"""README, runbook and the pages beside them: links lead somewhere, and the runbook has an entry for each metric."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.reconciler.metrics import ReconcilerMetrics
from services.reconciler.operator.metrics import OperatorMetrics
from services.webhook.metrics import WebhookMetrics

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")

FIGURES = {
    *("received_total", "verified_total", "secret_loaded", "examples_total", "event_lag_seconds", "waiting_events"),
    *("batch_duration_seconds", "batch_rows", "clock_skew_seconds"),
    *("k8s_requests_total", "watch_restarts_total", "reconcile_total", "reconcile_duration_seconds", "build_info"),
    *("sync_schedule_delay_seconds", "sync_info", "sync_suspended", "sync_interval_seconds", "sync_repairs_total"),
    *("sync_clerk_requests_total",),
}
"""Metrics that nobody is paged for. A new metric belongs here or into the runbook."""


def metrics_of(of: Callable[[CollectorRegistry], object]) -> set[str]:
    registry = CollectorRegistry()
    of(registry)
    ends = {"counter": "_total", "info": "_info"}
    return {family.name + ends.get(family.type, "") for family in registry.collect()}


METRICS = {
    *metrics_of(WebhookMetrics),
    *metrics_of(ReconcilerMetrics),
    *metrics_of(lambda registry: OperatorMetrics(registry)),
    *("nexus_auth_task_running", "nexus_auth_task_failures_total"),
}


def test_the_runbook_has_an_entry_for_each_metric_that_is_worth_an_alert() -> None:
    headings = set(re.findall(r"^## (nexus_auth_\w+)$", RUNBOOK, re.MULTILINE))
    figures = {name for name in METRICS if re.sub(r"^nexus_auth_(webhook_)?", "", name) in FIGURES}
    assert METRICS - figures - headings == set(), "an entry is missing, or they are mere figures"
    assert headings - METRICS == set(), "no such metric"
    assert headings & figures == set(), "worth an alert, or not?"


def test_the_runbook_names_every_metric_in_full() -> None:
    named = set(re.findall(r"`(nexus_auth_\w+)", RUNBOOK))
    assert named - METRICS == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text("utf-8")):
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{target} leads nowhere"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{target}: no such heading"


def anchors(page: Path) -> set[str]:
    """As GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
