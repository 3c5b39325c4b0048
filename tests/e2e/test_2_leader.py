"""The leader's pod is killed while its sweep stands in the middle: another leads, and goes on with the same run.

In the transaction that repairs, nothing of it may stay; after that transaction, nothing may be done again. The second
is also the control of the first: what is committed is seen where the first looks and sees nothing.
"""

import asyncio
import itertools
import json
import time

import asyncpg
import pytest

from tests.e2e.cluster import Cluster, until
from tests.e2e.figures import Figures
from tests.e2e.release import NAME, Release
from tests.e2e.world import FAILPOINTS, World

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def hold(release: Release, *, at: str) -> str:
    """Stops the leader in a sweep; answers its pod.

    A sweep leaves the last five seconds before it to the next one: the first may find nothing to repair.
    """
    leader = await release.leader()
    await release.exec(leader, "touch", f"{FAILPOINTS}/{at}")

    async def reached() -> bool:
        return f"{at}." in await release.exec(leader, "ls", FAILPOINTS)

    for attempt in itertools.count():
        assert attempt < 30, f"no sweep came to {at}"
        request = f"full@{at}{attempt}"
        await release.ask(request)

        async def reached_or_over(request: str = request) -> bool:
            return await reached() or await release.answered(request)

        await until(reached_or_over, seconds=60, what=f"the sweep that {request} asks for")
        if await reached():
            return leader
    raise AssertionError


@pytest.mark.parametrize(("at", "written"), [("sweep.repairing", False), ("sweep.repaired", True)])
async def test_the_leader_is_killed_in_mid_sweep_and_another_ends_its_run(
    release: Release, world: World, cluster: Cluster, figures: Figures, at: str, written: bool
) -> None:
    lost = await world.lost_user(at)
    leader = await hold(release, at=at)
    run = json.loads(await world.value("select to_jsonb(r) from clerk_private.runs r where state = 'running'"))
    assert run["holder"].partition("_")[0] == leader

    watching = await asyncpg.connect(world.database.admin_url)
    try:
        async with watching.transaction():
            # The fence's lock is the transaction's that is held: we have ours when that one is over, and before anybody
            # else can take the run.
            over = asyncio.create_task(
                watching.fetchval("select epoch from clerk_private.runs where id = $1 for update", run["id"])
            )
            waits = "select wait_event_type = 'Lock' from pg_stat_activity where pid = $1"
            pid = watching.get_server_pid()

            async def in_line() -> bool:
                return await world.value(waits, pid) is True

            if written:
                await asyncio.wait_for(asyncio.shield(over), 30)
            else:
                await until(in_line, seconds=30, what="the run's lock")
                assert not over.done()
            killed = time.monotonic()
            await cluster.kubectl("delete", "pod", leader, *world.where, "--grace-period=0", "--force")
            assert await asyncio.wait_for(over, 60) == run["epoch"]
            assert await watching.fetchval("select exists (select from clerk.users where id = $1)", lost) == written
    finally:
        await watching.close()

    async def another_leads() -> bool:
        return await release.leader() not in ("", leader)

    await until(another_leads, seconds=60, what="another leader")
    figures.took(f"leader killed at {at} to another one leading", time.monotonic() - killed)
    await until(lambda: ended(world, run["id"]), seconds=60, what="the end of the run")
    await until(release.pods_ready, seconds=60, what="a pod in the killed one's place")
    now = json.loads(await world.value("select to_jsonb(r) from clerk_private.runs r where id = $1", run["id"]))
    assert (now["state"], now["epoch"]) == ("completed", run["epoch"] + 1)
    assert now["holder"].partition("_")[0] not in ("", leader)
    assert await world.live(lost)
    repaired = "select count(*) from clerk_private.findings where id = $1 and action = 'repaired'"
    assert await world.value(repaired, lost) == 1
    later = "select count(*) from clerk_private.runs where mode = 'full' and sweep_id > $1"
    assert await world.value(later, run["sweep_id"]) == 0
    overlapping = (
        "select count(*) from clerk_private.runs a join clerk_private.runs b on a.id < b.id and a.sync = b.sync"
        " and tstzrange(a.started_at, a.finished_at) && tstzrange(b.started_at, b.finished_at)"
    )
    assert await world.value(overlapping) == 0


async def ended(world: World, run: int) -> bool:
    """Whether a run is over."""
    return bool(await world.value("select state <> 'running' from clerk_private.runs where id = $1", run))


async def test_the_sync_is_in_step_after_it_all(release: Release, world: World, cluster: Cluster) -> None:
    await cluster.kubectl("wait", f"clerksync/{NAME}", *world.where, "--for=condition=Ready", "--timeout=60s")
    assert await release.pods_ready()
