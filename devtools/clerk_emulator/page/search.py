"""Finding users and organizations for the page: by id, by identifier, or by a piece of a name among the newest ones."""

from collections.abc import Callable
from itertools import islice
from typing import TypeVar

from devtools.clerk_emulator.state.instance import InstanceState
from devtools.clerk_emulator.state.records import OrganizationRecord, UserRecord
from devtools.clerk_emulator.state.table import Record, Table

#: How many objects a search by pieces looks through; ids and whole addresses are found among all.
LOOKED_THROUGH = 20_000
_BATCH = 500

R = TypeVar("R", bound=Record)


def found_users(state: InstanceState, query: str, *, start: int, limit: int) -> list[UserRecord]:
    """Return the newest users that match, without the first ``start`` of them; all match an empty query."""
    exact = state.users.get(query) or next(
        (
            user
            for kind in ("email_address", "phone_number", "username", "external_id")
            if query and (user := state.user_with(kind, query))
        ),
        None,
    )
    return _found(state.users, query, exact=exact, text=_user_text, start=start, limit=limit)


def found_organizations(state: InstanceState, query: str, *, start: int, limit: int) -> list[OrganizationRecord]:
    """Return the newest organizations that match, without the first ``start``; all match an empty query."""
    exact = state.organization(query) if query else None
    return _found(state.organizations, query, exact=exact, text=_organization_text, start=start, limit=limit)


def _found(
    table: "Table[R]", query: str, *, exact: R | None, text: Callable[[R], str], start: int, limit: int
) -> list[R]:
    if not query:
        return table.page(offset=start, limit=limit)
    if exact is not None:
        return [exact][start:]
    piece = query.casefold()
    newest = (one for offset in range(0, LOOKED_THROUGH, _BATCH) for one in table.page(offset=offset, limit=_BATCH))
    return list(islice((one for one in newest if piece in text(one).casefold()), start, start + limit))


def _user_text(user: UserRecord) -> str:
    parts = (user.id, user.first_name, user.last_name, user.username, *(email.address for email in user.emails))
    return " ".join(part for part in parts if part)


def _organization_text(organization: OrganizationRecord) -> str:
    return f"{organization.id} {organization.name} {organization.slug}"
