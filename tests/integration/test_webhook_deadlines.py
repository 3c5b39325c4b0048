"""Whatever the database does, each delivery is answered before Svix gives up, and the service recovers by itself."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from devtools.postgres import Database, Server, fetch
from tests.events import Signed, event, user
from tests.proxy import SilentProxy
from tests.service import WebhookService
from tests.wire import until

PATIENCE = 12.0
"""Seconds in which Svix must have its answer; it waits for 15."""

Answered = tuple[int, bool, float]


def new_user(user_id: str) -> Signed:
    return Signed(event("user.created", user(user_id)))


async def timed(service: WebhookService, signed: Signed) -> Answered:
    """Status, whether Retry-After is there, and how long it took."""
    began = time.monotonic()
    async with service.session.post(service.url, data=signed.body, headers=signed.headers()) as answer:
        await answer.read()
    return answer.status, "Retry-After" in answer.headers, time.monotonic() - began


async def accepted(service: WebhookService, signed: Signed) -> None:
    async def stored() -> bool:
        return await service.post(signed) == (204, "")

    await until(stored, seconds=30)


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """Postgres and all its processes stand still."""
    postmaster = server.pid
    assert postmaster is not None
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    processes = [postmaster, *map(int, children)]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in reversed(processes):
            os.kill(process, signal.SIGCONT)


async def test_connections_that_a_proxy_dropped_without_a_word_cost_one_503_in_time(
    database: Database, tmp_path: Path
) -> None:
    async with (
        SilentProxy(database.url("webhook")) as proxy,
        WebhookService(
            database, folder=tmp_path, DATABASE_URL=proxy.url, NEXUS_AUTH_ANSWER_WITHIN="2", NEXUS_AUTH_LOG_EVENTS=None
        ) as service,
    ):
        for number in range(8):
            assert await service.post(new_user(f"user_before{number}")) == (204, "")
        proxy.drop()
        assert proxy.dropped >= 1
        status, retry_after, seconds = await timed(service, new_user("user_dropped"))
        assert (status, retry_after) == (503, True)
        assert seconds < 4
        await accepted(service, new_user("user_dropped"))
        for number in range(8):
            assert await service.post(new_user(f"user_after{number}")) == (204, "")


@pytest.mark.timeout(240)
async def test_while_postgres_stands_still_everybody_hears_a_503_within_twelve_seconds_and_afterwards_it_goes_on(
    own_server: Server, own_database: Database, tmp_path: Path
) -> None:
    async with WebhookService(own_database, folder=tmp_path, NEXUS_AUTH_LOG_EVENTS=None) as service:
        assert await service.post(new_user("user_before")) == (204, "")
        with frozen(own_server):
            first = [asyncio.create_task(timed(service, new_user(f"user_a{n}"))) for n in range(32)]
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            second = [asyncio.create_task(timed(service, new_user(f"user_b{n}"))) for n in range(32)]
            heard = await asyncio.gather(*first, *second)
            assert {(status, retry_after) for status, retry_after, _ in heard} == {(503, True)}
            assert max(seconds for *_, seconds in heard) < PATIENCE
            assert await service.health("/readyz") == (200, "ok\n")
            assert await service.metric("nexus_auth_webhook_queued_events") == 0
        await accepted(service, new_user("user_after"))
        assert await service.metric("nexus_auth_webhook_database_up") == 1
    assert '"traceback"' not in service.log.read_text()


@pytest.mark.timeout(240)
async def test_behind_a_table_lock_everybody_hears_a_503_within_twelve_seconds_and_the_log_says_who_holds_it(
    database: Database, tmp_path: Path
) -> None:
    async with WebhookService(database, folder=tmp_path, NEXUS_AUTH_LOG_EVENTS=None) as service:
        assert await service.post(new_user("user_before")) == (204, "")
        holder = await asyncpg.connect(database.admin_url)
        try:
            async with holder.transaction():
                await holder.execute("lock table clerk.users in access exclusive mode")
                first = [asyncio.create_task(timed(service, new_user(f"user_a{n}"))) for n in range(64)]
                await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
                second = [asyncio.create_task(timed(service, new_user(f"user_b{n}"))) for n in range(64)]
                heard = await asyncio.gather(*first, *second)
                held = await service.logged("locks are held on tables of ours")
        finally:
            await holder.close()
        assert {(status, retry_after) for status, retry_after, _ in heard} == {(503, True)}
        assert max(seconds for *_, seconds in heard) < PATIENCE
        assert "clerk.users" in held["by"]
        await accepted(service, new_user("user_after"))


async def test_a_read_only_server_and_a_revoked_right_are_said_once_each_and_when_they_are_over(
    database: Database, tmp_path: Path
) -> None:
    login = f"{database.role_prefix}webhook_login"
    on, off = (
        f"alter role {login} in database {database.name} set default_transaction_read_only = {value}"
        for value in ("on", "off")
    )
    cut = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and usename like '%webhook_login'"
    function = "clerk_private.ingest(clerk_private.delivery[], clerk_private.change[])"
    async with WebhookService(database, folder=tmp_path, NEXUS_AUTH_LOG_EVENTS=None) as service:

        async def refused(reason: str) -> None:
            async def says() -> bool:
                status, text = await service.post(new_user("user_1"))
                return status == 503 and reason in text

            await until(says)
            for number in range(20):
                assert (await service.post(new_user(f"user_{number}")))[0] == 503

        fetch(database.admin_url, on)
        fetch(database.admin_url, cut, database.name)
        await refused("read-only")
        fetch(database.admin_url, off)
        fetch(database.admin_url, f"revoke execute on function {function} from {database.role_prefix}webhook")
        fetch(database.admin_url, cut, database.name)
        await refused("the login may not do this")
        fetch(database.admin_url, f"grant execute on function {function} to {database.role_prefix}webhook")
        await accepted(service, new_user("user_1"))
        await service.logged("events are stored again")
    said = [line for line in service.log.read_text().splitlines() if "events are not stored" in line]
    assert len([line for line in said if "read-only" in line]) == 1
    assert len([line for line in said if "may not do this" in line]) == 1
    assert '"traceback"' not in service.log.read_text()


async def test_an_outage_is_a_handful_of_lines_and_no_traceback(
    own_server: Server, own_database: Database, tmp_path: Path
) -> None:
    async with WebhookService(own_database, folder=tmp_path, NEXUS_AUTH_LOG_EVENTS=None) as service:
        assert await service.post(new_user("user_1")) == (204, "")
        before = len(service.log.read_text().splitlines())
        own_server.stop()
        for number in range(300):
            assert (await service.post(new_user(f"user_{number}")))[0] == 503
        own_server.start()
        await accepted(service, new_user("user_1"))
        lines = service.log.read_text().splitlines()[before:]
    assert len(lines) < 12, lines
    assert not [line for line in lines if "raceback" in line]


async def test_thousands_of_refused_events_are_ten_lines(database: Database, tmp_path: Path) -> None:
    async with WebhookService(database, folder=tmp_path, NEXUS_AUTH_LOG_EVENTS=None) as service:
        signed = Signed(event("user.created", user("user_eve"), instance_id="ins_development00000000"))
        headers = signed.headers()
        left = iter(range(2_000))

        async def send() -> None:
            for _ in left:
                assert (await service.send(signed.body, headers))[0] == 403

        await asyncio.gather(*(send() for _ in range(16)))
        lines = [line for line in service.log.read_text().splitlines() if "another Clerk instance" in line]
        assert len(lines) == 10
        assert await service.metric("nexus_auth_webhook_wrong_instance_total") == 2_000
