"""What the API does beyond having the right shapes."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import jwt
import pytest

from devtools.clerk_emulator import ClerkError, Emulator, Settings
from devtools.clerk_emulator.delivery.messages import now_ms
from devtools.clerk_emulator.state.instance import InstanceState


@pytest.fixture
async def api(clerk: Emulator) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {clerk.secret_key}"}
    async with aiohttp.ClientSession(f"{clerk.api_url}/v1/", headers=headers) as session:
        yield session


def types(clerk: Emulator) -> list[str]:
    return [message.type for message in clerk.dispatcher.log.newest_first()][::-1]


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "authorization_header_format_invalid"),
        ("Basic abc", "authorization_header_format_invalid"),
        ("Bearer sk_test_wrong", "clerk_key_invalid"),
        ("Bearer sk_test_ä", "clerk_key_invalid"),
    ],
)
async def test_without_the_key_there_is_401(clerk: Emulator, header: str | None, code: str) -> None:
    headers = {"Authorization": header} if header else {}
    for path in ("users", "no/such/route"):
        async with aiohttp.ClientSession(headers=headers) as session, session.get(f"{clerk.url}/v1/{path}") as answer:
            assert answer.status == 401
            assert (await answer.json())["errors"][0]["code"] == code


async def test_one_valid_version_may_be_named_once(api: aiohttp.ClientSession) -> None:
    async def status(header: str | None, query: str | None) -> int:
        headers = {"Clerk-API-Version": header} if header is not None else {}
        params = {"__clerk_api_version": query} if query is not None else {}
        async with api.get("instance", headers=headers, params=params) as answer:
            return answer.status

    assert await status(None, None) == 200
    assert await status("2026-05-12", None) == 200
    assert await status(None, "2025-11-10") == 200
    assert await status("2026-05-12", "2026-05-12") == 400
    assert await status("2026-13-99", None) == 400
    assert await status(None, "") == 400


async def test_metadata_left_the_patch_of_users_and_organizations_in_the_newest_version(
    clerk: Emulator, api: aiohttp.ClientSession
) -> None:
    user = clerk.state.users.page(offset=0, limit=1)[0]
    organization = clerk.state.organizations.page(offset=0, limit=1)[0]
    for path in (f"users/{user.id}", f"organizations/{organization.id}"):
        for version, expected in (("2025-11-10", 200), ("2026-05-12", 422)):
            headers = {"Clerk-API-Version": version}
            async with api.patch(path, json={"public_metadata": {"a": 1}}, headers=headers) as answer:
                assert answer.status == expected


async def test_metadata_is_merged_deeply_and_null_removes_a_key(clerk: Emulator, api: aiohttp.ClientSession) -> None:
    user = clerk.changes.users.create(
        {"email_address": ["a@example.com"], "public_metadata": {"a": {"b": 1, "c": [1]}, "d": 1}}
    )
    change = {"public_metadata": {"a": {"b": None, "c": [2], "e": {"f": 1}}, "g": True}}
    async with api.patch(f"users/{user.id}/metadata", json=change) as answer:
        merged = (await answer.json())["public_metadata"]
    assert merged == {"a": {"c": [2], "e": {"f": 1}}, "d": 1, "g": True}
    async with api.put(f"users/{user.id}/metadata", json={"public_metadata": {"z": None}}) as answer:
        assert (await answer.json())["public_metadata"] == {"z": None}


async def test_every_change_moves_updated_at(clerk: Emulator) -> None:
    user = clerk.changes.users.create({"email_address": ["a@example.com"]})
    moments = [user.updated_at]
    moments += [clerk.changes.users.update(user.id, {"first_name": str(n)}).updated_at for n in range(20)]
    assert moments == sorted(set(moments))
    assert user.created_at == user.updated_at <= now_ms()


@pytest.mark.parametrize("cascade", [False, True])
async def test_deleting_an_organization_ends_its_memberships(clerk: Emulator, cascade: bool) -> None:
    clerk.events.behaviour = replace(clerk.events.behaviour, cascade_events=cascade)
    organization = clerk.state.organizations.page(offset=0, limit=1)[0]
    members = clerk.state.members_of(organization.id)
    before = len(clerk.state.memberships)
    clerk.changes.organizations.delete(organization.id)
    assert len(clerk.state.memberships) == before - len(members)
    assert clerk.state.members_of(organization.id) == []
    ended = ["organizationMembership.deleted"] * len(members) if cascade else []
    assert types(clerk) == [*ended, "organization.deleted"]


@pytest.mark.parametrize("cascade", [False, True])
async def test_deleting_a_user_ends_their_memberships(clerk: Emulator, cascade: bool) -> None:
    clerk.events.behaviour = replace(clerk.events.behaviour, cascade_events=cascade)
    membership = clerk.state.memberships.page(offset=0, limit=1)[0]
    held = clerk.state.memberships_of(membership.user_id)
    clerk.changes.users.delete(membership.user_id)
    assert clerk.state.memberships.get(membership.id) is None
    ended = ["organizationMembership.deleted"] * len(held) if cascade else []
    assert types(clerk) == [*ended, "user.deleted"]


async def test_a_member_who_comes_back_has_a_new_membership(clerk: Emulator) -> None:
    old = clerk.state.memberships.page(offset=0, limit=1)[0]
    place: dict[str, Any] = {"organization_id": old.organization_id, "user_id": old.user_id}
    clerk.changes.memberships.delete(**place)
    new = clerk.changes.memberships.create(**place, role="org:member")
    assert new.id != old.id
    assert clerk.state.membership(**place) == new


async def test_an_organizations_creator_becomes_its_admin(clerk: Emulator) -> None:
    user = clerk.state.users.page(offset=0, limit=1)[0]
    organization = clerk.changes.organizations.create({"name": "Acme", "created_by": user.id})
    (membership,) = clerk.state.members_of(organization.id)
    assert (membership.user_id, membership.role) == (user.id, "org:admin")
    assert types(clerk) == ["organization.created", "organizationMembership.created"]


async def test_a_full_organization_takes_no_more_members(clerk: Emulator) -> None:
    organization = clerk.changes.organizations.create({"name": "Small", "max_allowed_memberships": 1})
    first, second = clerk.state.users.page(offset=0, limit=2)
    clerk.changes.memberships.create(organization_id=organization.id, user_id=first.id, role="org:member")
    with pytest.raises(ClerkError, match="quota"):
        clerk.changes.memberships.create(organization_id=organization.id, user_id=second.id, role="org:member")


async def test_identifiers_belong_to_one_user_seeded_or_not(clerk: Emulator) -> None:
    users = clerk.state.users.page(offset=0, limit=60)
    seeded = next(user for user in users if user.username and user.external_id)
    for fields in ({"email_address": [seeded.emails[0].address]}, {"username": seeded.username}):
        with pytest.raises(ClerkError, match="taken"):
            clerk.changes.users.create(fields)
    clerk.changes.users.update(seeded.id, {"username": "free_again"})
    clerk.changes.users.create({"username": seeded.username})
    clerk.changes.users.delete(seeded.id)
    clerk.changes.users.create({"email_address": [seeded.emails[0].address], "username": "free_again"})


async def test_pages_follow_each_other_in_both_directions(clerk: Emulator, api: aiohttp.ClientSession) -> None:
    clerk.changes.users.create({"email_address": ["new@example.com"]})
    clerk.changes.users.delete(clerk.state.users.page(offset=30, limit=1)[0].id)

    async def walk(order: str) -> list[str]:
        seen: list[str] = []
        while True:
            params = {"limit": "7", "offset": str(len(seen)), "order_by": order}
            async with api.get("users", params=params) as answer:
                page = await answer.json()
            if not page:
                return seen
            seen += [user["id"] for user in page]

    newest = await walk("-created_at")
    assert len(newest) == len(set(newest)) == len(clerk.state.users) == 60
    assert await walk("+created_at") == newest[::-1]
    for order in ("updated_at", "first_name", "email_address", "last_sign_in_at", "username"):
        assert set(await walk(f"-{order}")) == set(newest)
    async with api.get("users") as answer:
        assert len(await answer.json()) == 10


async def test_organizations_and_memberships_are_counted(clerk: Emulator, api: aiohttp.ClientSession) -> None:
    async with api.get("organizations", params={"include_members_count": "true", "limit": "500"}) as answer:
        listed = await answer.json()
    assert listed["total_count"] == len(listed["data"]) == 5
    assert sum(one["members_count"] for one in listed["data"]) == 90
    async with api.get("organization_memberships", params={"limit": "500"}) as answer:
        memberships = await answer.json()
    assert memberships["total_count"] == len({one["id"] for one in memberships["data"]}) == 90
    one = memberships["data"][0]
    path = f"organizations/{one['organization']['id']}/memberships"
    async with api.get(path, params={"user_id": one["public_user_data"]["user_id"]}) as answer:
        assert [found["id"] for found in (await answer.json())["data"]] == [one["id"]]


async def test_a_token_signed_by_the_instance_is_verified_by_its_jwks(
    clerk: Emulator, api: aiohttp.ClientSession
) -> None:
    token = jwt.encode({"sub": "user_1"}, clerk.view.private_key, "RS256", headers={"kid": clerk.instance_id})
    async with api.get("jwks") as answer:
        keys = jwt.PyJWKSet.from_dict(await answer.json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    assert jwt.decode(token, key, algorithms=["RS256"]) == {"sub": "user_1"}


async def test_the_request_log_tells_routes_and_not_only_paths(clerk: Emulator, api: aiohttp.ClientSession) -> None:
    began = now_ms()
    async with api.get("users/user_nobody", headers={"Clerk-API-Version": "2026-05-12"}):
        pass
    (entry,) = clerk.requests.since(began - 1)
    assert (entry.method, entry.route, entry.status) == ("GET", "/v1/users/{user_id}", 404)
    assert (entry.path, entry.version) == ("/v1/users/user_nobody", "2026-05-12")


async def test_lone_surrogates_and_long_integers_are_stored_as_a_go_server_would(
    clerk: Emulator, api: aiohttp.ClientSession
) -> None:
    raw = b'{"email_address": ["s@example.com"], "public_metadata": {"s": "\\ud800", "z": "\\u0000", "n": %s}}'
    async with api.post("users", data=raw % (b"9" * 60)) as answer:
        assert answer.status == 200
        assert (await answer.json())["public_metadata"] == {"s": "\ufffd", "z": "\x00", "n": int("9" * 60)}


def test_a_seed_decides_every_object() -> None:
    def objects(seed: int) -> tuple[Any, ...]:
        state = InstanceState(Settings(users=40, organizations=4, memberships=60, seed=seed))
        return list(state.users), list(state.organizations), list(state.memberships)

    assert objects(1) == objects(1)
    assert not set(map(str, objects(1)[0])) & set(map(str, objects(2)[0]))


def test_the_seeded_graph_is_whole() -> None:
    state = InstanceState(Settings())
    assert (len(state.users), len(state.organizations), len(state.memberships)) == (5_000, 200, 12_000)
    users, organizations = list(state.users), list(state.organizations)
    pairs = {(one.organization_id, one.user_id) for one in state.memberships}
    assert len(pairs) == 12_000
    assert {organization for organization, _ in pairs} <= {one.id for one in organizations}
    assert {user for _, user in pairs} <= {one.id for one in users}
    assert all(one.created_at <= one.updated_at for one in users)
    assert all(state.user_with("email_address", user.emails[0].address) == user for user in users[::50])
    assert all(state.organization(one.slug) == one for one in organizations)
