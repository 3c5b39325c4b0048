"""Filters of users, as ``/users``, ``/users/count`` and an organization's memberships take them.

What a request asks for is read into one value; where rows are found by it is a matter of
:mod:`devtools.clerk_emulator.api.users_listed`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aiohttp import web

from devtools.clerk_emulator.api import parameters
from devtools.clerk_emulator.api.parameters import Signed
from devtools.clerk_emulator.behaviour import ApiBehaviour
from devtools.clerk_emulator.clerk_errors import missing_parameter
from devtools.clerk_emulator.state.instance import identities
from devtools.clerk_emulator.state.records import UserRecord

Test = Callable[[UserRecord], bool]
_IDENTITIES = ("email_address", "phone_number", "username", "web3_wallet")


@dataclass(frozen=True, slots=True)
class Window:
    """A range of times in ms, both ends included; None is no bound."""

    least: int | None
    most: int | None

    def holds(self, moment: int | None) -> bool:
        """Tell whether a time lies inside; what never happened lies in no bounded window."""
        if moment is None:
            return self.least is None and self.most is None
        return (self.least is None or moment >= self.least) and (self.most is None or moment <= self.most)


@dataclass(frozen=True, slots=True)
class UserFilter:
    """Which users a request asks for."""

    ids: Signed
    organizations: Signed
    external_ids: Signed
    identities: tuple[tuple[str, frozenset[str]], ...]
    """Kinds of identifier and the values that are wanted; each kind is found without looking at all users."""
    created: Window
    tests: tuple[Test, ...]
    """What can only be told by looking at a user."""

    def accepts(self, user: UserRecord) -> bool:
        """Tell whether a user passes everything but ``organizations`` and ``created``."""
        return (
            self.ids.accepts(user.id)
            and self.external_ids.accepts(user.external_id)
            and all(not wanted.isdisjoint(identities(user)[kind]) for kind, wanted in self.identities)
            and all(test(user) for test in self.tests)
        )

    @property
    def needs_no_record(self) -> bool:
        """Whether nothing but times of creation, ids and organizations are asked for: nothing about a user's record."""
        return (
            self.external_ids.wanted is None
            and not self.external_ids.unwanted
            and not self.identities
            and not self.tests
        )


def user_filter(request: web.Request, behaviour: ApiBehaviour) -> UserFilter:
    """Read the filters of a request; raise ClerkError (422)."""
    named = [(kind, parameters.several(request, kind)) for kind in _IDENTITIES]
    return UserFilter(
        ids=parameters.signed(request, "user_id"),
        organizations=parameters.signed(request, "organization_id"),
        external_ids=parameters.signed(request, "external_id"),
        identities=tuple((kind, _normal(kind, values)) for kind, values in named if values is not None),
        created=window(request, "created_at", behaviour),
        tests=tuple(_tests(request, behaviour)),
    )


def window(request: web.Request, name: str, behaviour: ApiBehaviour) -> Window:
    """Read ``…_after`` and ``…_before``, each including its moment or not as the behaviour has it."""
    after, before = parameters.moment(request, f"{name}_after"), parameters.moment(request, f"{name}_before")
    return Window(
        least=None if after is None else after + (not behaviour.after_inclusive),
        most=None if before is None else before - (not behaviour.before_inclusive),
    )


def _tests(request: web.Request, behaviour: ApiBehaviour) -> Iterable[Test]:
    banned = parameters.choice(request, "banned")
    if banned is not None:
        yield lambda user: user.banned is banned
    active, signed_in = (window(request, name, behaviour) for name in ("last_active_at", "last_sign_in_at"))
    since = parameters.moment(request, "last_active_at_since")
    if since is not None:
        yield lambda user: user.last_active_at is not None and user.last_active_at >= since
    if active != Window(None, None):
        yield lambda user: active.holds(user.last_active_at)
    if signed_in != Window(None, None):
        yield lambda user: signed_in.holds(user.last_sign_in_at)
    for name, texts in _TEXTS.items():
        piece = request.query.get(name, "").casefold()
        if piece:
            yield _containing(piece, texts)
    yield from _by_provider(request)


def _by_provider(request: web.Request) -> Iterable[Test]:
    provider, accounts = request.query.get("provider"), parameters.several(request, "provider_user_id")
    if provider and accounts is None:
        raise missing_parameter("provider_user_id")
    if accounts is not None:
        if not provider:
            raise missing_parameter("provider")
        wanted = accounts if provider == "oauth_google" else frozenset()
        yield lambda user: user.google is not None and user.google.provider_user_id in wanted


def _containing(piece: str, texts: Callable[[UserRecord], Iterable[str | None]]) -> Test:
    return lambda user: any(piece in text.casefold() for text in texts(user) if text)


def _emails(user: UserRecord) -> Iterable[str | None]:
    return (email.address for email in user.emails)


def _phones(user: UserRecord) -> Iterable[str | None]:
    return (phone.number for phone in user.phones)


def _names(user: UserRecord) -> Iterable[str | None]:
    return (user.first_name, user.last_name, f"{user.first_name or ''} {user.last_name or ''}".strip())


def _anything(user: UserRecord) -> Iterable[str | None]:
    wallets = (wallet.address for wallet in user.wallets)
    return (user.id, user.username, *_emails(user), *_phones(user), *wallets, *_names(user))


_TEXTS: dict[str, Callable[[UserRecord], Iterable[str | None]]] = {
    "query": _anything,
    "email_address_query": _emails,
    "phone_number_query": _phones,
    "username_query": lambda user: (user.username,),
    "name_query": _names,
}


def _normal(kind: str, values: frozenset[str]) -> frozenset[str]:
    return frozenset(value.strip().lower() for value in values) if kind == "email_address" else values
