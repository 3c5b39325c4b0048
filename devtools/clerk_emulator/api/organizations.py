"""``/v1/organizations``."""

from collections.abc import Callable
from typing import Any

from aiohttp import web

from devtools.clerk_emulator import shapes
from devtools.clerk_emulator.api import lists, parameters
from devtools.clerk_emulator.api.door import METADATA_APART, json_answer, version
from devtools.clerk_emulator.behaviour import Behaviour
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


def add_routes(
    app: web.Application, *, state: InstanceState, changes: Changes, behaviour: Callable[[], Behaviour]
) -> None:
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

    def chosen(request: web.Request, *, as_listed: bool) -> list[int]:
        """Return the slots that the filters let pass, in order of creation."""
        table = state.organizations
        ids, users = parameters.signed(request, "organization_id"), parameters.signed(request, "user_id")
        piece = request.query.get("query", "").casefold()
        span = table.by_created.span(without=table.not_listed if as_listed else table.not_real)
        member_of, not_of = (_organizations_of(state, names) for names in (users.wanted, users.unwanted))
        if ids.wanted is None and users.wanted is None and not (ids.unwanted or users.unwanted or piece):
            return span.whole().tolist()
        found = []
        for slot in span.whole():
            record = table.at(slot)
            if not ids.accepts(record.id) or record.id in (not_of or ()):
                continue
            if member_of is not None and record.id not in member_of:
                continue
            if piece in record.name.casefold() or piece in record.slug or piece == record.id.casefold():
                found.append(slot)
        return found

    async def index(request: web.Request) -> web.Response:
        page = parameters.page(request, orders=tuple(orders))
        state.linger_over()
        slots = chosen(request, as_listed=True)
        found = lists.in_order(state.organizations, slots, page, orders[page.order_by])
        total = len(slots) if behaviour().stale_counts else len(chosen(request, as_listed=False))
        data = [shown(state.organizations.at(slot), request) for slot in found]
        return json_answer({"data": data, "total_count": total})

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


def _organizations_of(state: InstanceState, users: frozenset[str] | None) -> set[str] | None:
    if users is None:
        return None
    return {one.organization_id for user in users for one in state.memberships_of(user)}
