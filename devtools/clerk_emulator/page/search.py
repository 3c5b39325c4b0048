"""Finding users for the page: by id, by identifier, or by a piece of name or address among the newest ones."""

from itertools import islice

from devtools.clerk_emulator.state.instance import InstanceState
from devtools.clerk_emulator.state.records import UserRecord

#: How many users a search by pieces looks through; ids and whole addresses are found among all.
LOOKED_THROUGH = 20_000
_BATCH = 500


def found_users(state: InstanceState, query: str, *, limit: int) -> list[UserRecord]:
    """Return the newest users that match; all match an empty query."""
    if not query:
        return state.users.page(offset=0, limit=limit)
    exact = state.users.get(query) or next(
        (
            user
            for kind in ("email_address", "phone_number", "username", "external_id")
            if (user := state.user_with(kind, query))
        ),
        None,
    )
    if exact is not None:
        return [exact]
    piece = query.casefold()
    newest = (
        user for offset in range(0, LOOKED_THROUGH, _BATCH) for user in state.users.page(offset=offset, limit=_BATCH)
    )
    return list(islice((user for user in newest if piece in _text(user)), limit))


def _text(user: UserRecord) -> str:
    parts = (user.id, user.first_name, user.last_name, user.username, *(email.address for email in user.emails))
    return " ".join(part for part in parts if part).casefold()
