"""How long a schedule may rest: until the first thing that a clock alone makes due."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nexus_auth.reconcile.policy import SyncPolicy
from nexus_auth.store.history import History
from services.reconciler.manifests import SecretRef, SyncManifest
from services.reconciler.schedule import AGAIN_SECONDS, due, wait

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


def history(**of: Any) -> History:
    """A minute after a full sweep and a look that went well."""
    full = ago(60).timestamp()
    usual: dict[str, Any] = {
        "now": NOW,
        "incremental_at": ago(60),
        "deep_at": ago(60),
        "full_at": {"user": full, "organization": full},
        "failed_at": None,
        "in_vain_at": None,
        "running": None,
        "counts_differ": (),
        "counts_doubted_at": None,
        "approved": False,
        "doubts_due": False,
        "requested_at": None,
    }
    return History(**(usual | of))


NEVER: dict[str, Any] = {"incremental_at": None, "deep_at": None, "full_at": {}}


@pytest.mark.parametrize(
    ("of", "seconds"),
    [
        ({}, 540.0),  # the interval
        ({"incremental_at": None}, 0.0),
        ({"incremental_at": ago(700)}, 0.0),
        (NEVER, 0.0),
        (NEVER | {"incremental_at": ago(5), "failed_at": ago(10)}, AGAIN_SECONDS - 10),
        ({"full_at": {"user": ago(60).timestamp()}}, 0.0),  # one kind was never swept
        ({"full_at": {"user": ago(86_300).timestamp(), "organization": ago(60).timestamp()}}, 100.0),
        ({"full_at": {"user": ago(60).timestamp(), "organization": ago(3_590).timestamp()}}, 10.0),
        ({"full_at": {"user": ago(90_000).timestamp(), "organization": ago(60).timestamp()}}, 0.0),
        ({"deep_at": ago(604_700)}, 100.0),
        ({"deep_at": None}, 540.0),  # the first deep sweep waits from the oldest full one
        ({"deep_at": ago(700_000), "failed_at": ago(20)}, AGAIN_SECONDS - 20),
        ({"counts_differ": ("user",)}, 0.0),
        ({"counts_differ": ("user",), "failed_at": ago(1)}, AGAIN_SECONDS - 1),
        ({"counts_differ": ("organization_membership",)}, 540.0),  # not of this sync
        ({"counts_doubted_at": ago(60)}, 0.0),
        ({"counts_doubted_at": ago(30), "incremental_at": ago(30)}, 30.0),
        ({"counts_doubted_at": ago(90), "incremental_at": ago(70)}, 0.0),
        ({"counts_doubted_at": ago(90), "incremental_at": ago(20)}, 580.0),  # the second look was taken
        ({"counts_doubted_at": ago(90), "incremental_at": ago(70), "in_vain_at": ago(15)}, AGAIN_SECONDS - 15),
    ],
)
def test_how_long_nothing_is_due(of: dict[str, Any], seconds: float) -> None:
    so_far = history(**of)
    assert wait(SYNC, so_far) == pytest.approx(seconds)
    assert (due(SYNC, so_far) is not None) == (seconds == 0.0)
