"""No room, no database, no time: what is refused comes again, what was accepted is there."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from devtools.postgres import Database, Server, fetch
from tests.events import Signed, event, user
from tests.service import WebhookService
from tests.wire import Wire, until

SWEEPS = "nexus_auth_webhook_sweeps_requested_total"


class Failpoints:
    """Failpoints in a folder: planted, waited for, removed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def plant(self, name: str) -> None:
        (self.folder / name).touch()

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()

    async def reached(self, name: str) -> None:
        async def there() -> bool:
            return bool(list(self.folder.glob(f"{name}.*.reached")))

        await until(there)


@pytest.fixture
def failpoints(tmp_path: Path) -> Failpoints:
    return Failpoints(tmp_path / "failpoints")


def new_user(name: str) -> Signed:
    return Signed(event("user.created", user(name)))


def users(database: Database) -> set[str]:
    return {row[0] for row in fetch(database.admin_url, "select id from clerk.users")}


def sweep_is_requested(database: Database) -> bool:
    query = "select sweep_requested_at is not null from clerk_private.instance"
    return [tuple(row) for row in fetch(database.admin_url, query)] == [(True,)]


async def test_postgres_stops_and_starts_and_everything_is_there(
    own_server: Server, own_database: Database, tmp_path: Path
) -> None:
    refused = [new_user(f"user_{number}") for number in range(20)]
    async with WebhookService(own_database, folder=tmp_path) as service:
        assert await service.post(new_user("user_before")) == (204, "")
        assert not sweep_is_requested(own_database)
        own_server.stop()
        for signed in refused:
            async with service.session.post(service.url, data=signed.body, headers=signed.headers()) as answer:
                assert answer.status == 503
                assert int(answer.headers["Retry-After"]) > 0
                assert (await answer.text()).startswith("the database ")
        assert await service.health("/readyz") == (200, "ok\n")
        assert await service.metric("nexus_auth_webhook_database_up") == 0
        assert await service.metric('nexus_auth_webhook_rejected_total{reason="unavailable"}') == len(refused)
        own_server.start()

        async def accepted() -> bool:
            return await service.post(refused[0]) == (204, "")

        await until(accepted)
        for signed in refused:
            assert await service.post(signed) == (204, "")
        assert users(own_database) == {"user_before", *(f"user_{number}" for number in range(20))}

        async def requested() -> bool:
            return sweep_is_requested(own_database)

        await until(requested)
        assert await service.metric(SWEEPS) == 1
        assert await service.metric("nexus_auth_webhook_database_up") == 1


async def test_without_postgres_it_starts_all_the_same_and_is_ready_once_postgres_is_there(
    own_server: Server, own_database: Database, tmp_path: Path
) -> None:
    signed = new_user("user_early")
    own_server.stop()
    async with WebhookService(own_database, folder=tmp_path, wait=False) as service:

        async def tried() -> bool:
            return (await service.health("/readyz"))[1].startswith("the database cannot be reached")

        await until(tried)
        assert await service.health("/livez") == (200, "ok\n")
        async with service.session.post(service.url, data=signed.body, headers=signed.headers()) as answer:
            assert (answer.status, "Retry-After" in answer.headers) == (503, True)
            assert (await answer.text()).startswith("the database cannot be reached")
        wrong = await service.send(signed.body + b" ", signed.headers())
        assert wrong == (400, "the request could not be verified\n")
        own_server.start()
        await service.ready()
        await until(lambda: asyncio.sleep(0, sweep_is_requested(own_database)))
        assert await service.post(signed) == (204, "")
        assert users(own_database) == {"user_early"}


async def test_a_killed_connection_costs_one_503_at_most_and_no_event(database: Database, tmp_path: Path) -> None:
    cut = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and usename like '%webhook_login'"
    async with WebhookService(database, folder=tmp_path) as service:
        assert await service.post(new_user("user_1")) == (204, "")
        fetch(database.admin_url, cut, database.name)
        signed = new_user("user_2")

        async def accepted() -> bool:
            return await service.post(signed) == (204, "")

        await until(accepted)
        assert users(database) == {"user_1", "user_2"}


