"""Memberships: of an organization, of a user, and of the whole instance."""

from collections.abc import Callable

from aiohttp import web

from devtools.clerk_emulator.api import lists, parameters
from devtools.clerk_emulator.api.door import json_answer
from devtools.clerk_emulator.changes import Changes
from devtools.clerk_emulator.state.instance import InstanceState
from devtools.clerk_emulator.state.records import MembershipRecord, UserRecord

CREATE = {"user_id": "string!", "role": "string!", "public_metadata": "object?", "private_metadata": "object?"}
UPDATE = {"role": "string!"}
METADATA = {"public_metadata": "object", "private_metadata": "object"}


def _orders(state: InstanceState) -> dict[str, lists.SortKey[MembershipRecord]]:
    def of_user(value: Callable[[UserRecord], str | None]) -> lists.SortKey[MembershipRecord]:
        def key(record: MembershipRecord) -> str | None:
            user = state.users.get(record.user_id)
            return value(user) if user else None

        return key

    return {
        "created_at": lambda record: record.created_at,
        "phone_number": of_user(lambda user: user.primary_phone_id),
        "email_address": of_user(lambda user: user.primary_email),
        "first_name": of_user(lambda user: user.first_name),
        "last_name": of_user(lambda user: user.last_name),
        "username": of_user(lambda user: user.username),
    }


def add_routes(app: web.Application, *, state: InstanceState, changes: Changes) -> None:
    """Add the routes of memberships."""
    memberships = changes.memberships
    orders = _orders(state)

    def answer(page: list[MembershipRecord], total: int) -> web.Response:
        return json_answer({"data": [memberships.shape(one) for one in page], "total_count": total})

    async def of_organization(request: web.Request) -> web.Response:
        page = parameters.page(request, orders=tuple(orders))
        wanted = set(request.query.getall("user_id", ()))
        organization = changes.organizations.find(request.match_info["organization_id"])
        found = [one for one in state.members_of(organization.id) if not wanted or one.user_id in wanted]
        return answer(lists.of_records(found, page, orders), len(found))

    async def of_user(request: web.Request) -> web.Response:
        page = parameters.page(request, orders=("created_at",))
        found = state.memberships_of(changes.users.find(request.match_info["user_id"]).id)
        return answer(lists.of_records(found, page, orders), len(found))

    async def of_instance(request: web.Request) -> web.Response:
        page = parameters.page(request, orders=tuple(orders))
        return answer(lists.of_table(state.memberships, page, orders), len(state.memberships))

    async def create(request: web.Request) -> web.Response:
        fields = await parameters.body(request, CREATE, open_ended=True)
        record = memberships.create(
            organization_id=request.match_info["organization_id"],
            user_id=fields["user_id"],
            role=fields["role"],
            public_metadata=fields.get("public_metadata"),
            private_metadata=fields.get("private_metadata"),
        )
        return json_answer(memberships.shape(record))

    async def update(request: web.Request) -> web.Response:
        fields = await parameters.body(request, UPDATE, open_ended=True)
        return json_answer(memberships.shape(memberships.update(**_named(request), role=fields["role"])))

    async def merge_metadata(request: web.Request) -> web.Response:
        fields = await parameters.body(request, METADATA)
        return json_answer(memberships.shape(memberships.update_metadata(**_named(request), changes=fields)))

    async def delete(request: web.Request) -> web.Response:
        return json_answer(memberships.delete(**_named(request)))

    app.router.add_get("/organization_memberships", of_instance)
    app.router.add_get("/users/{user_id}/organization_memberships", of_user)
    app.router.add_get("/organizations/{organization_id}/memberships", of_organization)
    app.router.add_post("/organizations/{organization_id}/memberships", create)
    app.router.add_patch("/organizations/{organization_id}/memberships/{user_id}", update)
    app.router.add_delete("/organizations/{organization_id}/memberships/{user_id}", delete)
    app.router.add_patch("/organizations/{organization_id}/memberships/{user_id}/metadata", merge_metadata)


def _named(request: web.Request) -> dict[str, str]:
    return {name: request.match_info[name] for name in ("organization_id", "user_id")}
