"""plan and findings: what they read is in Postgres and at Clerk, reached by the Secrets that the objects name."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from devtools.postgres import Database, create_database, drop_database
from nexus_auth.reconcile.policy import SyncPolicy
from tests.commandline import change, rows
from tests.kubernetes.cli.commands import Nexus, Objects, drifted
from tests.reconcile.conftest import make_world  # noqa: F401 - a fixture
from tests.reconcile.world import World

TESTS = {"NEXUS_AUTH_ALLOW_FSYNC_OFF": "1"}
REPORT = SyncPolicy("app", drift="Report", settle=0)


@pytest.fixture
async def world(make_world: Callable[..., Awaitable[World]], objects: Objects) -> World:  # noqa: F811
    """A Clerk of twenty users, an empty mirror, and the objects that join them."""
    opened = await make_world()
    objects.secret("clerk", secret_key=opened.clerk.secret_key)
    objects.secret("database", url=opened.database.url("reconciler"))
    objects.instance(apiUrl=opened.clerk.api_url, budgetPercent=100)
    objects.sync()
    return opened


async def ask(nexus: Nexus, *arguments: str, world: World) -> Any:
    """A command beside the emulator, which lives in this loop."""
    return await asyncio.to_thread(nexus, *arguments, **TESTS, NEXUS_AUTH_API_HOSTS=world.clerk.api_url)


async def test_a_plan_says_what_a_repair_would_do_and_writes_nothing(nexus: Nexus, world: World) -> None:
    ran = await ask(nexus, "plan", "--output", "json", world=world)
    assert ran.code == 1, ran.err
    assert ran.json()["kinds"]["user"]["insert"] == 20
    assert "kubectl nexus sync app --full with spec.drift.policy Fix repairs it" in ran.err
    assert await world.ids() == []
    assert (await world.sweep(SyncPolicy("app", drift="Fix", settle=0))).state == "completed"
    ran = await ask(nexus, "plan", world=world)
    assert ran.code == 0, ran.err


async def test_a_plan_keeps_to_the_resources_of_the_sync(nexus: Nexus, world: World, objects: Objects) -> None:
    objects.sync("users", resources=[{"name": "users"}])
    ran = await ask(nexus, "plan", "users", "--output", "json", world=world)
    assert list(ran.json()["kinds"]) == ["user"]


async def test_a_plan_with_the_key_of_nobody_ends_with_4(nexus: Nexus, world: World, objects: Objects) -> None:
    objects.secret("wrong", secret_key="sk_test_nobodys")
    objects.instance("wrong", apiUrl=world.clerk.api_url, secretKeyRef={"name": "wrong"})
    objects.sync("other", instanceRef={"name": "wrong"})
    ran = await ask(nexus, "plan", "other", world=world)
    assert ran.code == 4, ran
    assert "sk_test_nobodys" not in ran.err


async def test_a_plan_spends_the_budget_of_the_state_database(
    nexus: Nexus, world: World, objects: Objects, postgres: Any, template: Database
) -> None:
    name = f"nexus_auth_state_{secrets.token_hex(4)}"
    create_database(postgres.admin_url(), name, template=template.name)
    state = template.of(name)
    try:
        objects.secret("state", url=state.url("reconciler"))
        ref = {"secretRef": {"name": "state"}}
        objects.instance("apart", apiUrl=world.clerk.api_url, budgetPercent=50, stateDatabase=ref)
        objects.sync("other", instanceRef={"name": "apart"})
        budget = "select b::text from clerk_private.budget b"
        other = rows(world.database, budget)
        await ask(nexus, "plan", "other", "--output", "json", world=world)
        assert rows(state, budget) == []  # a plan writes nothing: it opens no budget
        change(
            state,
            "insert into clerk_private.budget (instance_id, per_second, burst, tokens)"
            f" values ('{world.clerk.instance_id}', 40, 30, 30)",
        )
        opened = rows(state, budget)
        ran = await ask(nexus, "plan", "other", "--output", "json", world=world)
        assert ran.json()["kinds"]["user"]["insert"] == 20, ran.err
        assert rows(state, budget) != opened
        assert rows(world.database, budget) == other
    finally:
        drop_database(postgres.admin_url(), name)


async def test_findings_are_read_in_the_database_of_the_sync(nexus: Nexus, world: World) -> None:
    await world.sweep(REPORT)
    await world.sweep(SyncPolicy("someone-elses", drift="Report", settle=0))
    ran = await ask(nexus, "findings", "--kind", "users", "--output", "json", world=world)
    assert ran.code == 1, ran.err
    found = ran.json()
    assert {row["sync"] for row in found} == {"app"}
    assert len(found) == 20
    assert "20 of 20 were left standing" in ran.err


async def test_a_secret_or_key_that_is_missing_is_named(nexus: Nexus, world: World, objects: Objects) -> None:
    objects.sync("no-secret", database={"secretRef": {"name": "nowhere"}})
    objects.sync("no-key", database={"secretRef": {"name": "database", "key": "uri"}})
    ran = await ask(nexus, "findings", "no-secret", world=world)
    assert ran.code == 5
    assert 'secrets "nowhere" not found' in ran.err
    assert "--from-status" in ran.err
    ran = await ask(nexus, "findings", "no-key", world=world)
    assert f"Secret database in namespace {objects.namespace} has no key uri (it has: url)" in ran.err


async def test_a_database_out_of_reach_ends_with_3_and_shows_the_way(nexus: Nexus, objects: Objects) -> None:
    objects.secret("database", url="postgresql://login:planted@127.0.0.1:1/app")
    objects.sync(status=drifted("user_1", "user_2", total=2))
    ran = await ask(nexus, "findings", world=world)
    assert ran.code == 3, ran
    assert "--from-status shows the first twenty without the database" in ran.err
    assert "planted" not in ran.err
    ran = await ask(nexus, "findings", "--from-status", "--limit", "1", world=world)
    assert ran.code == 1
    assert "user_1" in ran.out
    assert "user_2" not in ran.out
    assert "2 objects differ, 1 shown" in ran.err


async def test_a_plan_sends_the_key_to_no_host_that_is_not_listed(nexus: Nexus, world: World) -> None:
    """Your rights read the Secret, but whoever edits the ClerkInstance chose the address."""
    ran = await asyncio.to_thread(nexus, "plan", **TESTS)
    assert ran.code == 2, ran
    assert "which is not among the hosts that the API key may be sent to" in ran.err
    assert world.clerk.requests.total == 0
