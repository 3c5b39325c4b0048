"""The whole way: `kubectl nexus` beside the operator's own process, with its own roles."""

import asyncio
from typing import Any

from tests.kubernetes.cli.commands import Nexus
from tests.kubernetes.operator.conftest import NAME, Stage, kube, stage  # noqa: F401 - fixtures
from tests.reconcile.conftest import make_world  # noqa: F401 - a fixture

TESTS = {"NEXUS_AUTH_ALLOW_FSYNC_OFF": "1"}


async def ask(nexus: Nexus, *arguments: str) -> Any:
    """A command beside the emulator, which lives in this loop."""
    return await asyncio.to_thread(nexus, *arguments, **TESTS)


async def test_a_lost_event_is_asked_for_found_and_shown(nexus: Nexus, stage: Stage) -> None:  # noqa: F811
    async with stage.operator():
        await stage.all(drift="Report")
        await stage.ready()
        ran = await ask(nexus, "status")
        assert ran.code == 0, ran.err
        ran = await ask(nexus, "sync", "--full", "--wait")
        assert ran.code == 1, ran
        assert "(full) completed" in ran.out
        ran = await ask(nexus, "findings", "--kind", "users", "--problem", "missing")
        assert "20 of 20 findings of the run still stand" in ran.err, ran
        await stage.kube.patch("clerksyncs", NAME, {"spec": {"drift": {"policy": "Fix"}}})
        ran = await ask(nexus, "sync", "--full", "--wait")
        assert ran.code == 0, ran
        with stage.clerk.events.silence():
            lost = stage.clerk.changes.users.create({"email_address": ["ada@example.com"]})
        ran = await ask(nexus, "sync", "--wait")
        assert ran.code == 0, ran
        assert lost.id in await stage.world.ids()
        ran = await ask(nexus, "status")
        assert ran.code == 0, ran
        assert "InSync" in ran.out


async def test_a_parked_run_is_shown_and_approved_by_name(nexus: Nexus, stage: Stage) -> None:  # noqa: F811
    async with stage.operator():
        await stage.all(deletionGuard={"floor": 0, "percent": 0})
        await stage.ready()
        gone = (await stage.world.ids())[3]
        with stage.clerk.events.silence():
            stage.clerk.changes.users.delete(gone)
        ran = await ask(nexus, "sync", "--full", "--wait")
        assert ran.code == 1
        assert "DeletionGuardTripped" in ran.err
        run = (await stage.kube.get("clerksyncs", NAME))["status"]["parkedRun"]
        ran = await ask(nexus, "approve", str(run), "--yes")
        assert ran.code == 0, ran
        await stage.kube.condition(NAME, "Ready", "True")
        assert gone in await stage.world.dead()
        approved = await stage.world.admin.fetchval("select approved_by from clerk_private.runs where id = $1", run)
        assert approved in ran.out
