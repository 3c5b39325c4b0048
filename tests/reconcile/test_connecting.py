"""The standalone reconciler behind a pooler, and beside a session that holds its lock."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from devtools.pgbouncer import PgBouncer, pgbouncer
from devtools.postgres import Database
from nexus_auth.store.leadership import LEADER_LOCK
from tests.process import SECONDS
from tests.reconcile.conftest import MakeWorld
from tests.reconcile.process import SYNC, Reconciler, write_manifests
from tests.reconcile.world import World


async def said(process: Reconciler, text: str) -> None:
    deadline = time.monotonic() + SECONDS
    while text not in process.log.read_text():
        assert time.monotonic() < deadline, process.log.read_text()
        await asyncio.sleep(0.05)


async def in_step(world: World) -> None:
    deadline = time.monotonic() + SECONDS
    while await world.differs() != []:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@dataclass(frozen=True)
class Pooled(Database):
    """The database with its services' URLs through a pooler."""

    pooler: PgBouncer | None = None

    def url(self, service: str) -> str:
        direct = super().url(service)
        return self.pooler.url(direct) if self.pooler is not None else direct


@pytest.mark.pgbouncer
async def test_a_sync_is_led_and_ends_in_step_through_a_pooler_with_its_default_ini(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world = await make_world(users=40, organizations=2, memberships=10)
    with pgbouncer(world.database.url("reconciler")) as pooler:
        write_manifests(tmp_path, clerk=world.clerk, database=Pooled(world.database.admin_url, pooler=pooler))
        async with Reconciler(tmp_path, name="pooled"):
            await in_step(world)


@pytest.mark.pgbouncer
async def test_a_pooler_that_shares_by_transaction_is_refused_in_a_sentence(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world = await make_world(users=3, organizations=0, memberships=0)
    with pgbouncer(world.database.url("reconciler"), mode="transaction") as pooler:
        write_manifests(tmp_path, clerk=world.clerk, database=Pooled(world.database.admin_url, pooler=pooler))
        async with Reconciler(tmp_path, name="pooled") as process:
            await said(process, "the reconciler needs a session")


async def test_a_session_that_holds_the_syncs_lock_is_named_in_the_log(make_world: MakeWorld, tmp_path: Path) -> None:
    world = await make_world(users=3, organizations=0, memberships=0)
    write_manifests(tmp_path, clerk=world.clerk, database=world.database)
    stranger = await asyncpg.connect(world.database.url("app"))
    await stranger.fetchval("select pg_advisory_lock($1, hashtext($2))", LEADER_LOCK, SYNC)
    async with Reconciler(tmp_path, name="waiting") as process:
        await said(process, "another session leads this sync")
        assert "app_login" in process.log.read_text()
        await stranger.close()
        await in_step(world)
