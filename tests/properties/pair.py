"""Two webhook processes on one database, driven over real HTTP from synchronous tests, as hypothesis wants them."""

import asyncio
import time
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import asyncpg

from devtools.postgres import Database
from nexus_auth.clerk.envelope import read
from nexus_auth.clerk.version import API
from nexus_auth.store.inbox import Selection
from nexus_auth.store.ingest import change_of
from nexus_auth.store.replay import Replayed, replay
from tests.events import INSTANCE, Signed
from tests.model import Mirror, connect_reader, forget_everything, read_mirror, told
from tests.service import WebhookService

Result = TypeVar("Result")

PAGE_READ_AT = 1_780_000_500_000
"""When a list page was asked for: later than every event of a plan, so that only a tombstone can hold it back."""


@dataclass(frozen=True)
class Delivery:
    """One request to one of the two processes; `age` seconds ago it was signed."""

    signed: Signed
    process: int
    age: int = 0


@dataclass(frozen=True)
class Answered:
    """When a delivery was under way."""

    delivery: Delivery
    sent: float
    answered: float

    def overlaps(self, other: "Answered") -> bool:
        """Both under way at one moment, in two processes, about one object or a membership and its parent."""
        one, two = told(self.delivery.signed), told(other.delivery.signed)
        related = {(one.kind, one.id), *one.parents} & {(two.kind, two.id), *two.parents}
        apart = self.delivery.process != other.delivery.process
        return apart and bool(related) and self.sent < other.answered and other.sent < self.answered


class Pair:
    """The processes, their database, and a loop of their own; use as a context manager."""

    def __init__(self, database: Database, *, folder: Path) -> None:
        self.database = database
        self._runner = asyncio.Runner()
        self._folders = [folder / "one", folder / "two"]
        for each in self._folders:
            each.mkdir()
        self.services: list[WebhookService] = []

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Runs one coroutine to its end."""
        return self._runner.run(work)

    def __enter__(self) -> Self:
        self._runner.__enter__()
        self.run(self._start())
        return self

    def __exit__(self, *error: Any) -> None:
        self.run(self._stop())
        self._runner.__exit__(*error)

    async def _start(self) -> None:
        self.reader = await connect_reader(self.database)
        self.watcher = await connect_reader(self.database)
        self.admin = await asyncpg.connect(self.database.admin_url)
        self.reconciler = await asyncpg.connect(
            self.database.url("reconciler"), server_settings={"role": f"{self.database.role_prefix}reconciler"}
        )
        for folder in self._folders:
            service = WebhookService(self.database, folder=folder, NEXUS_AUTH_LOG_EVENTS="0")
            self.services.append(await service.start())

    async def _stop(self) -> None:
        for service in self.services:
            await service.close()
        for connection in (self.reader, self.watcher, self.admin, self.reconciler):
            await connection.close()

    async def forget(self) -> None:
        """Begins anew."""
        await forget_everything(admin=self.admin)

    async def deliver(self, wave: Iterable[Delivery]) -> list[Answered]:
        """Delivers all at once; every one must be acknowledged."""
        return await asyncio.gather(*map(self._deliver, wave))

    async def _deliver(self, delivery: Delivery) -> Answered:
        sent = time.monotonic()
        at = datetime.now(UTC) - timedelta(seconds=delivery.age)
        status, text = await self.services[delivery.process].post(delivery.signed, at=at)
        assert (status, text) == (204, "")
        return Answered(delivery, sent, time.monotonic())

    async def mirror(self) -> Mirror:
        """What is there now."""
        return await read_mirror(self.reader)

    async def replay(self, selection: Selection | None = None) -> list[Replayed]:
        """Applies stored events again, all of them unless a selection says which."""
        pages = replay(self.reader, selection=selection or Selection(), instance_id=INSTANCE)
        return [replayed async for page in pages for replayed in page]

    async def outcomes(self) -> list[str]:
        """What the inbox says became of each event."""
        return [row["outcome"] for row in await self.reader.fetch("select outcome from clerk_private.inbox")]

    async def parked(self) -> int:
        """How many events could not be applied."""
        count: int = await self.reader.fetchval("select count(*) from clerk_private.parked")
        return count

    async def list_page(self, objects: Sequence[Signed]) -> None:
        """Writes these events' objects as a sweep does that read them on a page of Clerk's API."""
        changes = []
        for signed in objects:
            kind, key, _, updated_at, _, _, _, _, object_json = change_of(  # type: ignore[misc]
                read(signed.body), svix_id="", source="sweep"
            )
            changes.append((kind, key, None, updated_at, PAGE_READ_AT, API, "", "sweep", object_json))
        run = await self.reconciler.fetchval(
            "insert into clerk_private.runs (sweep_id, sync, kind, mode, policy, holder)"
            " values (0, 'pair', 'user', 'full', 'Fix', 'pair')"
            " on conflict (sync, kind) where state = 'running' do update set holder = 'pair' returning id"
        )
        await self.reconciler.execute("select clerk_private.repair($1, 1, $2::clerk_private.change[])", run, changes)
