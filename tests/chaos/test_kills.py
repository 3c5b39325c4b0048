"""Promise 3: no acknowledged event is lost, whatever is killed at whatever moment.

The service and Postgres are killed with SIGKILL, at named points and under load; after each kill every event that was
acknowledged must be there, by its svix-id and as a row. Delivering the others again ends in the model's state exactly.
The controls run the same against a service that acknowledges too early, and must find the loss.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from devtools.postgres import Database, Server
from tests.chaos.ledger import SENDERS, Ledger
from tests.chaos.stops import SECONDS, reached
from tests.model import connect_reader
from tests.service import WebhookService

KILLS = 4
"""Of the service at each of five places."""

POSTGRES_KILLS = 3

MOST = 2_000
"""Events of one load; it ends long before, when the database is away."""

GATE = """
create schema gate;
grant usage on schema gate to public;
create function gate.wait() returns trigger language plpgsql as $$
begin
  perform pg_advisory_xact_lock_shared(7721, 0);
  return null;
end $$;
create trigger gate after insert on clerk_private.inbox for each row execute function gate.wait();
"""
"""All of a batch is written, the commit comes next."""

BACKENDS = """
select a.pid, exists (select from pg_locks l where l.pid = a.pid and not l.granted and l.classid = 7721) as stands
from pg_stat_activity a where a.datname = current_database() and a.usename like '%webhook_login' and a.state = 'active'
"""


class TooEarly(WebhookService):
    """The sabotaged service."""

    program = "tests.chaos.acknowledges_too_early"


@dataclass
class Scene:
    """A database, the services on it one after the other, the folder of their failpoints, and the sender's ledger."""

    database: Database
    folder: Path
    ledger: Ledger
    kind: type[WebhookService] = WebhookService
    services: list[WebhookService] = field(default_factory=list)
    kills: int = 0

    async def service(self) -> WebhookService:
        """Starts one more process."""
        folder = self.folder / f"service-{len(self.services)}"
        folder.mkdir()
        service = self.kind(
            self.database, folder=folder, NEXUS_AUTH_LOG_EVENTS="0", NEXUS_AUTH_FAILPOINTS_DIR=str(self.folder)
        )
        self.services.append(service)
        return await service.start()

    async def kill(self, kill: Callable[[], Awaitable[None]]) -> set[str]:
        """Kills, and answers what was under way: something was."""
        under_way = set(self.ledger.under_way)
        assert under_way, "nothing was in flight at the kill"
        self.kills += 1
        await kill()
        return under_way

    async def stored(self) -> set[str]:
        """The svix-ids that are there."""
        async with self.reading() as reader:
            return {row["svix_id"] for row in await reader.fetch("select svix_id from clerk_private.inbox_seen")}

    async def lost(self) -> list[str]:
        """What was acknowledged and is not there."""
        async with self.reading() as reader:
            return await self.ledger.lost(reader)

    async def differences(self) -> list[str]:
        """How the database differs from what all that was sent makes of it."""
        async with self.reading() as reader:
            return await self.ledger.differences(reader)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Any]:
        """A new connection, as servers come and go."""
        reader = await connect_reader(self.database)
        try:
            yield reader
        finally:
            await reader.close()


@asynccontextmanager
async def scene(
    database: Database, folder: Path, *, seed: int, kind: type[WebhookService] = WebhookService
) -> AsyncIterator[Scene]:
    """On a server that keeps what it commits."""
    on = Scene(database, folder, Ledger(seed=seed), kind)
    async with on.reading() as reader:
        assert await reader.fetchval("show fsync") == "on"
        assert await reader.fetchval("show synchronous_commit") == "on"
    try:
        yield on
    finally:
        for service in on.services:
            await service.close()


async def killed_at(name: str, on: Scene) -> set[str]:
    """At a failpoint of the service; some events are through, eight are under way."""
    service = await on.service()
    await on.ledger.load(service, on.ledger.take(10))
    (on.folder / name).touch()
    loading = asyncio.create_task(on.ledger.load(service, on.ledger.take(SENDERS)))
    await reached(on.folder, name, pid=service.pid)
    under_way = await on.kill(service.kill)
    await loading
    (on.folder / name).unlink()
    assert not under_way & on.ledger.acknowledged
    return under_way


async def before_anything_is_sent(on: Scene, number: int) -> None:
    """The batch is gathered: nothing of it can be stored."""
    assert not await killed_at("ingest.gathered", on) & await on.stored()


async def after_the_commit(on: Scene, number: int) -> None:
    """Stored, and nobody was told."""
    assert await killed_at("ingest.committed", on) & await on.stored()


async def before_the_answer(on: Scene, number: int) -> None:
    """Stored, and about to be acknowledged."""
    assert await killed_at("webhook.committed", on) & await on.stored()


