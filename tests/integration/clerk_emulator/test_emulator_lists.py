"""Lists and counts by Clerk's rules, and the variants of what its documents leave open."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from devtools.clerk_emulator import Emulator

Params = dict[str, Any]
Ask = Callable[..., Awaitable[Any]]
KINDS = ("email_address", "phone_number", "username", "web3_wallet", "external_id")


@pytest.fixture
async def session(clerk: Emulator) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {clerk.secret_key}"}
    async with aiohttp.ClientSession(f"{clerk.api_url}/v1/", headers=headers) as session:
        yield session


@pytest.fixture
def ask(session: aiohttp.ClientSession) -> Ask:
    async def ask(path: str, status: int = 200, **params: Any) -> Any:
        async with session.get(path, params=params) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json()

    return ask


@pytest.fixture
def users(ask: Ask) -> Ask:
    """Ids of one page of users."""

    async def users(**params: Any) -> list[str]:
        return [user["id"] for user in await ask("users", **params)]

    return users


@pytest.fixture
def count(ask: Ask) -> Ask:
    async def count(**params: Any) -> int:
        answer = await ask("users/count", **params)
        assert answer["object"] == "total_count"
        return int(answer["total_count"])

    return count


def behave(clerk: Emulator, **change: Any) -> None:
    clerk.events.behaviour = replace(clerk.events.behaviour, **change)


def everyone(clerk: Emulator) -> list[str]:
    """Ids from the oldest user to the newest."""
    return [user.id for user in clerk.state.users]


@pytest.mark.parametrize(
    ("path", "params", "named"),
    [
        ("users", {"limit": "0"}, "limit"),
        ("users", {"limit": "501"}, "limit"),
        ("users", {"limit": "ten"}, "limit"),
        ("users", {"offset": "-1"}, "offset"),
        ("users", {"order_by": "shoe_size"}, "order_by"),
        ("users", {"order_by": "+-created_at"}, "order_by"),
        ("users", {"order_by": " created_at"}, "order_by"),
        ("users", {"starting_after": "user_x", "order_by": "-updated_at"}, "starting_after"),
        ("users", {"starting_after": "user_x", "order_by": "email_address"}, "starting_after"),
        ("users", {"starting_after": "user_x", "offset": "1"}, "starting_after"),
        ("users", {"starting_after": "user_x"}, "starting_after"),
        ("users", {"user_id": [f"user_{n}" for n in range(101)]}, "user_id"),
        ("users/count", {"email_address": [f"{n}@example.com" for n in range(101)]}, "email_address"),
        ("users", {"created_at_after": "yesterday"}, "created_at_after"),
        ("users/count", {"last_active_at_before": "1.5"}, "last_active_at_before"),
        ("users", {"banned": "perhaps"}, "banned"),
        ("users", {"provider": "oauth_google"}, "provider_user_id"),
        ("users", {"provider_user_id": "1"}, "provider"),
        ("organizations", {"limit": "501"}, "limit"),
        ("organizations", {"order_by": "updated_at"}, "order_by"),
        ("organizations", {"organization_id": [f"org_{n}" for n in range(101)]}, "organization_id"),
        ("organization_memberships", {"order_by": "updated_at"}, "order_by"),
        ("organization_memberships", {"limit": "0"}, "limit"),
    ],
    ids=str,
)
async def test_what_clerk_would_not_take_is_refused_by_name(ask: Ask, path: str, params: Params, named: str) -> None:
    (error,) = (await ask(path, status=422, **params))["errors"]
    assert error["meta"] == {"param_name": named}


async def test_a_plus_that_was_not_encoded_is_a_blank_and_refused(clerk: Emulator, ask: Ask) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {clerk.secret_key}"}) as session:
        for query, status in (("order_by=+created_at", 422), ("order_by=%2Bcreated_at", 200)):
            async with session.get(f"{clerk.api_url}/v1/users?{query}") as answer:
                assert answer.status == status


async def test_ten_come_where_no_limit_is_given_and_the_newest_first(clerk: Emulator, users: Ask) -> None:
    newest = everyone(clerk)[::-1]
    assert await users() == newest[:10]
    assert await users(limit="500") == newest
    assert await users(limit="20", offset="50") == newest[50:]
    assert await users(offset="1000") == []
    assert await users(order_by="created_at") == await users(order_by="+created_at") == newest[::-1][:10]


@pytest.mark.parametrize("order", ["", "-created_at", "+created_at", "created_at"])
async def test_a_cursor_continues_where_the_page_ended(clerk: Emulator, users: Ask, order: str) -> None:
    params = {"limit": "7"} | ({"order_by": order} if order else {})
    seen = await users(**params)
    while page := await users(**params, starting_after=seen[-1]):
        seen += page
    assert seen == (everyone(clerk) if "-" not in order and order else everyone(clerk)[::-1])


async def test_a_server_may_not_know_the_cursor(clerk: Emulator, users: Ask) -> None:
    first = await users(limit="5")
    behave(clerk, ignore_starting_after=True)
    assert await users(limit="5", starting_after=first[-1]) == first
    assert await users(limit="5", starting_after=first[-1], order_by="-updated_at")


async def test_a_cursor_may_name_a_user_who_was_deleted(clerk: Emulator, users: Ask, ask: Ask) -> None:
    order = everyone(clerk)[::-1]
    created = clerk.changes.users.create({"username": "short_lived"})
    for gone in (order[4], created.id):
        clerk.changes.users.delete(gone)
    order.remove(order[4])
    for cursor, rest in ((order[3], order[4:]), (created.id, order)):
        behave(clerk, deleted_cursor="refuse")
        if cursor == created.id:
            await ask("users", status=422, starting_after=cursor)
        behave(clerk, deleted_cursor="continue")
        assert await users(starting_after=cursor) == rest[:10]
    behave(clerk, deleted_cursor="empty")
    assert await users(starting_after=created.id) == []
    behave(clerk, deleted_cursor="restart")
    assert await users(starting_after=created.id) == order[:10]


async def test_named_users_come_and_unknown_names_are_ignored(clerk: Emulator, users: Ask, count: Ask) -> None:
    ids = everyone(clerk)
    other = everyone(clerk)[-1][:-1] + "_"
    wanted = [ids[3], ids[40], "user_nobody", other, "", f"+{ids[50]}", f" {ids[51]}"]
    assert sorted(await users(user_id=wanted)) == sorted([ids[3], ids[40], ids[50]])
    assert await count(user_id=wanted) == 3
    assert await users(user_id="user_nobody") == []
    assert await users(user_id=[f"-{ids[-1]}", "-user_nobody"]) == ids[-2:-12:-1]
    assert await count(user_id=[f"-{ids[-1]}"]) == 59
    assert await users(user_id=[f"+{ids[0]}", f"-{ids[0]}"]) == []
    hundred = [*ids, *(f"user_{n}" for n in range(40))]
    assert await users(user_id=hundred, limit="500", order_by="created_at") == ids
    assert await users(user_id=hundred) == ids[:-11:-1]


@pytest.mark.parametrize("kind", KINDS)
async def test_users_are_found_by_each_kind_of_identifier(clerk: Emulator, users: Ask, count: Ask, kind: str) -> None:
    fresh = {
        "email_address": ["New@Example.com"],
        "phone_number": ["+12025550123"],
        "web3_wallet": ["0xabc"],
        "username": "new",
        "external_id": "new-1",
    }
    new = clerk.changes.users.create(fresh)
    seeded = next(user for user in clerk.state.users if _identifier(user, kind) and user.id != new.id)
    values = [_identifier(one, kind) for one in (new, seeded)]
    assert set(await users(**{kind: [*values, "unknown"]})) == {new.id, seeded.id}
    assert await count(**{kind: values}) == 2
    assert await users(**{kind: "unknown"}) == []
    assert await users(**{kind: values}, user_id=new.id) == [new.id]
    clerk.changes.users.delete(new.id)
    assert await users(**{kind: values}) == [seeded.id]


def _identifier(user: Any, kind: str) -> Any:
    first = {"email_address": "emails", "phone_number": "phones", "web3_wallet": "wallets"}.get(kind)
    if first is None:
        return getattr(user, kind)
    owned = getattr(user, first)
    return getattr(owned[0], {"emails": "address", "phones": "number", "wallets": "address"}[first]) if owned else None


async def test_users_of_organizations_and_not_of_them(clerk: Emulator, users: Ask, count: Ask) -> None:
    one, other = clerk.state.organizations.page(offset=0, limit=2)
    in_one, in_other = ({m.user_id for m in clerk.state.members_of(each.id)} for each in (one, other))
    assert set(await users(organization_id=one.id, limit="500")) == in_one
    assert set(await users(organization_id=[one.id, f"+{other.id}"], limit="500")) == in_one | in_other
    assert set(await users(organization_id=[one.id, f"-{other.id}"], limit="500")) == in_one - in_other
    assert await count(organization_id=f"-{one.id}") == 60 - len(in_one)
    assert await count(organization_id="org_none") == 0


@pytest.mark.parametrize("after_inclusive", [False, True])
@pytest.mark.parametrize("before_inclusive", [False, True])
async def test_bounds_include_their_moment_or_not(
    clerk: Emulator, users: Ask, count: Ask, after_inclusive: bool, before_inclusive: bool
) -> None:
    behave(clerk, after_inclusive=after_inclusive, before_inclusive=before_inclusive)
    oldest = list(clerk.state.users)
    bounds = {"created_at_after": str(oldest[10].created_at), "created_at_before": str(oldest[20].created_at)}
    expected = [user.id for user in oldest[10 if after_inclusive else 11 : 21 if before_inclusive else 20]]
    assert await users(**bounds, limit="500", order_by="+created_at") == expected
    assert await count(**bounds) == len(expected)
    assert await users(**bounds, user_id=[user.id for user in oldest[:15]], order_by="+created_at") == [
        user.id for user in oldest[10 if after_inclusive else 11 : 15]
    ]
    signed_in = sorted(user.last_sign_in_at or 0 for user in oldest)
    expected_count = len(signed_in) - 30 - (not after_inclusive)
    assert await count(last_sign_in_at_after=str(signed_in[30])) == expected_count


async def test_a_window_is_walked_by_cursor_within_its_bounds(clerk: Emulator, users: Ask) -> None:
    oldest = list(clerk.state.users)
    bounds = {"created_at_after": str(oldest[9].created_at), "created_at_before": str(oldest[40].created_at)}
    params = bounds | {"limit": "4", "order_by": "+created_at"}
    seen = await users(**params)
    while page := await users(**params, starting_after=seen[-1]):
        seen += page
    assert seen == [user.id for user in oldest[10:40]]


async def test_filters_by_pieces_of_text_and_switches(clerk: Emulator, users: Ask, count: Ask) -> None:
    ada = clerk.changes.users.create(
        {"email_address": ["QUEEN@example.com"], "first_name": "Adaobi", "last_name": "Zed", "username": "The_Queen"}
    )
    clerk.changes.users.update(ada.id, {"banned": True})
    for params in (
        {"query": "ueen@EXAM"},
        {"query": "ADAOBI z"},
        {"query": ada.id},
        {"email_address_query": "queen@"},
        {"username_query": "the_q"},
        {"name_query": "daobi"},
        {"banned": "true", "query": "queen"},
    ):
        assert await users(**params) == [ada.id], params
    assert await users(phone_number_query="queen") == []
    banned = await count(banned="true")
    assert banned + await count(banned="false") == 61
    google = next(user for user in clerk.state.users if user.google)
    assert google.google
    account = google.google.provider_user_id
    assert await users(provider="oauth_google", provider_user_id=[account, "1"]) == [google.id]
    assert await users(provider="oauth_apple", provider_user_id=account) == []
    active = max(user.last_active_at or 0 for user in clerk.state.users)
    assert await count(last_active_at_since=str(active)) >= 1
    assert await count(last_active_at_after=str(active)) == 0


async def test_the_order_by_last_change_follows_every_change(clerk: Emulator, users: Ask) -> None:
    def expected() -> list[str]:
        return [user.id for user in sorted(clerk.state.users, key=lambda user: user.updated_at)][::-1]

    assert await users(order_by="-updated_at", limit="500") == expected()
    ids = everyone(clerk)
    clerk.changes.users.update(ids[7], {"first_name": "Moved"})
    clerk.changes.users.create({"username": "somebody"})
    clerk.changes.users.delete(ids[30])
    clerk.changes.users.sign_in(ids[8])
    assert await users(order_by="-updated_at", limit="500") == expected()
    assert await users(order_by="updated_at", limit="500") == expected()[::-1]
    assert await users(order_by="-updated_at", limit="2", user_id=ids[:10]) == [ids[8], ids[7]]
    assert (
        await users(order_by="-updated_at", limit="5", offset="3", user_id=f"-{ids[8]}")
        == [one for one in expected() if one != ids[8]][3:8]
    )


async def test_a_changed_time_of_creation_moves_a_user(clerk: Emulator, users: Ask) -> None:
    ids = everyone(clerk)
    clerk.changes.users.update(ids[0], {"created_at": "2030-01-01T00:00:00.123Z"})
    assert (await users())[0] == ids[0]
    assert await users(created_at_after="1893456000122") == [ids[0]]
    assert await users(created_at_after="1893456000123") == []


async def test_organizations_are_filtered_ordered_and_counted(clerk: Emulator, ask: Ask) -> None:
    organizations = list(clerk.state.organizations)
    member = clerk.state.members_of(organizations[0].id)[0].user_id
    of_member = {one.organization_id for one in clerk.state.memberships_of(member)}

    async def listed(**params: Any) -> tuple[list[str], int]:
        answer = await ask("organizations", **params)
        return [one["id"] for one in answer["data"]], answer["total_count"]

    newest = [one.id for one in organizations][::-1]
    assert await listed() == (newest, 5)
    assert await listed(limit="2", offset="1") == (newest[1:3], 5)
    assert await listed(organization_id=[newest[0], "org_none", f"+{newest[3]}"]) == ([newest[0], newest[3]], 2)
    assert await listed(organization_id=f"-{newest[0]}") == (newest[1:], 4)
    found, total = await listed(user_id=member)
    assert (set(found), total) == (of_member, len(of_member))
    assert await listed(user_id=f"-{member}") == ([one for one in newest if one not in of_member], 5 - len(of_member))
    assert await listed(query=organizations[2].slug[:-1].upper(), order_by="+name") != ([], 0)
    assert await listed(query="no such organization") == ([], 0)
    names = sorted(organizations, key=lambda one: (one.name, one.created_at))
    assert await listed(order_by="name") == ([one.id for one in names], 5)
    sizes = [clerk.state.members_count(one) for one in (await listed(order_by="-members_count"))[0]]
    assert sizes == sorted(sizes, reverse=True)


async def test_memberships_of_an_organization_are_filtered_by_their_users(clerk: Emulator, ask: Ask) -> None:
    organization = next(iter(clerk.state.organizations))
    members = clerk.state.members_of(organization.id)
    path = f"organizations/{organization.id}/memberships"

    async def listed(**params: Any) -> tuple[list[str], int]:
        answer = await ask(path, **params)
        return [one["public_user_data"]["user_id"] for one in answer["data"]], answer["total_count"]

    ids = [one.user_id for one in sorted(members, key=lambda one: one.created_at)]
    assert await listed(limit="500") == (ids[::-1], len(ids))
    assert await listed(limit="3", offset="1", order_by="+created_at") == (ids[1:4], len(ids))
    assert await listed(user_id=[ids[0], "user_nobody", ids[2]]) == ([ids[2], ids[0]], 2)
    assert await listed(user_id="user_nobody") == ([], 0)
    assert await listed(user_id=f"-{ids[-1]}", limit="1") == ([ids[-2]], len(ids) - 1)
    admins = [one.user_id for one in members if one.role == "org:admin"]
    assert (await listed(role=["org:admin", "org:none"]))[1] == len(admins)
    address = (await ask(f"users/{ids[1]}"))["email_addresses"][0]["email_address"]
    assert await listed(email_address=address) == ([ids[1]], 1)
    await ask(path, status=422, user_id=[f"user_{n}" for n in range(101)])


async def test_memberships_of_the_instance_are_walked_by_offset(clerk: Emulator, ask: Ask) -> None:
    seen: list[str] = []
    while page := (await ask("organization_memberships", limit="40", offset=str(len(seen))))["data"]:
        seen += [one["id"] for one in page]
    assert seen == [one.id for one in clerk.state.memberships][::-1]


async def test_a_stale_replica_lists_the_deleted_until_it_catches_up(
    clerk: Emulator, ask: Ask, users: Ask, count: Ask
) -> None:
    behave(clerk, stale_deleted_seconds=None)
    membership = clerk.state.memberships.page(offset=0, limit=1)[0]
    user, order = membership.user_id, everyone(clerk)[::-1]
    address = clerk.changes.users.find(user).emails[0].address
    clerk.changes.users.delete(user)
    assert await users(limit="500") == order
    assert set(await users(order_by="-updated_at", limit="500")) == set(order)
    assert await users(user_id=user) == await users(email_address=address) == [user]
    assert await count() == 59
    assert await count(user_id=user) == 0
    listed = await ask("organization_memberships", limit="500")
    assert membership.id in {one["id"] for one in listed["data"]}
    assert listed["total_count"] == len(clerk.state.memberships)
    named = await ask(f"organizations/{membership.organization_id}/memberships", user_id=user)
    assert [one["id"] for one in named["data"]] == [membership.id]
    await ask(f"users/{user}", status=404)
    behave(clerk, stale_counts=True, stale_single_reads=True)
    assert await count() == 60
    assert (await ask("organization_memberships"))["total_count"] == 90
    assert (await ask(f"users/{user}"))["id"] == user
    assert len(list(clerk.state.users)) == len(clerk.state.users) == 59
    clerk.state.catch_up()
    order.remove(user)
    assert await users(limit="500") == order
    assert set(await users(order_by="-updated_at", limit="500")) == set(order)
    assert await users(user_id=user) == []
    assert await count() == 59


async def test_a_replica_may_catch_up_by_itself(clerk: Emulator, users: Ask) -> None:
    behave(clerk, stale_deleted_seconds=0.3, rate_limit=0)
    gone = everyone(clerk)[-1]
    clerk.changes.users.delete(gone)
    assert await users(user_id=gone) == [gone]
    async with asyncio.timeout(5):
        while await users(user_id=gone):
            assert clerk.state.replica()["users"] == {"lingering": 1, "hidden": 0}


async def test_a_replica_may_not_have_what_exists(clerk: Emulator, ask: Ask, users: Ask, count: Ask) -> None:
    membership = clerk.state.memberships.page(offset=0, limit=1)[0]
    clerk.state.hide(membership.user_id)
    assert membership.user_id not in await users(limit="500")
    assert await users(user_id=membership.user_id) == []
    assert membership.id not in {one["id"] for one in (await ask("organization_memberships", limit="500"))["data"]}
    assert await count() == 60
    behave(clerk, stale_counts=True)
    assert await count() == 59
    await ask(f"users/{membership.user_id}")
    behave(clerk, stale_single_reads=True)
    await ask(f"users/{membership.user_id}", status=404)
    clerk.state.catch_up()
    assert await users(user_id=membership.user_id) == [membership.user_id]
    with pytest.raises(ValueError, match="nothing has the id"):
        clerk.state.hide("user_nobody")


async def test_some_changes_may_not_move_updated_at(clerk: Emulator) -> None:
    behave(clerk, still_fields=("public_metadata", "role"))
    membership = clerk.state.memberships.page(offset=0, limit=1)[0]
    user = clerk.changes.users.find(membership.user_id)
    still = clerk.changes.users.update(user.id, {"public_metadata": {"new": 1}})
    assert (still.updated_at, still.public_metadata["new"]) == (user.updated_at, 1)
    both = clerk.changes.users.update(user.id, {"public_metadata": {"new": 2}, "first_name": "Moved"})
    assert both.updated_at > user.updated_at
    role = "org:member" if membership.role == "org:admin" else "org:admin"
    place: Any = {"organization_id": membership.organization_id, "user_id": membership.user_id}
    assert clerk.changes.memberships.update(**place, role=role).updated_at == membership.updated_at
    organization = clerk.changes.organizations.find(membership.organization_id)
    assert clerk.changes.organizations.update(organization.id, {"name": "N"}).updated_at > organization.updated_at
