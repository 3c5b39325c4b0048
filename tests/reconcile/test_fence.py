"""Who has lost the lead writes nothing more, whatever it still has in hand."""

import asyncio
import time
from typing import Any

import asyncpg
import pytest

from nexus_auth.reconcile.engine import Fenced
from nexus_auth.store import runs
from nexus_auth.store.runs import Run
from tests.reconcile.conftest import MakeWorld
from tests.reconcile.world import FIX, World

SECONDS = 15.0


async def lead(world: World, holder: str) -> Run:
    return await runs.lead(
        world.pool, sync=FIX.name, kind="user", mode="full", policy="Fix", sweep_id=1_000, holder=holder
    )


async def waits_for_a_lock(world: World, *, statement: str) -> None:
    """Returns once a backend of the database waits for a lock in such a statement."""
    deadline = time.monotonic() + SECONDS
    while not await world.admin.fetchval(
        "select exists (select from pg_stat_activity where datname = current_database()"
        " and wait_event_type = 'Lock' and query like $1)",
        f"%{statement}%",
    ):
        assert time.monotonic() < deadline, statement
        await asyncio.sleep(0.01)


async def test_a_second_leader_fences_the_first(world: World) -> None:
    first = await lead(world, "first")
    second = await lead(world, "second")
    assert (second.id, second.epoch, second.resumed) == (first.id, first.epoch + 1, True)
    with pytest.raises(Fenced):
        async with runs.writing(world.pool, first):
            pytest.fail("the fence let it pass")
    with pytest.raises(Fenced):
        await runs.finish(world.pool, first, state="completed", message=None, requests=0)
    async with runs.writing(world.pool, second):
        pass


async def test_a_takeover_waits_for_what_has_passed_the_fence(world: World) -> None:
    first = await lead(world, "first")
    async with runs.writing(world.pool, first) as connection:
        takeover = asyncio.create_task(lead(world, "second"))
        await waits_for_a_lock(world, statement="update clerk_private.runs set epoch")
        assert not takeover.done()
        await runs.save(connection, first, requests=1)
    assert (await takeover).epoch == first.epoch + 1


async def test_two_transactions_of_a_run_do_not_wait_for_each_other_for_ever(world: World) -> None:
    """One has passed the fence and works, the other wants to save, and a takeover stands in line behind both."""
    run = await lead(world, "first")

    async def save() -> None:
        async with runs.writing(world.pool, run, changes_run=True) as connection:
            await runs.save(connection, run, requests=1)

    async with runs.writing(world.pool, run) as connection:
        saving = asyncio.create_task(save())
        await waits_for_a_lock(world, statement="for no key update")
        again = asyncio.create_task(save())
        await connection.execute("select pg_sleep(0)")
    await asyncio.wait_for(asyncio.gather(saving, again), SECONDS)


async def test_a_transaction_that_lost_a_deadlock_is_made_again(world: World) -> None:
    run = await lead(world, "first")
    tries = []

    async def work(connection: Any) -> str:
        tries.append(await connection.fetchval("select txid_current()"))
        if len(tries) < 3:
            raise asyncpg.DeadlockDetectedError if len(tries) == 1 else asyncpg.SerializationError
        return "written"

    assert await runs.write(world.pool, run, work) == "written"
    assert len(set(tries)) == 3


async def test_every_function_that_writes_for_a_run_asks_the_fence_itself(world: World) -> None:
    first = await lead(world, "first")
    await lead(world, "second")
    change = ("user", "user_x", None, 1, 1, 1, "", "sweep", '{"id": "user_x"}')
    statements: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("select clerk_private.repair($1, $2, $3::clerk_private.change[])", ([change],)),
        ("select clerk_private.undo_edits($1, $2, 'user', $3)", (["user_x"],)),
        ("select clerk_private.revive($1, $2, $3::clerk_private.change, 1)", (change,)),
        ("select clerk_private.lower_version($1, $2, $3::clerk_private.change)", (change,)),
        ("select clerk_private.bury_verified($1, $2, 'user', $3, $4)", (["user_x"], [1])),
    )
    for statement, arguments in statements:
        with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError):
            await world.pool.fetchval(statement, first.id, first.epoch, *arguments)


@pytest.mark.parametrize("place", ["run.led", "sweep.repaired"])
async def test_an_engine_that_was_taken_over_raises_fenced_and_writes_nothing(
    make_world: MakeWorld, place: str
) -> None:
    """With several walkers too: what they raise together is one `Fenced`, not a group."""
    world = await make_world(users=5_000, organizations=0, memberships=0)
    takeovers: list[asyncio.Task[dict[str, list[str]]]] = []

    async def take_over() -> dict[str, list[str]]:
        await lead(world, "second")
        return await world.dump()

    async def at(name: str) -> None:
        if name == place and not takeovers:
            takeovers.append(asyncio.create_task(take_over()))
            await asyncio.shield(takeovers[0])  # another walker may meet the fence first, and end this one

    with pytest.raises(Fenced):
        await world.engine(failpoint=at).run(FIX, mode="full")
    then = await takeovers[0]
    assert await world.dump() == then


async def test_a_database_that_refuses_everything_fails_the_run_of_the_kind(make_world: MakeWorld) -> None:
    """It is not the objects' fault, and what several walkers raise together is one error that says what it is."""
    world = await make_world(users=5_000, organizations=0, memberships=0)
    await world.admin.execute(
        "create function public.refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;"
        " create trigger refuse before insert on clerk_private.objects for each row execute function public.refuse()"
    )
    result = await world.sweep()
    first = result.runs[0]
    assert (first.kind, first.state) == ("user", "failed")
    assert "RaiseError (P0001)" in (first.message or "")
    row = await world.admin.fetchrow("select state, error from clerk_private.runs where id = $1", first.run_id)
    assert tuple(row) == ("failed", "DatabaseRefused")
    assert await world.admin.fetchval("select count(*) from clerk_private.refused_objects") <= 200
    await world.admin.execute("drop trigger refuse on clerk_private.objects")
    assert (await world.sweep()).state == "completed"
    assert len(await world.ids()) == 5_000
    assert await world.admin.fetchval("select count(*) from clerk_private.refused_objects") == 0
