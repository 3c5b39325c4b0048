"""A Clerk, a database and engines between them, all in the test's own process."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import asyncpg

from devtools.clerk_emulator import Emulator
from devtools.postgres import Database
from nexus_auth.clerk.api import Answer, ClerkApi, Params
from nexus_auth.failpoints import Failpoint, nowhere
from nexus_auth.reconcile.engine import Engine, SweepResult
from nexus_auth.reconcile.policy import Guard, SyncPolicy
from nexus_auth.reconcile.requester import Requester
from nexus_auth.store import runs
from nexus_auth.store.budget import Budget, Share
from nexus_auth.store.ingest import GroupCommit
from nexus_auth.store.pool import open_pool
from tests.events import Signed
from tests.model import Mirror, expected_of, read_mirror, told
from tests.store import delivery

FIX = SyncPolicy("main", drift="Fix", settle=0.0, verify_after=0.0, guard=Guard(floor=1_000, percent=100.0))
"""Everything that may be put right is, at once; the database allows a quarter of a kind, whatever a guard says."""
REPORT = replace(FIX, drift="Report")
TABLES = ("clerk.users", "clerk.user_emails", "clerk.organizations", "clerk.organization_memberships")
ARBITERS = "clerk_private.objects"
PRIVATE = (
    *("objects", "burying", "inbox", "inbox_seen", "parked", "runs", "findings", "parked_deletions"),
    *("verify_queue", "watermarks", "count_checks", "refused_objects", "deletions"),
)


Spoil = Callable[[str, Params, bytes], bytes]
"""Given path, parameters and body of an answer: the body that arrives."""


class SpoiltClerk(ClerkApi):
    """A client whose answers a test may change on their way, while their status stays 200."""

    spoil: Spoil | None = None

    async def read(self, path: str, params: Params = ()) -> Answer:
        answer = await super().read(path, params)
        return answer if self.spoil is None else replace(answer, body=self.spoil(path, params, answer.body))


class World:
    """Clerk's emulator as `clerk`, and the database with a reconciler's and a webhook's pool."""

    def __init__(self, clerk: Emulator, *, database: Database, admin: Any, pool: Any, webhook: Any, api: SpoiltClerk):
        self.clerk = clerk
        self.database = database
        self.admin = admin
        self.pool = pool
        self.webhook = webhook
        self.api = api
        self.budget = Budget(pool, instance_id=clerk.instance_id, share=Share(per_second=100_000, burst=1_000))

    def engine(self, *, holder: str = "test", failpoint: Failpoint = nowhere) -> Engine:
        """An engine of its own, as another process would have it."""
        return Engine(
            self.pool,
            clerk=self.api,
            budget=self.budget,
            instance_id=self.clerk.instance_id,
            holder=holder,
            failpoint=failpoint,
            first_pause=0.001,
        )

    @property
    def requester(self) -> Requester:
        """For walks without an engine."""
        return Requester(self.api, budget=self.budget, first_pause=0.001)

    async def sweep(self, policy: SyncPolicy = FIX, *, mode: Any = "full") -> SweepResult:
        """One sweep."""
        return await self.engine().run(policy, mode=mode)

    async def settle(self, policy: SyncPolicy = FIX, *, approve: bool = False) -> SweepResult:
        """Incremental sweeps until no read by name is due any more; answers the last one.

        `approve`: a human is there, who approves every deletion that the guard leaves to them.
        """
        for _ in range(20):
            result = await self.sweep(policy, mode="incremental")
            waiting = [of for of in await runs.waiting(self.admin, sync=policy.name) if not of.approved]
            if approve and waiting:
                for of in waiting:
                    await runs.approve(self.admin, of.run_id, approved_by="a human")
                continue
            if not await self.admin.fetchval(
                "select exists (select from clerk_private.verify_queue where not_before <= now())"
            ):
                return result
        raise AssertionError("the queue of reads does not end")

    async def behave(self, **changes: Any) -> None:
        """Changes how Clerk behaves."""
        self.clerk.events.behaviour = replace(self.clerk.events.behaviour, **changes)

    async def put(self, *bodies: bytes) -> list[str]:
        """Events, through a group commit of the webhook's login."""
        commit = GroupCommit(self.webhook, lanes=1)
        commit.start()
        try:
            return [await commit.submit(delivery(body)) for body in bodies]
        finally:
            await commit.close()

    async def ids(self, table: str = "users") -> list[str]:
        """Ids of a table of the mirror, the oldest first."""
        rows = await self.admin.fetch(f"select id from clerk.{table} order by created_at, id")
        return [row[0] for row in rows]

    async def dead(self) -> set[str]:
        """Ids of all tombstones."""
        rows = await self.admin.fetch("select id from clerk_private.objects where deleted_at is not null")
        return {row[0] for row in rows}

    async def findings(self, run: int | None = None) -> dict[str, tuple[str, str]]:
        """By id: problem and action, of the sweep of one run or of the newest."""
        rows = await self.admin.fetch(
            "select f.id, f.problem, f.action from clerk_private.findings f"
            " join clerk_private.runs r on r.id = f.run_id join clerk_private.runs s on s.sweep_id = r.sweep_id"
            " where s.id = coalesce($1, (select max(id) from clerk_private.runs))",
            run,
        )
        return {row[0]: (row[1], row[2]) for row in rows}

    async def dump(self, *, without: Sequence[str] = ()) -> dict[str, list[str]]:
        """Everything that is stored, but the budget."""
        tables = [*TABLES, *(f"clerk_private.{name}" for name in PRIVATE if name not in without)]
        return {
            table: [row[0] for row in await self.admin.fetch(f"select t::text from {table} t order by 1")]
            for table in tables
        }

    async def bury_falsely(self, kind: str, object_id: str) -> None:
        """A deletion that Clerk knows nothing of, a second old, with everything that follows from it."""
        await self.admin.execute(
            "select clerk_private.lock_parents(c), clerk_private.apply(c) from (select array[($1, $2, 'event', 0,"
            " (extract(epoch from now()) * 1000)::bigint - 1000, 0::smallint, '', 'webhook', null)"
            "::clerk_private.change] as c) x",
            kind,
            object_id,
        )

    async def differs(self) -> list[str]:
        """Where the mirror's tables are not what Clerk has; empty where all is the same."""
        found = await read_mirror(self.admin)
        wanted = await self.model()
        return [line for line in wanted.differs_from(replace(found, objects={})) if not line.startswith("objects")]

    async def model(self) -> Mirror:
        """What Clerk has now, projected by the tests' own model."""
        bodies = []
        for kind, path in (
            ("user", "/users"),
            ("organization", "/organizations"),
            ("organizationMembership", "/organization_memberships"),
        ):
            offset = 0
            while True:
                answer = await self.api.read(path, [("limit", "500"), ("offset", str(offset))])
                page = json.loads(answer.body)
                objects = page if isinstance(page, list) else page["data"]
                if not objects:
                    break
                offset += len(objects)
                bodies += [
                    Signed(json.dumps({"type": f"{kind}.updated", "data": data, "timestamp": 1}).encode())
                    for data in objects
                ]
        return replace(expected_of(told(body) for body in bodies), objects={})


async def open_world(clerk: Emulator, database: Database) -> World:
    """Opens everything but the emulator."""
    admin = await asyncpg.connect(database.admin_url, server_settings={"timezone": "UTC"})
    prefix = database.role_prefix
    pool = await open_pool(database.url("reconciler"), role=f"{prefix}reconciler", application="tests", size=12)
    webhook = await open_pool(database.url("webhook"), role=f"{prefix}webhook", application="tests", size=3)
    api = SpoiltClerk(clerk.api_url, secret_key=clerk.secret_key)
    world = World(clerk, database=database, admin=admin, pool=pool, webhook=webhook, api=api)
    await world.budget.open()
    return world


async def close_world(world: World) -> None:
    """Closes what `open_world` opened."""
    await world.api.close()
    await world.pool.close()
    await world.webhook.close()
    await world.admin.close()
