"""Checks of one database login, in the order in which one depends on the other: the first failure says enough."""

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from nexus_auth.store import overview, session
from nexus_auth.store.address import Address, AddressRefused, read_address
from nexus_auth.store.failure import explain
from nexus_auth.store.pool import UnsafeDatabase, connect, open_pool, pooler_of, refuse_unsafe
from nexus_auth.store.schema import SchemaOutdated, schema_version
from nexus_auth.store.views import unsafe_views
from services.cli.doctor.checks import DATABASE, Checked, failed, note, ok
from services.cli.doctor.environment import LoginUrl

SERVICES = ("webhook", "reconciler", "cli", "worker")
NOTED_SECONDS, FAILED_SECONDS = 2.0, 60.0
"""By how much clocks may differ before it is noted, and before it is wrong: Svix allows a signature five minutes."""


@dataclass
class DatabaseFacts:
    """What one database says to its logins together, for the checks that compare it with Clerk."""

    knows_arrivals: bool = False
    """Whether one of them may know when the last event came."""
    holder: str | None = None
    last_event_at: datetime | None = None
    claimed_at: datetime | None = None
    secrets: dict[str, datetime] | None = None
    """Fingerprints of the secrets that verified events of the last day, and the last event of each; None: unknown."""
    distrusted: Mapping[str, datetime] | None = None
    """Fingerprints of the secrets whose deletions are held, and since when; None: unknown."""


async def check_login(
    login: LoginUrl, *, role_prefix: str, allow_fsync_off: bool, facts: DatabaseFacts
) -> AsyncIterator[Checked]:
    """Connects as the login and as its group; fills `facts`."""
    try:
        address = read_address(login.url)
    except AddressRefused as error:
        yield failed("URL", f"{login.source}: {error}", code=DATABASE)
        return
    yield ok("URL", f"{login.source}: {address}")
    try:
        plain = await connect(address)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        yield failed("connection", f"{address}: {explain(error)}", code=DATABASE)
        return
    try:
        yield ok("connection", f"{address} answers, {_server(plain)}")
        yield _tls(plain, address)
        service = await _service(plain, login, role_prefix=role_prefix)
        if isinstance(service, Checked):
            yield service
            return
        pooler = await pooler_of(address)
    finally:
        plain.terminate()
    yield _pooler(pooler, service=service)
    role = f"{role_prefix}{service}"
    try:
        pool = await open_pool(login.url, role=role, application="nexus-auth doctor", size=1)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        yield failed("role", f"{address}: {explain(error, role=role)}", code=DATABASE)
        return
    try:
        async with pool.acquire() as connection:
            async for answer in _as_group(
                connection, service=service, role_prefix=role_prefix, allow_fsync_off=allow_fsync_off, facts=facts
            ):
                yield answer
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        yield failed("database", f"{address}: {explain(error, role=role)}", code=DATABASE)
    finally:
        pool.terminate()


async def _as_group(
    connection: Any, *, service: str, role_prefix: str, allow_fsync_off: bool, facts: DatabaseFacts
) -> AsyncIterator[Checked]:
    try:
        version = await schema_version(connection)
        yield ok("schema", f"version {version}")
    except SchemaOutdated as error:
        yield failed("schema", str(error), code=DATABASE)
        return
    except asyncpg.InsufficientPrivilegeError:  # a schema from before every group could ask
        yield note("schema", "it is there, and is too old to tell this login its version; run nexus-auth migrate")
    name = "role and rights"
    try:
        await refuse_unsafe(connection, role_prefix=role_prefix, service=service, allow_fsync_off=allow_fsync_off)
        yield ok(name, f"{await session.login(connection)} is {role_prefix}{service}, no more")
        yield ok("commit settings", await _settings(connection))
    except UnsafeDatabase as error:
        durability = str(error).startswith(("the server runs", "synchronous_commit", "transactions are"))
        yield failed("commit settings" if durability else name, str(error), code=DATABASE)
    began = time.time()
    theirs = await session.clock(connection)
    yield clock("clock of Postgres", theirs.timestamp(), began=began, answered=time.time())
    async for answer in _views(connection):
        yield answer
    seen = await overview.arrivals(connection)
    facts.holder = facts.holder or seen.holder
    facts.last_event_at = facts.last_event_at or seen.last_event_at
    facts.claimed_at = facts.claimed_at or seen.claimed_at
    facts.secrets = facts.secrets if seen.secrets is None else seen.secrets
    facts.distrusted = facts.distrusted if seen.distrusted is None else seen.distrusted
    facts.knows_arrivals = facts.knows_arrivals or seen.knows_arrivals


