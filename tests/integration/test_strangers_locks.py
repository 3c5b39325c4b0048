"""S8: what a stranger's session locks keeps no event waiting, and who does keep one waiting is named."""

import asyncio
import time
from pathlib import Path

import asyncpg
import pytest

from devtools.postgres import Database
from nexus_auth.store.failure import explain, lock_holders
from nexus_auth.store.ingest import Unavailable
from nexus_auth.store.leadership import LEADER_LOCK
from nexus_auth.store.pool import open_pool
from tests.events import Signed, deleted, event, membership, organization, user
from tests.service import WebhookService
from tests.store import Store

CLASSES = range(LEADER_LOCK - 8, LEADER_LOCK + 9)
"""Around every class of advisory locks that was ever ours."""

ANSWER_SECONDS = 12.0


async def stranger(database: Database) -> asyncpg.Connection:
    """A session of the product's backend as somebody who is not signed in."""
    connection = await asyncpg.connect(database.url("app"))
    await connection.execute("set role anon")
    return connection


async def test_advisory_locks_of_a_stranger_delay_no_event_and_no_chore(database: Database, tmp_path: Path) -> None:
    holder = await stranger(database)
    try:
        await holder.execute(
            "select pg_advisory_lock(c, b) from unnest($1::int[]) c cross join generate_series(0, 63) b", list(CLASSES)
        )
        async with Store(database) as store:
            assert (await store.maintain()).created > 0
        async with WebhookService(database, folder=tmp_path) as service:
            began = time.monotonic()
            for body in (
                event("user.created", user("user_ada")),
                event("organization.created", organization("org_a")),
                event(
                    "organizationMembership.created",
                    membership("orgmem_a", organization_id="org_a", user_id="user_ada"),
                ),
                event("user.deleted", deleted("user", "user_ada")),
            ):
                assert await service.post(Signed(body)) == (204, "")
            assert time.monotonic() - began < ANSWER_SECONDS
    finally:
        await holder.close()


@pytest.mark.parametrize("mode", ["access share", "row exclusive", "share row exclusive", "access exclusive"])
async def test_a_stranger_cannot_lock_a_bucket_or_a_chore(database: Database, mode: str) -> None:
    holder = await stranger(database)
    try:
        for table in ("bucket_0", "chores"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await holder.execute(f"begin; lock table clerk_private.{table} in {mode} mode")
            await holder.execute("rollback")
    finally:
        await holder.close()


@pytest.mark.parametrize("table", ["clerk_private.bucket_{0}", "clerk.users", "clerk_private.objects"])
async def test_a_lock_that_is_held_long_ends_in_time_and_its_holder_is_named(database: Database, table: str) -> None:
    async with Store(database) as store:
        await store.put(event("user.created", user("user_ada")))
        bucket = await store.admin.fetchval("select clerk_private.parent_bucket('user_ada')")
        async with store.admin.transaction():
            await store.admin.execute(f"lock table {table.format(bucket)} in access exclusive mode")
            began = time.monotonic()
            with pytest.raises(Unavailable) as refused:
                await store.put(event("user.deleted", deleted("user", "user_ada")))
            assert time.monotonic() - began < ANSWER_SECONDS
            assert "55P03" in str(refused.value) or "lock" in str(refused.value)
            async with store.pool.acquire() as connection:
                holders = await lock_holders(connection)
        assert {(holder.role, holder.relation) for holder in holders} == {("postgres", table.format(bucket))}


async def test_a_lock_that_was_not_had_is_told_from_other_failures(database: Database) -> None:
    admin = await asyncpg.connect(database.admin_url)
    pool = await open_pool(database.url("cli"), role="clerk_cli", application="test", size=1)
    try:
        async with admin.transaction():
            await admin.execute("lock table clerk.users in access exclusive mode")
            async with pool.acquire() as connection:
                await connection.execute("set lock_timeout = '50ms'")
                with pytest.raises(asyncpg.LockNotAvailableError) as refused:
                    await connection.fetch("select id from clerk.users")
        assert explain(refused.value).kind == "locked"
    finally:
        await asyncio.gather(admin.close(), pool.close())
