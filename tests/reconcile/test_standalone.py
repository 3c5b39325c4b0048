"""The standalone reconciler: nothing of it ends unseen, and Secrets are read again."""

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from nexus_auth.reconcile.engine import Result, SweepResult
from services.reconciler.metrics import ReconcilerMetrics
from services.reconciler.standalone.__main__ import Reconciler as Standalone
from services.reconciler.standalone.settings import StandaloneSettings
from tests.process import SECONDS
from tests.reconcile.conftest import MakeWorld
from tests.reconcile.process import Reconciler, api_host, write_manifests
from tests.reconcile.world import World


async def completed(world: World, *, runs: int) -> None:
    """Returns once so many full runs have completed."""
    deadline = time.monotonic() + SECONDS
    while True:
        rows = await world.admin.fetch("select kind, mode, state, message from clerk_private.runs order by id")
        if sum(row["mode"] == "full" and row["state"] == "completed" for row in rows) >= runs:
            return
        assert time.monotonic() < deadline, rows
        await asyncio.sleep(0.05)


async def test_a_key_that_was_changed_in_its_file_is_used_at_once(make_world: MakeWorld, tmp_path: Path) -> None:
    world = await make_world(users=5, organizations=1, memberships=2)
    write_manifests(tmp_path, clerk=world.clerk, database=world.database)
    key = tmp_path / "secrets" / "clerk" / "secretKey"
    right = key.read_text()
    key.write_text("sk_test_of_somebody_else")
    async with Reconciler(tmp_path, name="one") as process:
        await process.said("refused the key with 401")
        key.write_text(right)
        await completed(world, runs=3)
    assert await world.differs() == []


async def test_every_task_that_ends_is_said_and_begun_again(
    make_world: MakeWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = await make_world(users=5, organizations=1, memberships=2)
    write_manifests(tmp_path, clerk=world.clerk, database=world.database)
    settings = StandaloneSettings(
        manifests=tmp_path / "manifests.yaml",
        secrets_dir=tmp_path / "secrets",
        role_prefix=world.database.role_prefix,
        health_port=0,
        look_seconds=0.05,
        verify_after=0.0,
        allow_fsync_off=True,
        api_hosts=api_host(tmp_path),
    )
    process = Standalone(settings)
    with caplog.at_level(logging.INFO):
        running = asyncio.create_task(process.run())
        await completed(world, runs=3)
        names = {"manifests", "sync main"}
        assert {task.get_name() for task in asyncio.all_tasks()} >= names
        for name in sorted(names):
            (old,) = [task for task in asyncio.all_tasks() if task.get_name() == name]
            old.cancel()
            deadline = time.monotonic() + SECONDS
            while not [t for t in asyncio.all_tasks() if t.get_name() == name and t is not old]:
                assert time.monotonic() < deadline, f"{name} was not begun again"
                await asyncio.sleep(0.02)
            said = [r for r in caplog.records if "task ended" in r.getMessage() and getattr(r, "task", "") == name]
            assert said, name
        await world.admin.execute("delete from clerk_private.runs")
        await completed(world, runs=3)
        process._stop.set()
        assert await running == 0


def test_parked_is_1_for_as_long_as_something_waits() -> None:
    registry = CollectorRegistry()
    metrics = ReconcilerMetrics(registry)

    def ended(state: str, *, waits_for: int | None, waiting: int) -> Any:
        run = Result(7, 1, "user", "incremental", state, None, waits_for=waits_for)
        metrics.ended(SweepResult(1, "incremental", (run,)), sync="main", waiting=waiting)
        return registry.get_sample_value("nexus_auth_sync_parked", {"sync": "main"})

    assert ended("parked", waits_for=7, waiting=1) == 1
    assert ended("completed", waits_for=None, waiting=1) == 1  # a look that found nothing new
    assert ended("completed", waits_for=None, waiting=0) == 0
