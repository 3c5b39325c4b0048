"""``/v1/users``."""

from collections.abc import Callable
from typing import Any

from aiohttp import web

from devtools.clerk_emulator import shapes
from devtools.clerk_emulator.api import parameters
from devtools.clerk_emulator.api.door import METADATA_APART, json_answer, version
from devtools.clerk_emulator.api.filters import user_filter
from devtools.clerk_emulator.api.users_listed import ORDERS, UsersListed
from devtools.clerk_emulator.behaviour import Behaviour
from devtools.clerk_emulator.changes import Changes
from devtools.clerk_emulator.clerk_errors import not_found
from devtools.clerk_emulator.rendering import RenderedUsers
from devtools.clerk_emulator.state.instance import InstanceState

METADATA = {"public_metadata": "object", "private_metadata": "object", "unsafe_metadata": "object"}
_EITHER = {
    "external_id": "string?",
    "first_name": "string?",
    "last_name": "string?",
    "locale": "string?",
    "username": "string?",
    "password": "string?",
    "password_digest": "string?",
    "password_hasher": "string",
    "skip_password_checks": "boolean?",
    "totp_secret": "string?",
    "backup_codes": "strings",
    "delete_self_enabled": "boolean?",
    "legal_accepted_at": "string?",
    "skip_legal_checks": "boolean?",
    "create_organization_enabled": "boolean?",
    "create_organizations_limit": "integer?",
    "created_at": "string?",
    "bypass_client_trust": "boolean?",
}
CREATE = {
    **_EITHER,
    **METADATA,
    "email_address": "strings",
    "email_address_identification_status": "strings",
    "phone_number": "strings",
    "phone_number_identification_status": "strings",
    "web3_wallet": "strings",
    "skip_password_requirement": "boolean?",
    "skip_user_requirement": "boolean?",
    "banned": "boolean?",
    "locked": "boolean?",
}
UPDATE = {
    **_EITHER,
    "primary_email_address_id": "string?",
    "notify_primary_email_address_changed": "boolean?",
    "primary_phone_number_id": "string?",
    "primary_web3_wallet_id": "string?",
    "profile_image_id": "string?",
    "sign_out_of_other_sessions": "boolean?",
}


def add_routes(
    app: web.Application,
    *,
    state: InstanceState,
    changes: Changes,
    rendered: RenderedUsers,
    behaviour: Callable[[], Behaviour],
) -> None:
    """Add the routes of users."""
    users = changes.users
    listed = UsersListed(state)

    async def index(request: web.Request) -> web.Response:
        now = behaviour()
        page = parameters.page(request, orders=tuple(ORDERS))
        after = None if now.ignore_starting_after else parameters.cursor(request, page)
        wanted = user_filter(request, now)
        state.linger_over()
        slots = listed.page(wanted, page, starting_after=after, behaviour=now)
        return web.Response(body=rendered.page(slots), content_type="application/json")

    async def count(request: web.Request) -> web.Response:
        now = behaviour()
        state.linger_over()
        return json_answer({"object": "total_count", "total_count": listed.count(user_filter(request, now), now)})

    async def create(request: web.Request) -> web.Response:
        return json_answer(shapes.user(users.create(await parameters.body(request, CREATE))))

    async def show(request: web.Request) -> web.Response:
        identifier = request.match_info["user_id"]
        if behaviour().stale_single_reads:
            state.linger_over()
            slot = state.users.listed_slot(identifier)
            if slot is None:
                raise not_found("user", identifier)
            return json_answer(shapes.user(state.users.at(slot)))
        return json_answer(shapes.user(users.find(identifier)))

    async def update(request: web.Request) -> web.Response:
        declared = UPDATE if version(request) == METADATA_APART else UPDATE | METADATA
        fields = await parameters.body(request, declared)
        return json_answer(shapes.user(users.update(request.match_info["user_id"], fields)))

    async def merge_metadata(request: web.Request) -> web.Response:
        fields = await parameters.body(request, METADATA)
        return json_answer(shapes.user(users.update(request.match_info["user_id"], fields)))

    async def replace_metadata(request: web.Request) -> web.Response:
        fields = await parameters.body(request, METADATA)
        return json_answer(shapes.user(users.replace_metadata(request.match_info["user_id"], fields)))

    async def delete(request: web.Request) -> web.Response:
        return json_answer(users.delete(request.match_info["user_id"]))

    def switch(name: str, *, on: bool) -> Any:
        async def handler(request: web.Request) -> web.Response:
            return json_answer(shapes.user(users.update(request.match_info["user_id"], {name: on})))

        return handler

    app.router.add_get("/users", index)
    app.router.add_post("/users", create)
    app.router.add_get("/users/count", count)
    app.router.add_get("/users/{user_id}", show)
    app.router.add_patch("/users/{user_id}", update)
    app.router.add_delete("/users/{user_id}", delete)
    app.router.add_patch("/users/{user_id}/metadata", merge_metadata)
    app.router.add_put("/users/{user_id}/metadata", replace_metadata)
    app.router.add_post("/users/{user_id}/ban", switch("banned", on=True))
    app.router.add_post("/users/{user_id}/unban", switch("banned", on=False))
    app.router.add_post("/users/{user_id}/lock", switch("locked", on=True))
    app.router.add_post("/users/{user_id}/unlock", switch("locked", on=False))
