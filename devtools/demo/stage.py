"""What the story is played on: Postgres, a Clerk of our own, the webhook service as a process, the reconciler's engine.

Every part logs in as itself: the engine as the reconciler, the reader as the product team's backend that becomes a
user, the approval as the command line. Only the hand that edits rows, and the one that looks, is the administrator's.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import aiohttp
import asyncpg
import msgspec
from svix.webhooks import Webhook

from devtools.clerk_emulator import Emulator, Settings
from devtools.clerk_emulator.state.records import UserRecord
from devtools.postgres import Database
from devtools.run.parts import Part
from devtools.run.said import read_json, sentence
from nexus_auth.clerk.api import ClerkApi
from nexus_auth.reconcile.engine import Engine, SweepResult
from nexus_auth.reconcile.policy import SyncPolicy
from nexus_auth.store import instance, runs
from nexus_auth.store.budget import Budget, Share
from nexus_auth.store.pool import open_pool
from nexus_auth.store.runs import Mode, Policy

SYNC = "demo"
SIZES = Settings(users=300, organizations=20, memberships=600, environment_type="production", seed=7)
TABLES = {
    "user": "clerk.users",
    "organization": "clerk.organizations",
    "organization_membership": "clerk.organization_memberships",
}
CONNECTIONS = 12
LOOK_SECONDS = 0.01
VERIFY_SECONDS = 0.5
"""Between the two reads by name that bury a row; production waits a minute."""

PATIENCE = 15.0
"""Seconds after which something that is waited for counts as not happening."""


class Stage:
    """All parts, started; an asynchronous context manager that stops them in its end."""

    clerk: Emulator
    database: Database
    admin: Any
    """A connection as the administrator."""

    def __init__(self, prepare: Callable[[], Database]) -> None:
        """`prepare` answers a migrated, empty database with its logins; it is called in a thread."""
        self._prepare = prepare
        self._webhook_url = ""
        self._had: set[str] = set()

    async def __aenter__(self) -> Self:
        """Returns when the webhook service accepts events."""
        async with AsyncExitStack() as parts:
            webhook = await Part.start("webhook", "services.webhook", heard=self._heard)
            parts.push_async_callback(webhook.stop)
            self.database = await asyncio.to_thread(self._prepare)
            self.clerk = await parts.enter_async_context(Emulator(SIZES))
            await self._connect(parts)
            signing_secret = "whsec_" + secrets.token_hex(16)
            self._signer = Webhook(signing_secret)
            self._http = await parts.enter_async_context(aiohttp.ClientSession())
            webhook.begin(self._environment(signing_secret))
            await webhook.until_ready()
            self.clerk.add_endpoint(self._webhook_url, secret=signing_secret)
            self._parts = parts.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Who sends goes first, then who receives."""
        await self._parts.aclose()

    # ------------------------------------------------------------ the reconciler

    async def reconcile(
        self,
        *,
        mode: Mode = "full",
        drift: Policy = "Fix",
        clerk: ClerkApi | None = None,
    ) -> SweepResult:
        """One sweep of the engine; `clerk` in the place of the API with the right key."""
        budget = Budget(self._pool, instance_id=self.clerk.instance_id, share=Share.of("Production", percent=100))
        await budget.open()
        engine = Engine(
            self._pool, clerk=clerk or self._api, budget=budget, instance_id=self.clerk.instance_id, holder=SYNC
        )
        # settle 0: the emulator lists at once what was created
        policy = SyncPolicy(SYNC, drift=drift, settle=0.0, verify_after=VERIFY_SECONDS)
        return await engine.run(policy, mode=mode)

    async def read_again(self, *, clerk: ClerkApi | None = None) -> SweepResult:
        """Waits until the queue's second reads are due, and lets a run make them."""

        async def due() -> bool:
            later = "select exists (select from clerk_private.verify_queue where not_before > now())"
            return not await self.admin.fetchval(later)

        await self.until(due)
        return await self.reconcile(mode="incremental", clerk=clerk)

    async def findings(self, sweep_id: int) -> Sequence[Any]:
        """What the runs of a sweep found, as rows of kind, id, problem, action, cause."""
        rows: Sequence[Any] = await self.admin.fetch(
            "select f.kind, f.id, f.problem, f.action, f.cause from clerk_private.findings f"
            " join clerk_private.runs r on r.id = f.run_id where r.sweep_id = $1 order by f.kind, f.id",
            sweep_id,
        )
        return rows

    async def approve(self, run_id: int) -> None:
        """What `nexus-auth approve` does, as its login."""
        cli = await asyncpg.connect(self.database.url("cli"), server_settings={"role": "clerk_cli"})
        try:
            await runs.approve(cli, run_id, approved_by="the demo")
        finally:
            await cli.close()

    async def deliver(self, body: str) -> None:
        """An event that Clerk never sent, signed as if it had. Raises where it is not accepted."""
        svix_id, at = f"msg_{secrets.token_hex(12)}", datetime.now(UTC)
        headers = {
            "svix-id": svix_id,
            "svix-timestamp": str(int(at.timestamp())),
            "svix-signature": self._signer.sign(svix_id, at, body),
        }
        async with self._http.post(self._webhook_url, data=body.encode(), headers=headers) as answer:
            answer.raise_for_status()

    # ------------------------------------------------------------ both sides

    async def listed(self) -> Mapping[str, int]:
        """How many objects of each kind Clerk counts, asked by its API."""
        paths = {"user": "/users/count", "organization": "/organizations?limit=1"}
        paths["organization_membership"] = "/organization_memberships?limit=1"
        counts = {}
        for kind, path in paths.items():
            path, _, query = path.partition("?")
            params = [tuple(pair.split("=", 1)) for pair in query.split("&") if pair]
            answer = await self._api.read(path, [(name, value) for name, value in params])
            counts[kind] = int(msgspec.json.decode(answer.body)["total_count"])
        return counts

    async def held(self) -> Mapping[str, int]:
        """How many rows of each kind Postgres holds."""
        return {kind: len(await self.ids(kind)) for kind in TABLES}

    async def ids(self, kind: str) -> frozenset[str]:
        """The rows of one kind."""
        return frozenset(row["id"] for row in await self.admin.fetch(f"select id from {TABLES[kind]}"))

    async def tombstones(self) -> int:
        """How many objects of any kind are held to be deleted."""
        return int(await self.admin.fetchval("select count(*) from clerk_private.objects where deleted_at is not null"))

    def somebody(self, *, member: bool = True) -> UserRecord:
        """A seeded user whom no step had before: member of an organization, or of none."""
        state = self.clerk.state
        for user in state.users:
            if user.id not in self._had and bool(state.memberships_of(user.id)) == member:
                self._had.add(user.id)
                return user
        raise LookupError("the story has used up its users")

    async def row(self, kind: str, object_id: str) -> Mapping[str, Any] | None:
        """One row as it stands."""
        row = await self.admin.fetchrow(f"select * from {TABLES[kind]} where id = $1", object_id)
        return None if row is None else dict(row)

    async def seen_by(self, user_id: str) -> Mapping[str, str]:
        """Users (id and address) that row level security shows to one of them."""
        async with self._app.transaction():
            await self._app.execute("set local role authenticated")
            claims = json.dumps({"sub": user_id, "role": "authenticated"})
            await self._app.execute("select set_config('request.jwt.claims', $1, true)", claims)
            rows = await self._app.fetch("select id, primary_email from clerk.users")
        return {row["id"]: row["primary_email"] for row in rows}

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> bool:
        """Looks until it holds; False when patience is at its end."""
        deadline = time.monotonic() + PATIENCE
        while not await holds():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(LOOK_SECONDS)
        return True

    # ------------------------------------------------------------ parts

    async def _connect(self, parts: AsyncExitStack) -> None:
        self.admin = await asyncpg.connect(self.database.admin_url)
        parts.push_async_callback(self.admin.close)
        self._app = await asyncpg.connect(self.database.url("app"))
        parts.push_async_callback(self._app.close)
        self._pool = await open_pool(
            self.database.url("reconciler"), role="clerk_reconciler", application="nexus-auth demo", size=CONNECTIONS
        )
        parts.push_async_callback(self._pool.close)
        await instance.claim(self._pool, self.clerk.instance_id)
        self._api = await parts.enter_async_context(ClerkApi(self.clerk.api_url, secret_key=self.clerk.secret_key))

    def _environment(self, signing_secret: str) -> Mapping[str, str]:
        return {
            "DATABASE_URL": self.database.url("webhook"),
            "CLERK_INSTANCE_ID": self.clerk.instance_id,
            "CLERK_WEBHOOK_SIGNING_SECRET": signing_secret,
            "NEXUS_AUTH_WITHHOLD_KEY": secrets.token_hex(32),
            "NEXUS_AUTH_PORT": "0",
            "NEXUS_AUTH_HEALTH_PORT": "0",
            "NEXUS_AUTH_DRAIN_TIMEOUT": "2",
            "CLERK_API_URL": self.clerk.api_url,
            "CLERK_SECRET_KEY": self.clerk.secret_key,
            "NEXUS_AUTH_VERIFY_AFTER": str(VERIFY_SECONDS),
        }

    def _heard(self, part: Part, line: str) -> str:
        entry = read_json(line)
        if entry is None:
            return line
        if entry["message"] == "listening":
            self._webhook_url = f"http://127.0.0.1:{entry['port']}/webhooks/clerk"
        elif entry["message"] == "ready":
            part.ready.set()
        return sentence(entry)