async def _views(connection: Any) -> AsyncIterator[Checked]:
    views = await unsafe_views(connection)
    for view in views:
        yield failed("views", str(view))
    if not views:
        yield ok("views", "none shows rows that its reader may not see")


async def _service(connection: Any, login: LoginUrl, *, role_prefix: str) -> str | Checked:
    """The group that the login is a member of, or what is wrong with that."""
    groups = await session.groups(connection, SERVICES, role_prefix=role_prefix)
    member = groups.member
    if not groups.known:
        return failed(
            "schema",
            f"the server has no role {role_prefix}{login.service or 'webhook'}: run nexus-auth migrate on database"
            f" {await session.database(connection)} with the owner's URL, or set NEXUS_AUTH_ROLE_PREFIX",
            code=DATABASE,
        )
    user = await session.login(connection)
    if await session.is_superuser(connection):
        said = f"{user} is a superuser; give the service a login that is a member of one group only"
        return failed("role and rights", said, code=DATABASE)
    wanted = login.service
    if wanted is not None and wanted not in member:
        is_of = f"a member of {', '.join(role_prefix + name for name in member)}" if member else "a member of no group"
        said = f"{login.source}: login {user} is {is_of}; it must be one of {role_prefix}{wanted}"
        return failed("role and rights", f"{said}: grant {role_prefix}{wanted} to {user}", code=DATABASE)
    if len(member) != 1 and wanted is None:
        said = f"a member of {', '.join(role_prefix + name for name in member)}" if member else "a member of no group"
        one = f"{role_prefix}webhook, {role_prefix}reconciler or {role_prefix}cli"
        return failed("role and rights", f"login {user} is {said}; it must be one of {one}", code=DATABASE)
    return wanted or member[0]


async def _settings(connection: Any) -> str:
    now = await session.settings(connection)
    return f"synchronous_commit {now.durable}, {now.isolation}, fsync {now.fsync}"


def _server(connection: Any) -> str:
    version = connection.get_server_version()
    return f"Postgres {version.major}.{version.minor}"


def _tls(connection: Any, address: Address) -> Checked:
    secured = connection._transport.get_extra_info("ssl_object")  # asyncpg has no public name for it
    local = all(host.startswith("/") or host in ("127.0.0.1", "::1", "localhost") for host, _ in address.hosts)
    if secured is None:
        if local:
            return ok("TLS", "none, and none is needed: the server is on this machine")
        return note("TLS", "none: passwords and rows are readable on the way; add sslmode=verify-full to the URL")
    verified = address.tls.get("sslmode") == "verify-full" or address.tls.get("sslrootcert") == "system"
    if verified or local:
        return ok("TLS", f"{secured.version()}{', the server is verified' if verified else ''}")
    return note("TLS", f"{secured.version()}, and the server's name is not verified; sslmode=verify-full does that")


def _pooler(pooler: str, *, service: str) -> Checked:
    if pooler != "transaction":
        return ok("pooler", "none, or one that shares its connections by session")
    if service == "reconciler":
        said = "shares its connections by transaction, and the reconciler needs a session: give it a direct URL"
        return failed("pooler", said, code=DATABASE)
    return ok("pooler", "shares its connections by transaction: each transaction is given its settings")


def clock(name: str, theirs: float, *, began: float, answered: float, granularity: float = 0.0) -> Checked:
    """Sets another clock (seconds since 1970) beside ours, which was read before and after."""
    ours = min(max(theirs, began), answered)
    apart = max(0.0, abs(theirs - ours) - granularity)
    if apart <= NOTED_SECONDS:
        return ok(name, "in step with this machine's")
    ahead = "ahead of" if theirs > ours else "behind"
    said = f"{apart:,.0f} s {ahead} this machine's"
    if apart <= FAILED_SECONDS:
        return note(name, said)
    return failed(
        name, f"{said}: set the clock that is wrong (chrony, ntp); Svix' signatures are good for five minutes"
    )