async def before_the_commit(on: Scene, number: int) -> None:
    """Postgres stands before the commit. Then it commits for a client that is gone, or the backend ends too."""
    admin = await asyncpg.connect(on.database.admin_url)
    if number == 0:
        await admin.execute(GATE)
    service = await on.service()
    await on.ledger.load(service, on.ledger.take(10))
    await admin.execute("select pg_advisory_lock(7721, 0)")
    loading = asyncio.create_task(on.ledger.load(service, on.ledger.take(SENDERS)))
    standing = await backends(admin, stand=True)
    under_way = await on.kill(service.kill)
    await loading
    assert not under_way & on.ledger.acknowledged
    assert not under_way & await on.stored()
    ends = number % 2 == 1
    if ends:
        for pid in standing:
            assert await admin.fetchval("select pg_terminate_backend($1, 5000)", pid)
    await admin.execute("select pg_advisory_unlock(7721, 0)")
    await backends(admin, stand=False)
    assert ends or under_way & await on.stored()
    await admin.close()


async def backends(admin: Any, *, stand: bool) -> list[int]:
    """Waits until a backend of the service stands at the gate, or until none works any more; answers which stand."""
    async with asyncio.timeout(SECONDS):
        while True:
            rows = await admin.fetch(BACKENDS)
            standing = [row["pid"] for row in rows if row["stands"]]
            if standing if stand else not rows:
                return standing
            await asyncio.sleep(0.005)


async def under_load(on: Scene, number: int) -> None:
    """At a moment that nobody chose: after some acknowledgement or other."""
    service = await on.service()
    loading = asyncio.create_task(on.ledger.load(service, on.ledger.take(60)))
    await on.ledger.after(random.Random(number).randrange(1, 40))
    await on.kill(service.kill)
    await loading


Place = Callable[[Scene, int], Awaitable[None]]
PLACES: list[Place] = [
    before_anything_is_sent,
    before_the_commit,
    after_the_commit,
    before_the_answer,
    under_load,
]


@pytest.mark.parametrize("place", PLACES, ids=[place.__name__ for place in PLACES])
async def test_a_killed_service_loses_nothing_that_it_acknowledged(
    database: Database, tmp_path: Path, place: Place
) -> None:
    async with scene(database, tmp_path, seed=PLACES.index(place)) as on:
        for number in range(KILLS):
            await place(on, number)
            assert await on.lost() == []
        assert on.kills == KILLS
        assert on.ledger.acknowledged
        assert on.ledger.unacknowledged
        await on.ledger.redeliver(await on.service())
        assert await on.differences() == []
        print(f"{len(on.ledger.sent)} sent, {dict(on.ledger.statuses)}")


async def test_a_service_that_acknowledges_too_early_is_found_out(database: Database, tmp_path: Path) -> None:
    """The control: what finds no loss above finds it here."""
    async with scene(database, tmp_path, seed=1, kind=TooEarly) as on:
        service = await on.service()
        (tmp_path / "ingest.gathered").touch()
        await on.ledger.load(service, on.ledger.take(1))
        (acknowledged,) = on.ledger.acknowledged
        await reached(tmp_path, "ingest.gathered", pid=service.pid)
        await service.kill()
        assert {line.partition(":")[0] for line in await on.lost()} == {acknowledged}


async def killed(server: Server) -> None:
    """SIGKILL for every process of the server, as a power cut."""
    await asyncio.to_thread(server.kill)


async def stopped(server: Server) -> None:
    """A fast shutdown, as in an upgrade."""
    await asyncio.to_thread(server.stop)


Away = Callable[[Server], Awaitable[None]]


async def with_postgres_away(server: Server, on: Scene, number: int, *, away: Away, most: int = MOST) -> None:
    """Takes Postgres away under load, and brings it back when every sender has been refused (or has sent its part)."""
    loading = asyncio.create_task(on.ledger.load(on.services[0], on.ledger.take(most), until_refused=True), name="load")
    await on.ledger.after(random.Random(number).randrange(20, 80))
    await on.kill(lambda: away(server))
    await loading
    await asyncio.to_thread(server.start)


@pytest.mark.parametrize("away", [killed, stopped], ids=["killed", "stopped"])
async def test_postgres_away_loses_nothing_that_was_acknowledged(
    own_server: Server, own_database: Database, tmp_path: Path, away: Away
) -> None:
    """While it is away the service says 503; afterwards the same process goes on."""
    async with scene(own_database, tmp_path, seed=7) as on:
        service = await on.service()
        for number in range(POSTGRES_KILLS):
            refused = on.ledger.statuses[503]
            await with_postgres_away(own_server, on, number, away=away)
            assert on.ledger.statuses[503] == refused + SENDERS
            assert set(on.ledger.statuses) == {204, 503}
            assert len(on.ledger.unacknowledged) == SENDERS
            assert await on.lost() == []
            await on.ledger.redeliver(service)
            assert await on.differences() == []
        assert on.kills == POSTGRES_KILLS
        async with on.reading() as reader:
            assert await reader.fetchval("select sweep_requested_at is not null from clerk_private.instance")
        assert await service.health("/readyz") == (200, "ok\n")
        print(f"{len(on.ledger.sent)} sent, {dict(on.ledger.statuses)}")


async def test_a_service_that_acknowledges_too_early_loses_by_a_crash_of_postgres(
    own_server: Server, own_database: Database, tmp_path: Path
) -> None:
    """The control."""
    async with scene(own_database, tmp_path, seed=7, kind=TooEarly) as on:
        await on.service()
        await with_postgres_away(own_server, on, 0, away=killed, most=200)
        assert len(await on.lost()) > SENDERS
