"""Every route and every event, by the letter of Clerk's OpenAPI files."""

from typing import Any

import aiohttp
import pytest

from devtools.clerk_emulator import Emulator, jsontext, samples, shapes
from devtools.clerk_emulator.api import api_app
from devtools.clerk_emulator.testing import Specification

KEY, NEWEST = "2021-02-05", "2026-05-12"
Case = tuple[str, str, Any, int]

HAPPY: list[Case] = [
    ("GET", "/users", None, 200),
    ("GET", "/users/count", None, 200),
    (
        "POST",
        "/users",
        {"email_address": ["a@example.com"], "phone_number": ["+12025550123"], "password": "x" * 12},
        200,
    ),
    ("GET", "/users/{user}", None, 200),
    ("PATCH", "/users/{user}", {"first_name": "Ada", "username": "ada"}, 200),
    ("PATCH", "/users/{user}/metadata", {"public_metadata": {"a": {"b": 1}}}, 200),
    ("PUT", "/users/{user}/metadata", {"private_metadata": {"a": None}}, 200),
    ("POST", "/users/{user}/ban", None, 200),
    ("POST", "/users/{user}/unban", None, 200),
    ("POST", "/users/{user}/lock", None, 200),
    ("POST", "/users/{user}/unlock", None, 200),
    ("GET", "/users/{user}/organization_memberships", None, 200),
    ("GET", "/organizations?include_members_count=true", None, 200),
    ("POST", "/organizations", {"name": "Acme", "created_by": "{user}"}, 200),
    ("GET", "/organizations/{org}?include_missing_member_with_elevated_permissions=true", None, 200),
    ("PATCH", "/organizations/{org}", {"name": "Acme 2"}, 200),
    ("PATCH", "/organizations/{org}/metadata", {"public_metadata": {"a": 1}}, 200),
    ("PUT", "/organizations/{org}/metadata", {"public_metadata": {"b": 1}}, 200),
    ("GET", "/organization_memberships", None, 200),
    ("GET", "/organizations/{org}/memberships", None, 200),
    ("POST", "/organizations/{org}/memberships", {"user_id": "{outsider}", "role": "org:member"}, 200),
    ("PATCH", "/organizations/{org}/memberships/{member}", {"role": "org:admin"}, 200),
    ("PATCH", "/organizations/{org}/memberships/{member}/metadata", {"public_metadata": {"a": 1}}, 200),
    ("DELETE", "/organizations/{org}/memberships/{member}", None, 200),
    ("DELETE", "/organizations/{org}", None, 200),
    ("DELETE", "/users/{user}", None, 200),
    ("GET", "/instance", None, 200),
    ("GET", "/jwks", None, 200),
]

REFUSED: list[Case] = [
    ("GET", "/users/user_nobody", None, 404),
    ("PATCH", "/users/user_nobody", {"first_name": "x"}, 404),
    ("DELETE", "/users/user_nobody", None, 404),
    ("PATCH", "/users/user_nobody/metadata", {}, 404),
    ("POST", "/users", {}, 422),
    ("POST", "/users", {"email_address": ["not an address"]}, 422),
    ("POST", "/users", {"email_address": "a@example.com"}, 422),
    ("POST", "/users", {"email_address": ["{taken}"]}, 422),
    ("POST", "/users", {"email_address": ["b@example.com"], "nickname": "b"}, 422),
    ("POST", "/users", {"email_address": ["b@example.com"], "public_metadata": {"a": "x" * 9_000}}, 422),
    ("POST", "/users", b"{not json", 400),
    ("POST", "/users", b"[]", 400),
    ("POST", "/users", b'{"first_name": NaN}', 400),
    ("PATCH", "/users/{user}", {"primary_email_address_id": "idn_none"}, 404),
    ("GET", "/users?limit=501", None, 422),
    ("GET", "/users?limit=0", None, 422),
    ("GET", "/users?offset=-1", None, 422),
    ("GET", "/users?order_by=shoe_size", None, 422),
    ("GET", "/organizations/org_none", None, 404),
    ("DELETE", "/organizations/org_none", None, 404),
    ("PATCH", "/organizations/org_none", {"name": "x"}, 404),
    ("PATCH", "/organizations/{org}", {"slug": "No Spaces"}, 422),
    ("PATCH", "/organizations/{org}", {"slug": "{slug}"}, 422),
    ("POST", "/organizations", {}, 422),
    ("POST", "/organizations", {"name": " "}, 422),
    ("POST", "/organizations", {"name": "x", "created_by": "user_nobody"}, 404),
    ("POST", "/organizations/{org}/memberships", {"user_id": "{member}", "role": "org:member"}, 400),
    ("POST", "/organizations/{org}/memberships", {"user_id": "user_nobody", "role": "org:member"}, 404),
    ("POST", "/organizations/{org}/memberships", {"user_id": "{outsider}", "role": "boss"}, 422),
    ("POST", "/organizations/{org}/memberships", {"user_id": "{outsider}"}, 422),
    ("PATCH", "/organizations/{org}/memberships/user_nobody", {"role": "org:admin"}, 404),
    ("DELETE", "/organizations/{org}/memberships/{outsider}", None, 404),
    ("GET", "/no/such/route", None, 404),
    ("POST", "/jwks", None, 405),
]


