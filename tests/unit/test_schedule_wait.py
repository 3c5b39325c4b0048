"""How long a schedule may rest: until the first thing that a clock alone makes due. Every kind has its own times."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nexus_auth.reconcile.policy import SyncPolicy
from nexus_auth.store.history import History, KindHistory
from services.reconciler.manifests import SecretRef, SyncManifest
from services.reconciler.schedule import AGAIN_AT_MOST, AGAIN_SECONDS, due, wait

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
SYNC = SyncManifest(
    name="main",
    instance="main",
    database=SecretRef("database", "url"),
    policy=SyncPolicy("main", drift="Fix", kinds=("user", "organization"), verify_after=60.0),
    interval=600.0,
    full_sweep_intervals={"user": 86_400.0, "organization": 3_600.0},
    deep_sweep_interval=604_800.0,
    suspend=False,
    controller_class="",
)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


WELL = KindHistory(looked_at=ago(60), full_at=ago(60), first_full_at=ago(60), deep_at=ago(60))
"""A minute after a full sweep and a look that went well."""


def history(user: KindHistory = WELL, organization: KindHistory = WELL) -> History:
    return History(now=NOW, kinds={"user": user, "organization": organization})


def of(**changes: Any) -> KindHistory:
    return replace(WELL, **changes)


NEVER = KindHistory()


@pytest.mark.parametrize(
    ("so_far", "seconds"),
    [
        (history(), 540.0),  # the interval
        (history(of(looked_at=None)), 0.0),
        (history(of(looked_at=ago(700))), 0.0),
        (history(NEVER, NEVER), 0.0),
        (
            history(*[KindHistory(looked_at=ago(5), failures=1, failed_at=ago(10))] * 2),
            AGAIN_SECONDS - 10,
        ),
        (history(organization=of(full_at=None, first_full_at=None, deep_at=None)), 0.0),  # one kind was never swept
        (history(of(full_at=ago(86_300))), 100.0),
        (history(organization=of(full_at=ago(3_590))), 10.0),
        (history(of(full_at=ago(90_000))), 0.0),
        (history(of(deep_at=ago(604_700))), 100.0),
        (history(of(deep_at=None)), 540.0),  # the first deep sweep waits from the first full one
        (history(of(deep_at=None, first_full_at=ago(604_900))), 0.0),
        (history(of(deep_at=ago(700_000), failures=1, failed_at=ago(20))), AGAIN_SECONDS - 20),
        (history(of(deep_at=ago(700_000), failures=2, failed_at=ago(20))), 2 * AGAIN_SECONDS - 20),
        (history(of(deep_at=ago(700_000), failures=3, failed_at=ago(20))), 4 * AGAIN_SECONDS - 20),
        (history(of(counts_differ=True)), 0.0),
        (history(of(counts_differ=True, failures=1, failed_at=ago(1))), AGAIN_SECONDS - 1),
        (history(of(counts_doubted_at=ago(60))), 0.0),
        (history(of(counts_doubted_at=ago(30), looked_at=ago(30))), 30.0),
        (history(of(counts_doubted_at=ago(90), looked_at=ago(70))), 0.0),
        (history(*[of(counts_doubted_at=ago(90), looked_at=ago(20))] * 2), 580.0),  # the second look was taken
        (
            history(of(counts_doubted_at=ago(90), looked_at=ago(70), look_failures=1, look_failed_at=ago(15))),
            AGAIN_SECONDS - 15,
        ),
        (history(of(next_doubt_at=NOW + timedelta(seconds=33))), 33.0),
        (history(of(next_doubt_at=ago(3), doubts_due=True)), 0.0),
    ],
)
def test_how_long_nothing_is_due(so_far: History, seconds: float) -> None:
    assert wait(SYNC, so_far) == pytest.approx(seconds)
    assert (due(SYNC, so_far) is not None) == (seconds == 0.0)


def test_retries_of_one_kind_grow_and_hold_no_other_up() -> None:
    """A deep sweep one of whose lists stays incomplete does not start over every minute, and ends for the others."""
    late = {"deep_at": ago(700_000), "first_full_at": ago(700_000)}
    stuck = of(**late, failures=5, failed_at=ago(AGAIN_AT_MOST - 10))
    first = due(SYNC, history(of(**late), stuck))
    assert first is not None
    assert (first.mode, first.policy.kinds) == ("deep", ("user",))
    assert due(SYNC, history(WELL, stuck)) is None
    pauses = [
        wait(SYNC, history(of(looked_at=NOW), of(**late, looked_at=NOW, failures=failures, failed_at=NOW)))
        for failures in (1, 2, 3)
    ]
    assert pauses == [AGAIN_SECONDS, 2 * AGAIN_SECONDS, 4 * AGAIN_SECONDS]


def test_a_sweep_that_was_not_finished_goes_on_first_with_what_else_is_due_for_it() -> None:
    chosen = due(SYNC, history(of(running="full"), of(full_at=ago(4_000))))
    assert chosen is not None
    assert (chosen.mode, chosen.reason, chosen.policy.kinds) == ("full", "resumed", ("user", "organization"))


def test_a_mark_of_the_webhook_service_asks_for_the_kinds_that_have_not_been_looked_at_since() -> None:
    chosen = due(SYNC, history(organization=of(requested=True)))
    assert chosen is not None
    assert (chosen.mode, chosen.reason) == ("incremental", "events may have been missed")
    assert chosen.policy.kinds == ("organization",)
    assert chosen.policy.everything == ("user", "organization")
