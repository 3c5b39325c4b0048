"""The store without HTTP: events go through the real group commit as the webhook's login, and the mirror is read back.

Everything is in the test's own process, so that a test says which events share a batch, and what the administrator
changes in between.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import asyncpg

from devtools.postgres import Database
from nexus_auth.clerk.envelope import read
from nexus_auth.store import maintenance
from nexus_auth.store.ingest import Delivery, GroupCommit
from nexus_auth.store.maintenance import Backlog, Maintained
from nexus_auth.store.pool import open_pool
from tests.events import next_id

Row = dict[str, Any]


def delivery(body: bytes, svix_id: str | None = None) -> Delivery:
    """What the webhook service makes of a verified request; the headers are stand-ins, nothing here verifies them."""
    return Delivery(
        svix_id=svix_id or next_id(),
        svix_timestamp="1780000000",
        signature="v1,c3RhbmQtaW4=",
        secret="0123456789abcdef",
        event=read(body),
        body_hmac=None,
    )


@dataclass(frozen=True)
class Seen:
    """Who looks into the mirror, and what the gateway says of them."""

    role: str
    claims: str | None = None

    @classmethod
    def user(cls, user_id: str, **claims: Any) -> "Seen":
        """A signed-in user."""
        return cls("authenticated", json.dumps({"sub": user_id, **claims}))


class Store:
    """Group commit with one lane: what is put at once is one transaction, in this order.

    Usable as an async context manager. `admin` is a superuser's connection, for looking and for what no service does.
    """

    admin: asyncpg.Connection
    pool: "asyncpg.Pool[asyncpg.Record]"

    def __init__(self, database: Database) -> None:
        self.database = database

    async def __aenter__(self) -> Self:
        self.admin = await asyncpg.connect(self.database.admin_url)
        role = f"{self.database.role_prefix}webhook"
        self.pool = await open_pool(self.database.url("webhook"), role=role, application="tests", size=3)
        self._commit = GroupCommit(self.pool, lanes=1)
        self._commit.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._commit.close()
        await self.pool.close()
        await self.admin.close()

    async def put(self, *bodies: bytes | Delivery) -> list[str]:
        """Stores them in one batch and answers what became of each."""
        deliveries = [body if isinstance(body, Delivery) else delivery(body) for body in bodies]
        return list(await asyncio.gather(*map(self._commit.submit, deliveries)))

    async def put_each(self, bodies: Sequence[bytes | Delivery]) -> list[str]:
        """Stores them one after the other, each in a transaction of its own."""
        return [outcome for body in bodies for outcome in await self.put(body)]

    async def rows(self, table: str) -> list[Row]:
        """A table's rows as they are, in the order of their keys."""
        return [dict(row) for row in await self.admin.fetch(f'select * from {table} t order by t::text collate "C"')]

    async def ids(self, table: str) -> list[str]:
        """The ids of a table's rows."""
        return [row["id"] for row in await self.admin.fetch(f'select id from {table} order by id collate "C"')]

    async def user(self, user_id: str) -> Row | None:
        """One row of clerk.users."""
        row = await self.admin.fetchrow("select * from clerk.users where id = $1", user_id)
        return dict(row) if row is not None else None

    async def arbiter(self, kind: str, object_id: str) -> Row | None:
        """The row that arbitrates one object."""
        row = await self.admin.fetchrow(
            "select * from clerk_private.objects where kind = $1 and id = $2", kind, object_id
        )
        return dict(row) if row is not None else None

    async def tombstones(self) -> dict[str, str]:
        """By id: what buried it."""
        rows = await self.admin.fetch("select id, buried_by from clerk_private.objects where deleted_at is not null")
        return {row["id"]: row["buried_by"] for row in rows}

    async def bury(self) -> int:
        """What the webhook service does now and then."""
        async with self.pool.acquire() as connection:
            return await maintenance.bury(connection)

    async def maintain(self) -> Maintained:
        """What the webhook service does every hour."""
        async with self.pool.acquire() as connection:
            return await maintenance.maintain(connection)

    async def backlog(self) -> Backlog:
        """What the webhook service shows as metrics."""
        async with self.pool.acquire() as connection:
            return await maintenance.backlog(connection)

    async def seen(self, who: Seen, query: str, *arguments: object) -> list[Any]:
        """What somebody gets for a query: the first column of each row."""
        async with as_role(self.admin, who):
            return [row[0] for row in await self.admin.fetch(query, *arguments)]


@asynccontextmanager
async def as_role(connection: asyncpg.Connection, who: Seen) -> AsyncIterator[None]:
    """A transaction as a gateway opens it, taken back at the end."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(f'set local role "{who.role}"')
        if who.claims is not None:
            await connection.execute("select set_config('request.jwt.claims', $1, true)", who.claims)
        yield
    finally:
        await transaction.rollback()
