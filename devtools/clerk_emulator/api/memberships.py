"""Memberships: of an organization, of a user, and of the whole instance."""

from collections.abc import Callable, Iterable

from aiohttp import web

from devtools.clerk_emulator.api import lists, parameters
from devtools.clerk_emulator.api.door import json_answer
from devtools.clerk_emulator.api.filters import user_filter
from devtools.clerk_emulator.api.parameters import Page
from devtools.clerk_emulator.behaviour import Behaviour
from devtools.clerk_emulator.changes import Changes
from devtools.clerk_emulator.rendering import RenderedMemberships
from devtools.clerk_emulator.state.instance import InstanceState
from devtools.clerk_emulator.state.records import MembershipRecord, UserRecord

CREATE = {"user_id": "string!", "role": "string!", "public_metadata": "object?", "private_metadata": "object?"}
UPDATE = {"role": "string!"}
METADATA = {"public_metadata": "object", "private_metadata": "object"}


def _orders(state: InstanceState) -> dict[str, lists.SortKey[MembershipRecord]]:
    def of_user(value: Callable[[UserRecord], str | None]) -> lists.SortKey[MembershipRecord]:
        def key(record: MembershipRecord) -> str | None:
            user = state.users.known_record(record.user_id)
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


class MembershipsListed:
    """Lists of memberships, as a replica shows them, and their counts."""

    def __init__(
        self, *, state: InstanceState, rendered: RenderedMemberships, behaviour: Callable[[], Behaviour]
    ) -> None:
        """List the memberships of this instance."""
        self._state = state
        self._rendered = rendered
        self._behaviour = behaviour
        self._orders = _orders(state)
        self.orders = tuple(self._orders)

    def answer(self, slots: list[int], page: Page) -> web.Response:
        """Answer with one page of these slots, which are in order of creation, and with their count."""
        table = self._state.memberships
        listed = [slot for slot in slots if table.listed(slot)]
        if page.order_by == "created_at":
            ordered = listed[::-1] if page.descending else listed
            found = ordered[page.offset : page.offset + page.limit]
        else:
            found = lists.in_order(table, listed, page, self._orders[page.order_by])
        total = len(listed) if self._behaviour().stale_counts else sum(map(table.lives, slots))
        return self._answer(found, total)

    def answer_all(self, page: Page) -> web.Response:
        """Answer with one page of all memberships."""
        table = self._state.memberships
        if page.order_by != "created_at":
            return self.answer(table.by_created.span().whole().tolist(), page)
        listed = table.by_created.span(without=table.not_listed)
        found = listed.page(offset=page.offset, limit=page.limit, newest_first=page.descending)
        return self._answer(found.tolist(), len(listed) if self._behaviour().stale_counts else len(table))

    def _answer(self, slots: list[int], total: int) -> web.Response:
        body = b'{"data":%b,"total_count":%d}' % (self._rendered.page(slots), total)
        return web.Response(body=body, content_type="application/json")

    def passing(self, organization: int, request: web.Request) -> list[int]:
        """Return those of an organization's memberships that pass the request's filters, in order of creation."""
        behaviour, state = self._behaviour(), self._state
        wanted, roles = user_filter(request, behaviour), parameters.several(request, "role")
        slots = state.slots_in_organization(organization)
        if wanted.ids.wanted is not None:
            slots = self._of_users(wanted.ids.wanted, organization)
        found = []
        for slot in state.memberships.by_created.of([one for one in slots if state.memberships.known(one)]).whole():
            record = state.memberships.at(slot)
            if not wanted.ids.accepts(record.user_id) or not wanted.created.holds(record.created_at):
                continue
            if roles is not None and record.role not in roles:
                continue
            user = None if wanted.needs_no_record else state.users.known_record(record.user_id)
            if wanted.needs_no_record or (user is not None and wanted.accepts(user)):
                found.append(slot)
        return found

    def _of_users(self, users: Iterable[str], organization: int) -> list[int]:
        state = self._state
        found: list[int] = []
        for identifier in users:
            user = state.users.slot_ever(identifier)
            held = () if user is None else state.slots_of_user(user)
            found += (slot for slot in held if state.organization_slot_of(slot) == organization)
        return found


def add_routes(
    app: web.Application,
    *,
    state: InstanceState,
    changes: Changes,
    rendered: RenderedMemberships,
    behaviour: Callable[[], Behaviour],
) -> None:
    """Add the routes of memberships."""
    memberships = changes.memberships
    listed = MembershipsListed(state=state, rendered=rendered, behaviour=behaviour)

    async def of_organization(request: web.Request) -> web.Response:
        page = parameters.page(request, orders=listed.orders)
        state.linger_over()
        identifier = request.match_info["organization_id"]
        organization = state.organizations.listed_slot(identifier)
        if organization is None:
            organization = state.organizations.slot(changes.organizations.find(identifier).id)
        return listed.answer(listed.passing(organization if organization is not None else -1, request), page)

    async def of_user(request: web.Request) -> web.Response:
        page = parameters.page(request, orders=("created_at",))
        state.linger_over()
        identifier = request.match_info["user_id"]
        user = state.users.listed_slot(identifier)
        if user is None:
            user = state.users.slot(changes.users.find(identifier).id)
        slots = [
            slot for slot in state.slots_of_user(user if user is not None else -1) if state.memberships.known(slot)
        ]
        return listed.answer(state.memberships.by_created.of(slots).whole().tolist(), page)

    async def of_instance(request: web.Request) -> web.Response:
        page = parameters.page(request, orders=listed.orders)
        state.linger_over()
        return listed.answer_all(page)

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
