"""Which users a list or a count is about, found with as little looking as the filters allow.

Named users (ids, addresses …) are looked up; a window between two times of creation is cut out of the order by
creation; only what remains is tested user by user.
"""

from collections.abc import Iterable

from devtools.clerk_emulator.api.filters import UserFilter
from devtools.clerk_emulator.api.lists import SortKey, in_order
from devtools.clerk_emulator.api.parameters import Page
from devtools.clerk_emulator.behaviour import ApiBehaviour
from devtools.clerk_emulator.clerk_errors import invalid_parameter
from devtools.clerk_emulator.state.instance import InstanceState
from devtools.clerk_emulator.state.order import Span
from devtools.clerk_emulator.state.records import UserRecord

ORDERS: dict[str, SortKey[UserRecord]] = {
    "created_at": lambda user: user.created_at,
    "updated_at": lambda user: user.updated_at,
    "email_address": lambda user: user.primary_email,
    "web3wallet": lambda user: user.primary_wallet_id,
    "first_name": lambda user: user.first_name,
    "last_name": lambda user: user.last_name,
    "phone_number": lambda user: user.primary_phone_id,
    "username": lambda user: user.username,
    "last_active_at": lambda user: user.last_active_at,
    "last_sign_in_at": lambda user: user.last_sign_in_at,
}


class UsersListed:
    """Lists and counts of users."""

    def __init__(self, state: InstanceState) -> None:
        """List the users of this instance."""
        self._state = state

    def count(self, wanted: UserFilter, behaviour: ApiBehaviour) -> int:
        """Return how many users pass; those of a stale replica only where counts come from it."""
        return len(self._chosen(wanted, listed=behaviour.stale_counts))

    def page(
        self, wanted: UserFilter, page: Page, *, starting_after: str | None, behaviour: ApiBehaviour
    ) -> "list[int]":
        """Return the slots of one page; raise ClerkError where the cursor is refused."""
        chosen = self._chosen(wanted, listed=True)
        table = self._state.users
        if page.order_by == "created_at":
            if starting_after is not None:
                chosen = self._after(starting_after, chosen, page=page, behaviour=behaviour)
            found = chosen.page(offset=page.offset, limit=page.limit, newest_first=page.descending)
        elif page.order_by == "updated_at":
            order = table.by_updated
            everyone = wanted.needs_no_record and len(chosen) == len(order) - len(table.not_listed)
            ordered = order.span(without=table.not_listed) if everyone else order.of(chosen.whole())
            found = ordered.page(offset=page.offset, limit=page.limit, newest_first=page.descending)
        else:
            return in_order(table, chosen.whole(), page, ORDERS[page.order_by])
        return found.tolist()

    def _chosen(self, wanted: UserFilter, *, listed: bool) -> Span:
        """Return what passes the filters, in order of creation, as a replica lists it or as it is."""
        table = self._state.users
        absent = table.not_listed if listed else table.not_real
        unwanted = self._in_organizations(wanted.organizations.unwanted)
        unwanted |= {slot for name in wanted.ids.unwanted if (slot := table.slot_ever(name)) is not None}
        named = self._named(wanted)
        if named is None:
            present = {slot for slot in unwanted if table.known(slot)}
            window = wanted.created
            span = table.by_created.span(least=window.least, most=window.most, without=absent | present)
            if wanted.needs_no_record:
                return span
            return table.by_created.of([slot for slot in span.whole() if wanted.accepts(table.at(slot))])
        visible = table.listed if listed else table.lives
        keys = table.by_created.keys
        return table.by_created.of(
            [
                slot
                for slot in named - unwanted
                if table.known(slot)
                and visible(slot)
                and wanted.created.holds(keys[slot])
                and (wanted.needs_no_record or wanted.accepts(table.at(slot)))
            ]
        )

    def _named(self, wanted: UserFilter) -> set[int] | None:
        """Return the slots that a request names, or None where it names none; unknown names are ignored."""
        sets: list[set[int | None]] = []
        if wanted.ids.wanted is not None:
            sets.append({self._state.users.slot_ever(name) for name in wanted.ids.wanted})
        if wanted.external_ids.wanted is not None:
            sets.append({self._state.user_slot_with("external_id", name) for name in wanted.external_ids.wanted})
        for kind, values in wanted.identities:
            sets.append({self._state.user_slot_with(kind, value) for value in values})
        if wanted.organizations.wanted is not None:
            sets.append(set(self._in_organizations(wanted.organizations.wanted)))
        return {slot for slot in set.intersection(*sets) if slot is not None} if sets else None

    def _in_organizations(self, identifiers: Iterable[str]) -> set[int]:
        state, memberships = self._state, self._state.memberships
        found: set[int] = set()
        for identifier in identifiers:
            organization = state.organizations.slot_ever(identifier)
            if organization is None:
                continue
            for slot in state.slots_in_organization(organization):
                if memberships.listed(slot):
                    user = state.users.slot_ever(memberships.at(slot).user_id)
                    if user is not None:
                        found.add(user)
        return found

    def _after(self, identifier: str, chosen: Span, *, page: Page, behaviour: ApiBehaviour) -> Span:
        table = self._state.users
        slot = table.slot_ever(identifier)
        if slot is None or not table.listed(slot):
            if behaviour.deleted_cursor == "restart":
                return chosen
            if behaviour.deleted_cursor == "empty":
                return table.by_created.of(())
            if behaviour.deleted_cursor == "refuse" or slot is None:
                raise invalid_parameter("starting_after", "does not exist", code="form_param_value_invalid")
        return chosen.following(slot, newest_first=page.descending)
