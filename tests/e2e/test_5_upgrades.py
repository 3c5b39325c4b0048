"""Under load: a rolling upgrade, an upgrade that fails, a rollback. Acknowledged is stored, no endpoint is ever dead.

Each has a control that loses: without the pause before the stop, and with pods that go before others are ready.
"""

import os

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.figures import Figures
from tests.e2e.load import nothing_lost, under_load
from tests.e2e.release import NAME, Release
from tests.e2e.world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")


def another_template(note: str) -> dict[str, object]:
    """A value that makes new pods."""
    return {"podAnnotations": {"note": note}}


async def test_a_rolling_upgrade_and_its_rollback_lose_nothing(
    release: Release, world: World, figures: Figures
) -> None:
    before = {uid for uid, _ in await release.incarnations("webhook")}
    async with under_load(await release.load("rolling")) as load:
        await release.upgrade(webhook=another_template("second"))
        between = {uid for uid, _ in await release.incarnations("webhook")}
        await release.rollback()
    after = {uid for uid, _ in await release.incarnations("webhook")}
    assert not before & between
    assert not between & after
    figures.met("upgrade and rollback", load, rows=await nothing_lost(load, world))
    assert load.others() == ""


async def test_without_the_pause_before_the_stop_deliveries_fail(
    release: Release, world: World, figures: Figures
) -> None:
    await release.upgrade(webhook={"preStopSeconds": 0})
    async with under_load(await release.load("control", pause=0.0), senders=16) as load:
        await release.upgrade(webhook={"preStopSeconds": 0, **another_template("control")})
        await release.rollback()
    assert load.failures > 0
    figures.met("  control: no preStop", load, rows=await nothing_lost(load, world))


async def test_a_failed_upgrade_and_its_rollback_lose_nothing(release: Release, world: World, figures: Figures) -> None:
    await release.upgrade(webhook=another_template("third"))
    before = await release.incarnations("webhook")
    async with under_load(await release.load("failed")) as load:
        await fail_to_upgrade(release)
        assert before <= await release.incarnations("webhook")
        await release.rollback()
    figures.met("failed upgrade and rollback", load, rows=await nothing_lost(load, world))
    assert load.others() == ""


async def test_where_pods_go_before_others_are_ready_a_failed_upgrade_is_an_outage(
    release: Release, world: World, figures: Figures
) -> None:
    recreate = {"strategy": {"type": "Recreate", "rollingUpdate": None}}
    await release.upgrade(webhook=recreate)
    once = await release.load("outage", again=False)
    async with under_load(await release.load("recreate")) as load, under_load(once):
        await fail_to_upgrade(release, **recreate)
        assert load.failures > 0
        await release.rollback()
    figures.met("  control: Recreate", load, rows=await nothing_lost(load, world))
    figures.met("  control: Recreate, once only", once, rows=len(once.acknowledged))
    assert once.lost


async def fail_to_upgrade(release: Release, **webhook: object) -> None:
    """An upgrade to an image that is not there."""
    missing = {"tag": "not-there", "pullPolicy": "Never", "repository": os.environ.get("E2E_MISSING", "localhost/no")}
    failed = await release.upgrade(
        image=missing,
        migrations={"enabled": False},
        webhook={**webhook, **another_template("fourth")},
        timeout="15s",
        check=False,
    )
    assert failed.code != 0


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
