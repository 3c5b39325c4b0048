"""Reconcilers that are killed or frozen at named places: a successor goes on and repairs once."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.process import SECONDS
from tests.reconcile.conftest import MakeWorld
from tests.reconcile.process import Reconciler, write_manifests
from tests.reconcile.world import World

PLACES = ("run.led", "sweep.repairing", "sweep.repaired", "sweep.burying")


async def damaged(make_world: MakeWorld) -> tuple[World, str]:
    """A mirror in step, then one user updated and one deleted, of which no event came."""
    world = await make_world(users=40, organizations=2, memberships=10)
    await world.sweep()
    await world.admin.execute("delete from clerk_private.runs")
    await world.admin.execute("create table public.writes (id text, n bigserial)")
    await world.admin.execute(
        "create function public.note_write() returns trigger language plpgsql security definer as"
        " $$ begin insert into public.writes (id) values (new.id); return null; end $$;"
        " create trigger note_write after insert or update on clerk_private.objects for each row"
        " execute function public.note_write()"
    )
    updated, gone = (await world.ids())[3:5]
    with world.clerk.events.silence():
        world.clerk.changes.users.update(updated, {"first_name": "Newer"})
        world.clerk.changes.users.delete(gone)
    return world, updated


async def completed(world: World) -> None:
    """Returns once every kind had a full run and an incremental one that ended well, and no read is due any more."""
    deadline = time.monotonic() + SECONDS
    while True:
        rows = await world.admin.fetch("select kind, mode, state, message from clerk_private.runs order by id")
        ended = {(row["kind"], row["mode"]) for row in rows if row["state"] == "completed"}
        queued = await world.admin.fetchval("select count(*) from clerk_private.verify_queue")
        if len(ended) == 6 and not queued and all(row["state"] == "completed" for row in rows):
            return
        assert time.monotonic() < deadline, rows
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("place", PLACES)
async def test_a_run_that_was_killed_is_resumed_and_repairs_once(
    make_world: MakeWorld, tmp_path: Path, place: str
) -> None:
    world, updated = await damaged(make_world)
    write_manifests(tmp_path, clerk=world.clerk, database=world.database)
    points = tmp_path / "points"
    points.mkdir()
    (points / place).touch()
    async with Reconciler(tmp_path, name="first", failpoints=points) as first:
        await first.reached(place)
        await first.kill()
    async with Reconciler(tmp_path, name="second"):
        await completed(world)
    rows = await world.admin.fetch("select kind, epoch, state from clerk_private.runs where epoch > 1")
    assert [tuple(row) for row in rows] == [("user", 2, "completed")]
    assert await world.admin.fetchval("select count(*) from public.writes where id = $1", updated) == 1
    assert await world.differs() == []
    full = await world.admin.fetchval("select id from clerk_private.runs where mode = 'full' and kind = 'user'")
    assert (await world.findings(full))[updated] == ("stale", "repaired")


async def test_a_leader_that_was_frozen_writes_nothing_once_another_leads(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    """Frozen right after a repair; its lock is gone with its connection, its pool has others that still work."""
    world, _ = await damaged(make_world)
    write_manifests(tmp_path, clerk=world.clerk, database=world.database)
    points = tmp_path / "points"
    points.mkdir()
    (points / "sweep.repaired").touch()
    async with Reconciler(tmp_path, name="first", failpoints=points) as first:
        await first.reached("sweep.repaired")
        first.freeze()
        (points / "sweep.repaired").unlink()
        await world.admin.execute(
            "select pg_terminate_backend(l.pid) from pg_locks l where l.locktype = 'advisory'"
            " and l.classid = 1852143991 and l.database ="
            " (select oid from pg_database where datname = current_database())"
        )
        async with Reconciler(tmp_path, name="second"):
            await completed(world)
            before = await world.dump()
            first.thaw()
            await first.said("is not in epoch")
            assert await world.dump() == before
    assert await world.differs() == []