class Client:
    """Asks the emulator, with names of seeded objects filled in."""

    def __init__(self, clerk: Emulator) -> None:
        users = clerk.state.users.page(offset=0, limit=500)
        organization, other = clerk.state.organizations.page(offset=0, limit=2)
        members = {one.user_id for one in clerk.state.members_of(organization.id)}
        insider = next(user for user in users if user.id in members)
        self._clerk = clerk
        self._names = {
            "{user}": users[0].id if users[0].id in members else insider.id,
            "{member}": insider.id,
            "{outsider}": next(user.id for user in users if user.id not in members),
            "{org}": organization.id,
            "{slug}": other.slug,
            "{taken}": users[5].emails[0].address,
        }

    async def ask(self, method: str, path: str, body: Any, *, version: str = KEY) -> tuple[int, Any]:
        payload = body if isinstance(body, bytes | None) else jsontext.encode(body)
        for name, value in self._names.items():
            path = path.replace(name, value)
            payload = payload.replace(name.encode(), value.encode()) if payload else payload
        headers = {"Authorization": f"Bearer {self._clerk.secret_key}", "Clerk-API-Version": version}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, f"{self._clerk.api_url}/v1{path}", data=payload) as answer,
        ):
            return answer.status, await answer.json()


@pytest.mark.parametrize("case", HAPPY, ids=lambda case: f"{case[0]} {case[1]}")
async def test_each_route_answers_as_the_specification_says(
    clerk: Emulator, specification: Specification, case: Case
) -> None:
    method, path, body, expected = case
    status, _ = await Client(clerk).ask(method, path, body, version=NEWEST)
    assert status == expected


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case[0]} {case[1]} {case[3]} {str(case[2])[:40]}")
async def test_each_refusal_has_clerks_form(clerk: Emulator, specification: Specification, case: Case) -> None:
    method, path, body, expected = case
    status, answer = await Client(clerk).ask(method, path, body)
    assert status == expected
    assert answer["errors"][0]["code"]
    assert answer["clerk_trace_id"]


async def test_no_route_is_left_out_of_these_tests(clerk: Emulator, specification: Specification) -> None:
    client = Client(clerk)
    for method, path, body, _ in HAPPY:
        await client.ask(method, path, body)
    seen = {(entry.method, entry.route) for entry in clerk.requests.since(0)}
    assert seen == {(method, f"/v1{path}") for method, path in _routes(clerk)}


def _routes(clerk: Emulator) -> set[tuple[str, str]]:
    app = api_app(
        state=clerk.state,
        changes=clerk.changes,
        rendered_users=clerk.rendered_users,
        rendered_memberships=clerk.rendered_memberships,
        view=clerk.view,
        conditions=clerk.conditions,
    )
    return {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }


async def test_every_seeded_object_has_the_specified_shape(clerk: Emulator, specification: Specification) -> None:
    problems: list[str] = []
    for user in clerk.state.users:
        body = jsontext.encode(shapes.user(user))
        problems += specification.problems_of_answer(method="GET", route="/users/{user_id}", status=200, body=body)
        assert 1_500 < len(body) < 4_000
    assert problems == []


async def test_every_event_of_a_change_and_every_sample_has_the_specified_shape(
    clerk: Emulator, specification: Specification
) -> None:
    client = Client(clerk)
    for method, path, body, _ in HAPPY:
        await client.ask(method, path, body)
    for event_type in samples.SAMPLED:
        clerk.emit(event_type, samples.sample(event_type, state=clerk.state))
    sent = {message.type for message in clerk.dispatcher.log.newest_first()}
    changed = {f"{kind}.{what}" for kind in ("user", "organization") for what in ("created", "updated", "deleted")}
    changed |= {f"organizationMembership.{what}" for what in ("created", "updated", "deleted")}
    assert sent == changed | set(samples.SAMPLED)
    assert sent <= specification.event_types


async def test_the_judge_finds_what_is_wrong(clerk: Emulator, specification: Specification) -> None:
    user = shapes.user(clerk.state.users.page(offset=0, limit=1)[0])
    event = {"object": "event", "type": "user.created", "timestamp": 1, "instance_id": "ins_1", "data": user}
    assert specification.problems_of_event(jsontext.encode(event)) == []
    wrong = [
        event | {"surprise": 1},
        event | {"data": user | {"surprise": 1}},
        event | {"data": user | {"created_at": "yesterday"}},
        event | {"data": {name: value for name, value in user.items() if name != "banned"}},
        event | {"data": user | {"email_addresses": [{"object": "email_address"}]}},
        {name: value for name, value in event.items() if name != "instance_id"},
    ]
    assert all(specification.problems_of_event(jsontext.encode(one)) for one in wrong)
