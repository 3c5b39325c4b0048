"""The services' logins, made from files that hold their URLs or passwords: what a deployment mounts from its Secrets.

The password is sent as a SCRAM verifier, so that no log of the server's statements holds it; a provider that takes
nothing but plain passwords (Neon) gets them so.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from nexus_auth.store.address import AddressRefused, read_address
from nexus_auth.store.pool import connect

SERVICES = ("webhook", "reconciler", "cli", "worker")
"""A file of one of these names holds a service's URL or password; its group is `<prefix><service>`."""

ITERATIONS = 4096
"""Postgres's own for SCRAM-SHA-256 (setting scram_iterations)."""

ATTEMPTS = 5
RACED = frozenset({"42710", "23505", "XX000"})
"""The same role was made or altered by somebody else at that moment."""

NO_VERIFIERS = frozenset({"0A000", "22023", "42601", "XX000"})
"""How providers answer that take no verifier."""


class LoginsRefused(ValueError):
    """A login cannot be made of what its file says; names the file and what to put there."""


@dataclass(frozen=True, slots=True)
class ServiceLogin:
    """One login as it shall be."""

    service: str
    name: str
    password: str = field(repr=False)


def read_logins(folder: Path, *, role_prefix: str) -> list[ServiceLogin]:
    """The logins that a folder's files describe. Raises `LoginsRefused`.

    A file's name is the service, its content that service's Postgres URL, or only a password: then the login is
    `<prefix><service>_login`. Hidden files are not read, other names are refused.
    """
    logins = []
    for file in sorted(folder.iterdir()):
        if file.name.startswith("."):
            continue
        if file.name not in SERVICES:
            raise LoginsRefused(f"{file.name} is no service: the files are named {', '.join(SERVICES)}")
        try:
            text = file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise LoginsRefused(f"{file.name} cannot be read ({type(error).__name__})") from None
        logins.append(_login(file.name, text, role_prefix=role_prefix))
    if not logins:
        raise LoginsRefused(f"no file there is named {', '.join(SERVICES)}")
    if len({login.name for login in logins}) < len(logins):
        raise LoginsRefused("two services have the same login: each needs its own")
    return logins


def _login(service: str, text: str, *, role_prefix: str) -> ServiceLogin:
    if not text.startswith(("postgres://", "postgresql://")):
        if not text or "\n" in text:
            raise LoginsRefused(f"{service} must hold one line: the service's Postgres URL, or a password")
        return ServiceLogin(service, f"{role_prefix}{service}_login", text)
    try:
        address = read_address(text, environment={})
    except AddressRefused as error:
        raise LoginsRefused(f"{service}: {error}") from None
    if not address.password:
        raise LoginsRefused(f"{service}: its URL has no password")
    # Supabase's pooler wants the project behind the login's name: login.project.
    name = address.user.partition(".")[0] if ".pooler.supabase.com" in str(address) else address.user
    return ServiceLogin(service, name, address.password)


async def make_logins(database_url: str, logins: Sequence[ServiceLogin], *, role_prefix: str) -> list[tuple[str, bool]]:
    """Makes the logins, or brings them to what they shall be; answers each one's name and whether it is new.

    `database_url` is the migrator's, of a database that has been migrated. Each login becomes a member of its one
    group, inherits nothing, and may connect to this database. Idempotent. Raises `LoginsRefused` where a name belongs
    to a role that no service may be, and what asyncpg raises.
    """
    connection = await connect(read_address(database_url))
    try:
        return [(login.name, await _make(connection, login, role_prefix=role_prefix)) for login in logins]
    finally:
        await connection.close()


async def _make(connection: Any, login: ServiceLogin, *, role_prefix: str) -> bool:
    for attempt in range(ATTEMPTS):
        try:
            return await _make_once(connection, login, role_prefix=role_prefix, plain=False)
        except asyncpg.PostgresError as error:
            if error.sqlstate in RACED and attempt < ATTEMPTS - 1:
                continue
            if error.sqlstate in NO_VERIFIERS:
                break
            raise
    return await _make_once(connection, login, role_prefix=role_prefix, plain=True)


async def _make_once(connection: Any, login: ServiceLogin, *, role_prefix: str, plain: bool) -> bool:
    group = f"{role_prefix}{login.service}"
    password = login.password if plain else verifier(login.password)
    async with connection.transaction():
        known = await connection.fetchrow(
            "select rolsuper or rolcreaterole or rolbypassrls or rolcreatedb or rolreplication as mighty,"
            " not rolcanlogin as is_group, rolname = session_user as is_ours from pg_catalog.pg_roles"
            " where rolname = $1",
            login.name,
        )
        if known is not None and (known["mighty"] or known["is_group"] or known["is_ours"]):
            what = "the migrator itself" if known["is_ours"] else "a group" if known["is_group"] else "too mighty"
            raise LoginsRefused(f"{login.service}: role {login.name} is {what}; name a login of the service's own")
        verb = "create" if known is None else "alter"
        await _execute(connection, f"{verb} role %I login noinherit password %L", login.name, password)
        await _execute(connection, "grant %I to %I", group, login.name)
        if not await connection.fetchval(
            "select pg_catalog.has_database_privilege($1::name, pg_catalog.current_database(), 'connect')", login.name
        ):
            database = await connection.fetchval("select pg_catalog.current_database()")
            await _execute(connection, "grant connect on database %I to %I", database, login.name)
        return known is None


async def _execute(connection: Any, statement: str, *names: str) -> None:
    """A statement with names and literals put in by the server's format()."""
    holes = ", ".join(f"${number}::text" for number in range(2, len(names) + 2))
    await connection.execute(await connection.fetchval(f"select format($1::text, {holes})", statement, *names))


def verifier(password: str) -> str:
    """What Postgres stores for a password ("SCRAM-SHA-256 authentication", RFC 5802 and 7677)."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${ITERATIONS}:{salt64}${stored64}:{server64}"
