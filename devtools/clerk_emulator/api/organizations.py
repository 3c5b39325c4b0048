"""``/v1/organizations``."""

from typing import Any

from aiohttp import web

from devtools.clerk_emulator import shapes
from devtools.clerk_emulator.api import lists, parameters
from devtools.clerk_emulator.api.door import METADATA_APART, json_answer, version
from devtools.clerk_emulator.changes import Changes
from devtools.clerk_emulator.state.instance import InstanceState
from devtools.clerk_emulator.state.records import OrganizationRecord

METADATA = {"public_metadata": "object", "private_metadata": "object"}
_EITHER = {
    "slug": "string?",
    "max_allowed_memberships": "integer?",
    "created_at": "string?",
    "role_set_key": "string?",
}
CREATE = {
    **_EITHER,
    "name": "string!",
    "created_by": "string?",
    "public_metadata": "object?",
    "private_metadata": "object?",
}
UPDATE = {**_EITHER, "name": "string?", "admin_delete_enabled": "boolean?"}


def add_routes(app: web.Application, *, state: InstanceState, changes: Changes) -> None:
    """Add the routes of organizations."""
    organizations = changes.organizations
    orders: dict[str, lists.SortKey[OrganizationRecord]] = {
        "created_at": lambda organization: organization.created_at,
        "name": lambda organization: organization.name,
        "members_count": lambda organization: state.members_count(organization.id),
    }

    def shown(record: OrganizationRecord, request: web.Request) -> dict[str, Any]:
        counted = parameters.flag(request, "include_members_count")
        shape = shapes.organization(record, members_count=state.members_count(record.id) if counted else None)
        if parameters.flag(request, "include_missing_member_with_elevated_permissions"):
            members = state.members_of(record.id)
            shape["missing_member_with_elevated_permissions"] = all(one.role != "org:admin" for one in members)
        return shape

    async def index(request: web.Request) -> web.Response:
        page = parameters.page(request, orders=tuple(orders))
        found = lists.of_table(state.organizations, page, orders)
        return json_answer({"data": [shown(one, request) for one in found], "total_count": len(state.organizations)})

    async def create(request: web.Request) -> web.Response:
        fields = await parameters.body(request, CREATE, open_ended=True)
        return json_answer(shapes.organization(organizations.create(fields)))

    async def show(request: web.Request) -> web.Response:
        return json_answer(shown(organizations.find(request.match_info["organization_id"]), request))

    async def update(request: web.Request) -> web.Response:
        declared = UPDATE if version(request) == METADATA_APART else UPDATE | METADATA
        fields = await parameters.body(request, declared)
        return json_answer(shapes.organization(organizations.update(request.match_info["organization_id"], fields)))

    async def merge_metadata(request: web.Request) -> web.Response:
        fields = await parameters.body(request, METADATA)
        return json_answer(shapes.organization(organizations.update(request.match_info["organization_id"], fields)))

    async def replace_metadata(request: web.Request) -> web.Response:
        fields = await parameters.body(request, METADATA)
        replaced = organizations.replace_metadata(request.match_info["organization_id"], fields)
        return json_answer(shapes.organization(replaced))

    async def delete(request: web.Request) -> web.Response:
        return json_answer(organizations.delete(request.match_info["organization_id"]))

    app.router.add_get("/organizations", index)
    app.router.add_post("/organizations", create)
    app.router.add_get("/organizations/{organization_id}", show)
    app.router.add_patch("/organizations/{organization_id}", update)
    app.router.add_delete("/organizations/{organization_id}", delete)
    app.router.add_patch("/organizations/{organization_id}/metadata", merge_metadata)
    app.router.add_put("/organizations/{organization_id}/metadata", replace_metadata)