async def test_a_full_queue_refuses_and_what_waits_in_it_is_stored(
    database: Database, tmp_path: Path, failpoints: Failpoints
) -> None:
    failpoints.plant("ingest.gathered")
    async with WebhookService(
        database,
        folder=tmp_path,
        NEXUS_AUTH_LANES="1",
        NEXUS_AUTH_QUEUE_ROWS="3",
        NEXUS_AUTH_FAILPOINTS_DIR=str(failpoints.folder),
    ) as service:
        posts = [asyncio.create_task(service.post(new_user("user_0")))]
        await failpoints.reached("ingest.gathered")
        posts += [asyncio.create_task(service.post(new_user(f"user_{number}"))) for number in (1, 2, 3)]

        async def full() -> bool:
            return await service.metric("nexus_auth_webhook_queued_events") == 3

        await until(full)
        status, text = await service.post(new_user("user_4"))
        assert (status, text) == (503, "too many events are waiting for the database\n")
        assert await service.health("/readyz") == (200, "ok\n")
        failpoints.remove("ingest.gathered")
        assert await asyncio.gather(*posts) == [(204, "")] * 4
        await until(lambda: asyncio.sleep(0, sweep_is_requested(database)))
    assert users(database) == {f"user_{number}" for number in range(4)}


async def test_a_stop_finishes_what_was_accepted_and_refuses_the_rest(
    database: Database, tmp_path: Path, failpoints: Failpoints
) -> None:
    failpoints.plant("ingest.gathered")
    async with WebhookService(
        database, folder=tmp_path, NEXUS_AUTH_LANES="1", NEXUS_AUTH_FAILPOINTS_DIR=str(failpoints.folder)
    ) as service:
        late, half = new_user("user_late"), new_user("user_half")
        async with Wire(service.url) as kept_alive, Wire(service.url) as half_sent, Wire(service.url) as idle:
            assert (await kept_alive.exchange(b"", {})).status == 400
            assert (await idle.exchange(b"", {})).status == 400
            length = {"Content-Length": str(len(half.body))}
            await half_sent.send(half_sent.head(half.headers() | length) + half.body[:50])
            posts = [asyncio.create_task(service.post(new_user("user_0")))]
            await failpoints.reached("ingest.gathered")
            posts += [asyncio.create_task(service.post(new_user(f"user_{number}"))) for number in (1, 2)]

            async def queued() -> bool:
                return await service.metric("nexus_auth_webhook_queued_events") == 2

            await until(queued)
            os.kill(service.pid, signal.SIGTERM)
            await service.logged("draining")
            assert await service.health("/readyz") == (503, "shutting down\n")
            assert await service.health("/livez") == (200, "ok\n")
            answer = await kept_alive.exchange(late.body, late.headers())
            assert (answer.status, answer.text) == (503, "shutting down\n")
            assert answer.headers["connection"] == "close"
            assert int(answer.headers["retry-after"]) > 0
            await half_sent.send(half.body[50:])
            assert (await half_sent.answer()).status == 503
            with pytest.raises(OSError):
                await Wire(service.url).__aenter__()
            assert not any(post.done() for post in posts)
            failpoints.remove("ingest.gathered")
            assert await asyncio.gather(*posts) == [(204, "")] * 3
            assert await service.wait() == 0
            assert await idle.reader.read() == b""
    assert users(database) == {"user_0", "user_1", "user_2"}


async def test_a_stop_waits_until_what_was_committed_is_answered(
    database: Database, tmp_path: Path, failpoints: Failpoints
) -> None:
    failpoints.plant("webhook.committed")
    async with WebhookService(database, folder=tmp_path, NEXUS_AUTH_FAILPOINTS_DIR=str(failpoints.folder)) as service:
        post = asyncio.create_task(service.post(new_user("user_ada")))
        await failpoints.reached("webhook.committed")
        assert users(database) == {"user_ada"}
        assert not post.done()
        os.kill(service.pid, signal.SIGTERM)
        await service.logged("draining")
        failpoints.remove("webhook.committed")
        assert await post == (204, "")
        assert await service.wait() == 0


async def test_a_stop_while_postgres_is_away_ends_in_time_and_acknowledges_nothing(
    own_server: Server, own_database: Database, tmp_path: Path
) -> None:
    async with WebhookService(own_database, folder=tmp_path) as service:
        own_server.stop()
        assert (await service.post(new_user("user_ada")))[0] == 503
        assert await service.stop(seconds=15) == 0
    own_server.stop()
    async with WebhookService(own_database, folder=tmp_path, wait=False) as service:
        assert (await service.post(new_user("user_ada")))[0] == 503
        assert await service.stop(seconds=15) == 0
