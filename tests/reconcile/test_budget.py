"""Requests in any ten seconds stay within the share, retries included, by the emulator's own request log."""

import asyncio
import time

import pytest

from devtools.clerk_emulator import ApiFault
from nexus_auth.clerk.api import ClerkApi, ClerkUnavailable
from nexus_auth.reconcile.requester import Requester
from nexus_auth.store.budget import Budget, Share, UnwrittenBudget
from tests.reconcile.conftest import MakeWorld
from tests.reconcile.world import World

DEVELOPMENT = Share.of("Development", percent=30)
"""30 requests in any ten seconds."""


def budget(world: World, *, share: Share) -> Budget:
    """As another process would have it: grants of its own, the row in common."""
    return Budget(world.pool, instance_id=world.clerk.instance_id, share=share)


async def test_a_budget_is_opened_before_the_first_request(make_world: MakeWorld) -> None:
    world = await make_world()
    await world.admin.execute("delete from clerk_private.budget")
    before = len(list(world.clerk.requests.since(0)))
    result = await world.sweep()
    assert result.state == "failed"
    assert "55000" in (result.message or "")
    assert len(list(world.clerk.requests.since(0))) == before


@pytest.mark.slow
async def test_two_processes_share_one_budget_with_every_retry(make_world: MakeWorld) -> None:
    """Every third request fails or is cut: what is tried again counts like any other."""
    world = await make_world(users=10)
    world.clerk.add_fault(ApiFault("status", status=500, rate=0.2))
    world.clerk.add_fault(ApiFault("cut", rate=0.2))
    first, second = budget(world, share=DEVELOPMENT), budget(world, share=DEVELOPMENT)
    await first.open()
    until = time.monotonic() + 23

    async def ask(own: Budget) -> None:
        async with ClerkApi(world.clerk.api_url, secret_key=world.clerk.secret_key) as api:
            requester = Requester(api, budget=own, first_pause=0.001)
            while time.monotonic() < until:
                try:
                    await requester.read("/users", [("limit", "1")])
                except ClerkUnavailable:
                    continue

    await asyncio.gather(*(ask(own) for own in (first, second) for _ in range(4)))
    log = list(world.clerk.requests.since(0))
    assert first.requests > 5
    assert second.requests > 5
    assert len(log) == first.requests + second.requests
    assert world.clerk.requests.most_in_window(seconds=10) <= 30
    assert len(log) >= 50  # and it is made use of


async def test_a_retry_takes_from_the_budget_like_any_request(world: World) -> None:
    world.clerk.add_fault(ApiFault("status", status=500, route="/users", next=2))
    world.clerk.add_fault(ApiFault("cut", route="/users", next=2))
    taken, seen = world.budget.requests, len(list(world.clerk.requests.since(0)))
    await world.requester.read("/users", [("limit", "1")])
    assert world.budget.requests - taken == 5
    assert len(list(world.clerk.requests.since(0))) - seen == 5


async def test_where_nothing_may_be_written_the_same_bucket_is_kept_in_the_process(world: World) -> None:
    await world.admin.execute("delete from clerk_private.budget")
    own = UnwrittenBudget(world.pool, instance_id=world.clerk.instance_id, share=Share(per_second=20, burst=4))
    requester = Requester(world.api, budget=own, first_pause=0.001)
    began, before = time.monotonic(), len(list(world.clerk.requests.since(0)))
    while time.monotonic() < began + 1:
        await requester.read("/users", [("limit", "1")])
    asked = len(list(world.clerk.requests.since(0))) - before
    lasted = time.monotonic() - began
    assert 4 < own.requests == asked <= 4 + 20 * lasted + 1
    world.clerk.add_fault(ApiFault("status", status=429, retry_after=1, route="/users", next=1))
    began = time.monotonic()
    await requester.read("/users", [("limit", "1")])
    assert time.monotonic() - began >= 1
    assert await world.admin.fetchval("select count(*) from clerk_private.budget") == 0
    await world.budget.open()
    await own.pause(60)
    assert await world.admin.fetchval("select paused_until is not null from clerk_private.budget")


async def test_one_429_pauses_everybody(world: World) -> None:
    world.clerk.add_fault(ApiFault("status", status=429, retry_after=1, route="/users", next=1))
    other = budget(world, share=Share(per_second=100_000, burst=1_000))
    asking = asyncio.create_task(world.requester.read("/users", [("limit", "1")]))
    deadline = time.monotonic() + 10
    while not await world.admin.fetchval("select paused_until > clock_timestamp() from clerk_private.budget"):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)
    row = await world.admin.fetchrow("select * from clerk_private.take_budget($1, 5)", world.clerk.instance_id)
    assert row["granted"] == 0
    assert 0 < row["wait_ms"] <= 1_000
    await other.take()
    assert await world.admin.fetchval("select paused_until is null from clerk_private.budget")
    await asking


async def test_a_429_of_the_first_question_pauses_too(world: World) -> None:
    """Who am I? is a request like any other: it is tried again when the pause is over."""
    world.clerk.add_fault(ApiFault("status", status=429, retry_after=1, route="/instance", next=1))
    before = time.monotonic()
    result = await world.sweep()
    assert result.state == "completed"
    assert time.monotonic() - before >= 1


@pytest.mark.parametrize("percent", [1, 3, 10, 30, 100])
@pytest.mark.parametrize("environment", ["Development", "Production"])
def test_what_a_bucket_can_give_in_any_window_is_within_the_share(environment: str, percent: int) -> None:
    """The bucket's own arithmetic, second by second: full at the start, emptied greedily."""
    share = Share.of(environment, percent=percent)
    limit = {"Development": 100, "Production": 1_000}[environment] * percent / 100
    tokens, grants, steps = float(share.burst), list[float](), 10
    for step in range(60 * steps):
        while tokens >= 1:
            tokens -= 1
            grants.append(step / steps)
        tokens = min(share.burst, tokens + share.per_second / steps)
    most = max(sum(1 for at in grants if start <= at < start + 10.9) for start in grants)
    assert most <= limit


async def test_a_kept_connection_that_breaks_costs_one_request_and_not_two() -> None:
    """HTTP clients like to repeat a GET on their own when that happens; no budget would have counted it."""
    requests = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        while await reader.readuntil(b"\r\n\r\n"):
            requests += 1
            if requests > 1:
                writer.close()
                return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
            await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, ClerkApi(f"http://127.0.0.1:{port}", secret_key="sk_test_x") as api:
        await api.read("/users")
        with pytest.raises(ClerkUnavailable):
            await api.read("/users")
    assert requests == 2
