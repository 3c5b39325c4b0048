"""Clerk's own SDKs, unchanged, against the emulator."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from clerk_backend_api import Clerk
from clerk_backend_api.models import ClerkErrors

from devtools import clerk_emulator
from devtools.clerk_emulator import Emulator

SDK = Path(clerk_emulator.__file__).parent / "sdk"


async def test_the_python_sdk_creates_reads_changes_and_deletes(clerk: Emulator) -> None:
    said = await asyncio.to_thread(_drive, clerk.api_url, clerk.secret_key)
    assert said == {
        "created": ("python@example.com", "Py", {"plan": "pro"}),
        "updated": "Thon",
        "metadata": {"plan": "pro", "seats": 3},
        "read": "Thon",
        "users": (61, True),
        "organization": ("Snake Works", "snake-works"),
        "renamed": "Snake Labs",
        "merged": {"tier": "pro"},
        "roles": ("org:member", "org:admin"),
        "team": {"team": "red"},
        "members": 2,
        "places": ["Snake Labs"],
        "left": "org:admin",
        "deleted": (True, True),
        "gone": (404, "resource_not_found"),
        "key": (401, "clerk_key_invalid"),
    }
    assert {entry.version for entry in clerk.requests.since(0)} == {"2025-11-10"}


def _drive(url: str, key: str) -> dict[str, Any]:
    said: dict[str, Any] = {}
    with Clerk(bearer_auth=key, server_url=f"{url}/v1") as sdk:
        user = sdk.users.create(email_address=["python@example.com"], first_name="Py", public_metadata={"plan": "pro"})
        said["created"] = (user.email_addresses[0].email_address, user.first_name, user.public_metadata)
        said["updated"] = sdk.users.update(user_id=user.id, last_name="Thon").last_name
        said["metadata"] = sdk.users.update_metadata(user_id=user.id, public_metadata={"seats": 3}).public_metadata
        said["read"] = sdk.users.get(user_id=user.id).last_name
        everyone = sdk.users.list(request={"limit": 500})
        guest = everyone[1].id
        said["users"] = (sdk.users.count(request={}).total_count, everyone[0].id == user.id)
        organization = sdk.organizations.create(request={"name": "Snake Works", "created_by": user.id})
        said["organization"] = (organization.name, organization.slug)
        said["renamed"] = sdk.organizations.update(organization_id=organization.id, name="Snake Labs").name
        said["merged"] = sdk.organizations.merge_metadata(
            organization_id=organization.id, public_metadata={"tier": "pro"}
        ).public_metadata
        memberships = sdk.organization_memberships
        place: dict[str, Any] = {"organization_id": organization.id, "user_id": guest}
        said["roles"] = (
            memberships.create(**place, role="org:member").role,
            memberships.update(**place, role="org:admin").role,
        )
        said["team"] = memberships.update_metadata(**place, public_metadata={"team": "red"}).public_metadata
        said["members"] = memberships.list(organization_id=organization.id).total_count
        places = sdk.users.get_organization_memberships(user_id=user.id).data
        said["places"] = [one.organization.name for one in places]
        said["left"] = memberships.delete(**place).role
        gone = (sdk.organizations.delete(organization_id=organization.id), sdk.users.delete(user_id=user.id))
        said["deleted"] = tuple(one.deleted for one in gone)
        with pytest.raises(ClerkErrors) as missing:
            sdk.users.get(user_id=user.id)
        said["gone"] = (missing.value.status_code, missing.value.data.errors[0].code)
    with Clerk(bearer_auth="sk_test_wrong", server_url=f"{url}/v1") as sdk:
        with pytest.raises(ClerkErrors) as refused:
            sdk.users.list(request={})
        said["key"] = (refused.value.status_code, refused.value.data.errors[0].code)
    return said


async def _javascript(clerk: Emulator, node: str, program: str) -> Any:
    environment = os.environ | {"CLERK_SECRET_KEY": clerk.secret_key, "CLERK_API_URL": clerk.api_url}
    process = await asyncio.create_subprocess_exec(
        node, program, cwd=SDK, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), timeout=60)
    assert process.returncode == 0, err.decode()
    return json.loads(out)


async def test_the_javascript_sdk_lists_and_counts(clerk: Emulator, node: str) -> None:
    everyone = [user.id for user in clerk.state.users]
    assert await _javascript(clerk, node, "lists.mjs") == {
        "first": [10, 60],
        "walked": everyone,
        "named": [everyone[0], everyone[7]],
        "byAddress": True,
        "younger": 1,
        "counted": [60, 1],
        "organizations": [5, 5],
        "members": 90,
        "all": [90, 90],
        "found": True,
        "places": True,
        "tooMany": [422, "limit"],
    }


async def test_the_python_sdk_lists_and_counts(clerk: Emulator) -> None:
    everyone = [user.id for user in clerk.state.users]
    said = await asyncio.to_thread(_list, clerk.api_url, clerk.secret_key, everyone)
    assert said == {
        "first": 10,
        "walked": everyone,
        "named": [everyone[0], everyone[7]],
        "counted": (60, 1),
        "younger": everyone[31:41],
        "organizations": (5, 5),
        "members": 90,
        "all": (90, 90),
        "found": True,
        "limit": (422, "form_param_value_invalid"),
    }


def _list(url: str, key: str, everyone: list[str]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    with Clerk(bearer_auth=key, server_url=f"{url}/v1") as sdk:
        said["first"] = len(sdk.users.list(request={}))
        walked: list[str] = []
        while page := sdk.users.list(request={"limit": 25, "offset": len(walked), "order_by": "+created_at"}):
            walked += [user.id for user in page]
        said["walked"] = walked
        wanted = [everyone[0], everyone[7], "user_nobody"]
        said["named"] = [one.id for one in sdk.users.list(request={"user_id": wanted, "order_by": "created_at"})]
        said["counted"] = (
            sdk.users.count(request={}).total_count,
            sdk.users.count(request={"user_id": [everyone[0], "user_nobody"]}).total_count,
        )
        after = sdk.users.get(user_id=everyone[30]).created_at
        younger = sdk.users.list(request={"created_at_after": after, "order_by": "+created_at"})
        said["younger"] = [user.id for user in younger]
        organizations = sdk.organizations.list(limit=500, include_members_count=True)
        said["organizations"] = (len(organizations.data), organizations.total_count)
        said["members"] = sum(
            sdk.organization_memberships.list(organization_id=one.id, limit=1).total_count for one in organizations.data
        )
        everywhere = sdk.users.get_instance_organization_memberships(limit=500)
        said["all"] = (len(everywhere.data), everywhere.total_count)
        one = sdk.organization_memberships.list(organization_id=organizations.data[0].id, limit=1).data[0]
        assert one.public_user_data
        found = sdk.organization_memberships.list(
            organization_id=organizations.data[0].id, user_id=[one.public_user_data.user_id]
        )
        said["found"] = [each.id for each in found.data] == [one.id]
        with pytest.raises(ClerkErrors) as refused:
            sdk.users.list(request={"limit": 501})
        said["limit"] = (refused.value.status_code, refused.value.data.errors[0].code)
    return said


async def test_the_javascript_sdk_creates_reads_changes_and_deletes(clerk: Emulator, node: str) -> None:
    said = await _javascript(clerk, node, "drive.mjs")
    user = said["created"][0]
    assert said == {
        "created": [user, "node@example.com", "pro"],
        "updated": "Js",
        "metadata": {"plan": "pro", "seats": 3},
        "banned": [True, False],
        "users": [user, 5, 61],
        "slug": "node-works",
        "bySlug": True,
        "renamed": "Node Labs",
        "role": "org:member",
        "promoted": "org:admin",
        "team": "red",
        "members": [2, True],
        "places": True,
        "left": True,
        "organizations": 1,
        "deleted": True,
        "gone": [404, "resource_not_found"],
    }


@asynccontextmanager
async def javascript_endpoint(node: str, *, secret: str) -> AsyncIterator[tuple[str, asyncio.StreamReader]]:
    process = await asyncio.create_subprocess_exec(
        node,
        "receive.mjs",
        cwd=SDK,
        env=os.environ | {"CLERK_WEBHOOK_SIGNING_SECRET": secret},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    try:
        url = await asyncio.wait_for(process.stdout.readline(), timeout=30)
        yield url.decode().strip(), process.stdout
    finally:
        process.stdin.close()
        await asyncio.wait_for(process.wait(), timeout=10)


async def test_the_javascript_sdk_verifies_what_is_delivered(clerk: Emulator, node: str) -> None:
    secret = clerk.dispatcher.new_secret()
    async with javascript_endpoint(node, secret=secret) as (url, lines):
        endpoint = clerk.add_endpoint(url, secret=secret)

        async def line() -> Any:
            return json.loads(await asyncio.wait_for(lines.readline(), timeout=10))

        user = clerk.changes.users.create({"email_address": ["node@example.com"]})
        assert await line() == {"ok": True, "type": "user.created", "id": user.id, "instance": clerk.instance_id}
        endpoint.rotate(clerk.dispatcher.new_secret(), now_ms=user.created_at)
        clerk.changes.users.update(user.id, {"first_name": "Node"})
        assert (await line())["type"] == "user.updated"
        clerk.add_fault(clerk_emulator.Fault("wrong_signature", next=1))
        clerk.changes.users.delete(user.id)
        assert (await line())["ok"] is False
        assert await line() == {"ok": True, "type": "user.deleted", "id": user.id, "instance": clerk.instance_id}
        await clerk.idle()
