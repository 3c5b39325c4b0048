"""Under load: a rolling upgrade, an upgrade that fails, a rollback. Acknowledged is stored, no endpoint is ever dead.

The control is the same upgrade without the pause before the stop: the load would see what it says is absent.
"""

import os

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.load import Load, under_load
from tests.e2e.release import NAME, Release
from tests.e2e.world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def nothing_lost(load: Load, world: World) -> None:
    """Every acknowledged event is in the inbox, and there was no answer but 204 and 503."""
    stored = await world.value(
        "select count(*) from clerk_private.inbox_seen where svix_id = any ($1::text[])", sorted(load.acknowledged)
    )
    assert stored == len(load.acknowledged) > 50
    assert load.lost == set()


def another_template(note: str) -> dict[str, object]:
    """A value that makes new pods."""
    return {"podAnnotations": {"note": note}}


async def test_a_rolling_upgrade_loses_nothing(release: Release, world: World) -> None:
    before = {uid for uid, _ in await release.incarnations("webhook")}
    async with under_load(await release.load("rolling")) as load:
        await release.upgrade(webhook=another_template("second"))
    assert not before & {uid for uid, _ in await release.incarnations("webhook")}
    await nothing_lost(load, world)
    assert load.others() == {}


async def test_without_the_pause_before_the_stop_deliveries_fail(release: Release, world: World) -> None:
    await release.upgrade(webhook={"preStopSeconds": 0})
    async with under_load(await release.load("control", pause=0.0)) as load:
        await release.upgrade(webhook={"preStopSeconds": 0, **another_template("control")})
    assert load.failures > 0
    await nothing_lost(load, world)


async def test_a_failed_upgrade_and_its_rollback_lose_nothing(release: Release, world: World) -> None:
    await release.upgrade(webhook=another_template("third"))
    async with under_load(await release.load("failed")) as load:
        missing = {
            "tag": "not-there",
            "pullPolicy": "Never",
            "repository": os.environ.get("E2E_MISSING", "localhost/no"),
        }
        failed = await release.upgrade(
            image=missing, migrations={"enabled": False}, webhook=another_template("fourth"), timeout="15s", check=False
        )
        assert failed.code != 0
        await release.rollback()
    await nothing_lost(load, world)
    assert load.others() == {}


async def test_a_failed_migration_leaves_the_release_as_it_was(release: Release, world: World) -> None:
    before = await release.incarnations("webhook")
    await world.put_secret("nowhere", url="postgresql://nobody:wrong@127.0.0.1:1/none")
    failed = await release.upgrade(
        migrations={"database": {"existingSecret": "nowhere"}, "waitSeconds": 0, "backoffLimit": 0},
        webhook=another_template("fifth"),
        timeout="60s",
        check=False,
    )
    assert failed.code != 0
    assert await release.incarnations("webhook") == before
    await release.rollback()


async def test_uninstall_leaves_what_the_readme_says(release: Release, world: World, cluster: Cluster) -> None:
    said = await release.uninstall()
    assert "These resources were kept" in said.out or "kept due to the resource policy" in said.out
    for kind in ("deployment", "service", "role", "rolebinding", "serviceaccount", "poddisruptionbudget"):
        left = await cluster.get(kind, namespace=world.namespace, selector=f"app.kubernetes.io/instance={NAME}")
        assert left == [], kind
    for kind in ("clerkinstance", "clerksync"):
        await cluster.get(kind, NAME, namespace=world.namespace)
    await cluster.get("crd", "clerksyncs.nexus-auth.dev")
    assert await world.value("select count(*) from clerk.users") > 0
