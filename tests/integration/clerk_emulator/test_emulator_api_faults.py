"""What goes wrong on the API on command, the rate limit, and the log that proves a budget."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest

from devtools.clerk_emulator import ApiFault, Behaviour, Emulator, Settings
from devtools.clerk_emulator.api.rate_limit import RateLimit
from devtools.clerk_emulator.api.requests import RequestLog

Get = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
async def session(clerk: Emulator) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {clerk.secret_key}"}
    async with aiohttp.ClientSession(clerk.url, headers=headers) as session:
        yield session


@pytest.fixture
def get(session: aiohttp.ClientSession) -> Get:
    async def get(path: str, **params: Any) -> tuple[int, Any]:
        async with session.get(f"/v1/{path}", params=params) as answer:
            return answer.status, await answer.json()

    return get


@pytest.fixture
def control(session: aiohttp.ClientSession) -> Callable[..., Awaitable[Any]]:
    async def control(method: str, path: str, body: Any = None, *, expect: int = 200) -> Any:
        async with session.request(method, f"/_emulator/{path}", json=body) as answer:
            assert answer.status == expect, await answer.text()
            return await answer.json()

    return control


def ids(page: Any) -> list[str]:
    return [one["id"] for one in (page if isinstance(page, list) else page["data"])]


@pytest.mark.parametrize("status", [401, 402, 403, 429, 500, 502, 503])
async def test_a_status_is_answered_so_often_and_only_where_it_was_ordered(
    clerk: Emulator, session: aiohttp.ClientSession, get: Get, status: int
) -> None:
    clerk.add_fault(ApiFault("status", status=status, next=2, route="/users", skip=1, retry_after=7))
    assert [(await get("users"))[0] for _ in range(4)] == [200, status, status, 200]
    assert (await get("organizations"))[0] == 200
    clerk.add_fault(ApiFault("status", status=status, query="*limit=3*", retry_after=7))
    assert (await get("users", limit="4"))[0] == 200
    async with session.get("/v1/users?limit=3") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (status, "7")
        assert (await answer.json())["errors"][0]["code"]
    assert [(entry.status, entry.fault) for entry in clerk.requests.since(0)][1] == (status, "status")


async def test_a_refused_change_changes_nothing(clerk: Emulator, session: aiohttp.ClientSession) -> None:
    user = clerk.state.users.page(offset=0, limit=1)[0]
    clerk.add_fault(ApiFault("status", status=503, method="DELETE"))
    async with session.delete(f"/v1/users/{user.id}") as answer:
        assert answer.status == 503
    assert user.id in clerk.state.users


async def test_a_rate_gives_its_share_and_the_same_one_in_every_run(clerk: Emulator, get: Get) -> None:
    async def statuses() -> list[int]:
        clerk.api_faults.random.seed(4)
        return [(await get("instance"))[0] for _ in range(20)]

    clerk.events.behaviour = replace(clerk.events.behaviour, rate_limit=0)
    clerk.add_fault(ApiFault("status", rate=0.4))
    first = await statuses()
    assert 2 <= first.count(500) <= 14
    assert await statuses() == first


async def test_silence_lasts_until_the_client_leaves_or_the_answer_comes_late(clerk: Emulator, get: Get) -> None:
    clerk.add_fault(ApiFault("timeout", next=1))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(get("users"), timeout=0.2)
    assert [(entry.status, entry.fault) for entry in clerk.requests.since(0)] == [(0, "timeout")]
    clerk.add_fault(ApiFault("timeout", next=1, seconds=0.2))
    began = time.monotonic()
    assert (await get("users"))[0] == 200
    assert time.monotonic() - began >= 0.2


async def test_a_connection_is_cut_in_mid_body(clerk: Emulator, session: aiohttp.ClientSession, get: Get) -> None:
    clerk.add_fault(ApiFault("cut", next=1))
    async with session.get("/v1/users?limit=60") as answer:
        assert answer.status == 200
        length, got = int(answer.headers["Content-Length"]), b""

        async def read() -> None:
            nonlocal got
            async for piece in answer.content.iter_any():
                got += piece

        with pytest.raises(aiohttp.ClientPayloadError):
            await read()
    assert 0 < len(got) < length
    assert [entry.status for entry in clerk.requests.since(0)] == [0]
    assert (await get("users"))[0] == 200


async def test_invalid_json_claims_to_be_whole(clerk: Emulator, session: aiohttp.ClientSession) -> None:
    clerk.add_fault(ApiFault("invalid_json", next=1))
    async with session.get("/v1/users") as answer:
        assert answer.status == 200
        assert len(await answer.read()) == int(answer.headers["Content-Length"])
        with pytest.raises(ValueError, match=r"Expecting|Unterminated|delimiter"):
            await answer.json()


async def test_a_short_page_is_followed_by_the_rows_that_it_held_back(clerk: Emulator, get: Get) -> None:
    everyone = [user.id for user in clerk.state.users][::-1]
    clerk.add_fault(ApiFault("short_page", next=1, rows=3))
    assert ids((await get("users"))[1]) == everyone[:3]
    assert ids((await get("users", starting_after=everyone[2]))[1]) == everyone[3:13]
    clerk.add_fault(ApiFault("short_page", next=1, route="/organization_memberships"))
    _, page = await get("organization_memberships")
    assert (len(page["data"]), page["total_count"]) == (5, 90)
    clerk.add_fault(ApiFault("short_page", next=1))
    assert (await get(f"users/{everyone[0]}"))[1]["id"] == everyone[0]
    assert (await get("users/count"))[1]["total_count"] == 60
    assert len((await get("users"))[1]) == 5


async def test_a_page_is_empty_in_the_middle_of_a_walk(clerk: Emulator, get: Get) -> None:
    clerk.add_fault(ApiFault("empty_page", skip=1, next=1, route="/users"))
    assert [len((await get("users", offset=str(offset)))[1]) for offset in (0, 10, 20)] == [10, 0, 10]
    clerk.add_fault(ApiFault("empty_page", next=1))
    assert (await get("organizations"))[1] == {"data": [], "total_count": 5}


async def test_a_page_is_given_again_in_place_of_the_next(clerk: Emulator, get: Get) -> None:
    clerk.add_fault(ApiFault("repeat_page", next=1, route="/users"))
    pages = [ids((await get("users", offset=str(offset)))[1]) for offset in (0, 10, 20)]
    everyone = [user.id for user in clerk.state.users][::-1]
    assert pages == [everyone[:10], everyone[:10], everyone[20:30]]


async def test_the_date_may_be_minutes_off(clerk: Emulator, session: aiohttp.ClientSession) -> None:
    async def off() -> float:
        async with session.get("/v1/users") as answer:
            return parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()

    assert abs(await off()) < 3
    clerk.events.behaviour = replace(clerk.events.behaviour, date_minutes=-7)
    assert abs(await off() + 420) < 3
    clerk.add_fault(ApiFault("date", minutes=9, next=1))
    assert abs(await off() - 540) < 3


async def test_the_instance_may_be_another(clerk: Emulator, get: Get) -> None:
    clerk.events.behaviour = replace(clerk.events.behaviour, answered_instance_id="ins_other")
    assert (await get("instance"))[1]["id"] == "ins_other"


async def test_changes_happen_exactly_between_two_pages(clerk: Emulator, get: Get) -> None:
    everyone = [user.id for user in clerk.state.users][::-1]
    clerk.before(page=2, do=lambda: clerk.changes.users.delete(everyone[3]))
    clerk.before(page=3, do=lambda: clerk.changes.users.create_many(2), query="limit=10*")
    walked = [ids((await get("users", limit="10", offset=str(offset)))[1]) for offset in (0, 10, 20)]
    assert walked[:2] == [everyone[:10], everyone[11:21]]
    assert walked[2] == everyone[19:29]
    assert list(clerk.scripts) == []


async def test_scripts_and_changes_are_commanded_by_http(clerk: Emulator, get: Get, control: Any) -> None:
    order = [user.id for user in clerk.state.users][::-1]
    script = {"page": 2, "route": "/users", "silently": True, "do": [{"users.delete": {"id": order[0]}}]}
    await control("POST", "scripts", script, expect=201)
    assert [one["page"] for one in (await control("GET", "scripts"))["data"]] == [2]
    assert ids((await get("users"))[1])[0] == order[0]
    assert ids((await get("users"))[1])[0] == order[1]
    assert clerk.dispatcher.log.newest_first().__next__().fate == "unsent"
    (many,) = (await control("POST", "changes", {"users.create_many": {"count": 30, "created_at": 1_900_000_000_123}}))[
        "data"
    ]
    _, tied = await get("users", created_at_after="1900000000122", limit="500")
    assert (set(ids(tied)), {one["created_at"] for one in tied}) == (set(many), {1_900_000_000_123})
    steps: list[Any] = [
        {"organizations.create": {"name": "Acme"}},
        {"replica.hide": {"id": many[0]}},
        {"behaviour": {"after_inclusive": True}},
    ]
    organization = (await control("POST", "changes?silently=1", steps))["data"][0]
    place = {"organization_id": organization, "user_id": many[1]}
    steps = [
        {"memberships.create": place | {"role": "org:member"}},
        {"memberships.update": place | {"role": "org:admin"}},
        {"users.update": {"id": many[1], "first_name": "Ada"}},
        {"users.sign_in": {"id": many[1]}},
    ]
    await control("POST", "changes", steps)
    assert len((await get("users", created_at_after="1900000000123", limit="500"))[1]) == 29
    assert await control("POST", "replica", {"hide": [many[2]]}) == {
        "users": {"lingering": 0, "hidden": 2},
        "organizations": {"lingering": 0, "hidden": 0},
        "memberships": {"lingering": 0, "hidden": 0},
    }
    await control("POST", "replica", {"catch_up": True})
    assert len((await get("users", created_at_after="1900000000123", limit="500"))[1]) == 30
    for wrong, says in (
        ({"users.explode": {}}, "unknown: users.explode"),
        ([{"users.delete": {"id": "user_nobody"}}], "No user was found"),
        ({"users.delete": "x"}, "takes an object"),
        ([3], "one member"),
        ({"users.delete": {}}, "id"),
    ):
        assert says in (await control("POST", "changes", wrong, expect=400))["error"]


async def test_everything_is_rendered_beforehand_by_http(control: Any) -> None:
    assert await control("POST", "warm") == {"users": 60, "memberships": 90}


async def test_api_faults_are_set_by_http(control: Any, get: Get) -> None:
    fault = await control("POST", "faults", {"kind": "status", "status": 503, "route": "/inst*"}, expect=201)
    assert (await get("instance"))[0] == 503
    assert (await control("GET", "faults"))["data"] == [fault]
    await control("DELETE", f"faults/{fault['id']}")
    assert (await get("instance"))[0] == 200
    for wrong in (
        {"kind": "status", "status": 200},
        {"kind": "cut", "types": "user.*"},
        {"kind": "timeout", "rate": 2},
    ):
        await control("POST", "faults", wrong, expect=400)


class TestRateLimit:
    def test_everything_is_refused_from_the_first_excess_until_the_block_ends(self) -> None:
        now = [100.0]
        limit = RateLimit(clock=lambda: now[0])

        def refused(at: float) -> int | None:
            now[0] = at
            return limit.refuses(limit=3, window=10)

        assert [refused(at) for at in (100, 104, 105)] == [None] * 3
        assert refused(105.5) == 5
        assert refused(109.9) == 1
        assert [refused(at) for at in (110.5, 110.6)] == [None, 4]
        assert refused(114.6) is None

    def test_insisting_may_prolong_the_block(self) -> None:
        now = [0.0]
        limit = RateLimit(clock=lambda: now[0])

        def refused(at: float) -> int | None:
            now[0] = at
            return limit.refuses(limit=2, window=10, counts_refused=True)

        assert [refused(at) for at in (0, 1, 2, 9)] == [None, None, 9, 3]
        assert refused(11.5) == 8
        assert refused(19.6) is None

    def test_no_limit_is_none(self) -> None:
        limit = RateLimit()
        assert {limit.refuses(limit=0, window=10) for _ in range(5_000)} == {None}

    @pytest.mark.parametrize(("environment", "allowed"), [("development", 100), ("production", 1_000)])
    async def test_an_instance_has_clerks_limit(self, environment: Any, allowed: int) -> None:
        settings = Settings(users=1, organizations=0, memberships=0, environment_type=environment)
        async with Emulator(settings) as clerk:
            headers = {"Authorization": f"Bearer {clerk.secret_key}"}
            async with aiohttp.ClientSession(clerk.url, headers=headers) as session:
                statuses = [await self._status(session) for _ in range(allowed + 2)]
                assert statuses[allowed - 1 :] == [200, 429, 429]
                async with session.get("/v1/users/count") as answer:
                    assert 1 <= int(answer.headers["Retry-After"]) <= 10
                    assert (await answer.json())["errors"][0]["code"] == "too_many_requests"
                assert await self._status(session, "jwks") == 200
                assert clerk.requests.most_in_window() == allowed + 3

    async def test_a_block_ends_when_it_said(self) -> None:
        behaviour = Behaviour(rate_limit=2, rate_window_seconds=0.5)
        async with Emulator(Settings(users=1, organizations=0, memberships=0, behaviour=behaviour)) as clerk:
            headers = {"Authorization": f"Bearer {clerk.secret_key}"}
            async with aiohttp.ClientSession(clerk.url, headers=headers) as session:
                assert [await self._status(session) for _ in range(3)] == [200, 200, 429]
                began = time.monotonic()
                while await self._status(session) == 429:
                    assert time.monotonic() - began < 5
                    await asyncio.sleep(0.05)
                assert time.monotonic() - began > 0.8

    async def _status(self, session: aiohttp.ClientSession, path: str = "instance") -> int:
        async with session.get(f"/v1/{path}") as answer:
            return answer.status


async def test_the_log_has_every_request_in_order_of_arrival(clerk: Emulator, get: Get, control: Any) -> None:
    clerk.add_fault(ApiFault("timeout", next=1, seconds=0.1))
    (slow, _), (quick, _) = await asyncio.gather(get("users", limit="1"), get("users", limit="2"))
    assert (slow, quick) == (200, 200)
    entries = (await control("GET", "requests"))["data"]
    assert [entry["status"] for entry in entries] == [200, 200]
    assert sum(entry["duration_ms"] > 99 for entry in entries) == 1
    moments = [entry["monotonic_ms"] for entry in entries]
    assert moments == sorted(moments)
    assert await control("GET", "requests/window?seconds=10") == {"seconds": 10, "most": 2}


def test_the_fullest_window_is_found_wherever_it_lies() -> None:
    log = RequestLog(limit=100)
    for moment, route in ((0, "/v1/users"), (9_999, "/v1/users"), (10_000, "/v1/users"), (10_001, "/v1/jwks")):
        entry = log.begin(method="GET", route=route, path=route, query="", version=None)
        entry.monotonic_ms = float(moment)
    assert log.most_in_window() == 2
    assert log.most_in_window(seconds=10.001) == 3
    assert log.most_in_window(but_not=frozenset()) == 3


async def test_many_seeded_users_may_share_one_time_of_creation() -> None:
    settings = Settings(users=50, users_of_one_moment=20, organizations=0, memberships=0)
    async with Emulator(settings) as clerk:
        times = [user.created_at for user in clerk.state.users]
        assert len(set(times)) == 31
        assert max(times.count(time) for time in times) == 20
        assert len({user.id for user in clerk.state.users}) == 50
        headers = {"Authorization": f"Bearer {clerk.secret_key}"}
        async with aiohttp.ClientSession(clerk.url, headers=headers) as session:
            seen: list[str] = []
            while True:
                params = {"limit": "7", "order_by": "+created_at"} | ({"starting_after": seen[-1]} if seen else {})
                async with session.get("/v1/users", params=params) as answer:
                    if not (page := ids(await answer.json())):
                        break
                    seen += page
        assert seen == [user.id for user in clerk.state.users]
    with pytest.raises(ValueError, match="one moment"):
        Settings(users=1, users_of_one_moment=2, organizations=0, memberships=0)
