"""Databases and logins on a server, ours or another, reached by an administrator's URL.

Everything here is synchronous, so that fixtures and `make run` can call it from anywhere, inside a running event loop
too. The driver is imported where it is used: starting a server takes nothing but the standard library.
"""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

if TYPE_CHECKING:
    import asyncpg

SERVICES = ("webhook", "reconciler", "worker", "cli")
"""Each has a login `<prefix><service>_login`, granted exactly its group `<prefix><service>`."""

APP_GROUPS = ("authenticated", "anon")
"""What `app_login` may become: the stand-in for a product team's backend or PostgREST."""

LOGINS_LOCK = 7_283_011
"""Advisory lock (any number of our own): in database `postgres` for roles, which belong to the whole server."""


@dataclass(frozen=True)
class Database:
    """One database and the ways into it. `admin_url` is a superuser's (or the owner's) URL of this very database."""

    admin_url: str
    role_prefix: str = "clerk_"

    @property
    def name(self) -> str:
        """The database's name."""
        return unquote(urlsplit(self.admin_url).path.removeprefix("/"))

    def url(self, service: str) -> str:
        """The URL of a service's login (webhook, reconciler, worker, cli) or of `app`; see `create_logins`."""
        login = login_name(service, role_prefix=self.role_prefix)
        parts = urlsplit(self.admin_url)
        address = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{login}:{login_password(self.admin_url, login)}@{address}"))

    def of(self, name: str) -> "Database":
        """Another database of the same server."""
        return Database(admin_url=_with_database(self.admin_url, name), role_prefix=self.role_prefix)


def login_name(service: str, *, role_prefix: str = "clerk_") -> str:
    """The name of a service's login."""
    if service == "app":
        return "app_login"
    if service not in SERVICES:
        raise ValueError(f"no such service: {service}")
    return f"{role_prefix}{service}_login"


def login_password(admin_url: str, login: str) -> str:
    """A login's password, drawn from the administrator's: all who share a server agree on it, and none is kept."""
    secret = urlsplit(admin_url).password
    if not secret:
        raise ValueError("the administrator's database URL needs a password")
    return hmac.new(unquote(secret).encode(), f"nexus-auth login {login}".encode(), hashlib.sha256).hexdigest()[:32]


def create_database(server_url: str, name: str, *, template: str | None = None) -> str:
    """Creates a database and answers its administrator's URL. `server_url` names any other database of the server.

    CREATE DATABASE copies everything from a template but the privileges on the database itself: these are copied here.
    """

    async def run() -> None:
        async with _connection(server_url) as connection:
            clause = f" template {_identifier(template)}" if template else ""
            await connection.execute(f"create database {_identifier(name)}{clause}")
            grants = await connection.fetch(DATABASE_GRANTS, template, name) if template else []
            if grants:
                await connection.execute("; ".join(row["statement"] for row in grants))

    _in_a_thread(run())
    return _with_database(server_url, name)


def drop_database(server_url: str, name: str) -> None:
    """Drops a database if it is there, whoever is connected to it."""
    execute(server_url, f"drop database if exists {_identifier(name)} with (force)")


def create_logins(admin_url: str, *, role_prefix: str = "clerk_") -> Database:
    """Creates the services' logins and `app_login`, LOGIN NOINHERIT, and lets them into this database.

    The groups must be there: migrate first. Idempotent, also for two callers at once.
    """
    database = Database(admin_url=admin_url, role_prefix=role_prefix)
    lock = f"select pg_advisory_xact_lock({LOGINS_LOCK})"
    statements, grants = [lock], [lock]
    for service in (*SERVICES, "app"):
        login = login_name(service, role_prefix=role_prefix)
        groups = APP_GROUPS if service == "app" else (f"{role_prefix}{service}",)
        statements += _login_statements(login, password=login_password(admin_url, login), groups=groups)
        grants.append(f"grant connect on database {_identifier(database.name)} to {_identifier(login)}")
    execute(_with_database(admin_url, "postgres"), "; ".join(statements))
    execute(admin_url, "; ".join(grants))
    return database


def execute(url: str, *statements: str) -> None:
    """Runs statements one after the other, each as it stands (several in one string: one transaction)."""

    async def run() -> None:
        async with _connection(url) as connection:
            for statement in statements:
                await connection.execute(statement)

    _in_a_thread(run())


def fetch(url: str, query: str, *arguments: object) -> "list[asyncpg.Record]":
    """Runs one query and answers its rows."""

    async def run() -> "list[asyncpg.Record]":
        async with _connection(url) as connection:
            return list(await connection.fetch(query, *arguments))

    rows: list[asyncpg.Record] = _in_a_thread(run())
    return rows


@asynccontextmanager
async def _connection(url: str) -> "AsyncIterator[asyncpg.Connection]":
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def _in_a_thread(work: Coroutine[Any, Any, Any]) -> Any:
    """The caller's thread may be running an event loop already, and asyncio allows one a thread."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()


def _login_statements(login: str, *, password: str, groups: tuple[str, ...]) -> list[str]:
    """Passwords are hexadecimal and names are ours: nothing here needs escaping beyond the identifiers."""
    name = _identifier(login)
    create = f"create role {name} login noinherit"
    return [
        f"do $$ begin if not exists (select from pg_roles where rolname = '{login}') then {create}; end if; end $$",
        f"alter role {name} login noinherit password '{password}'",
        *(f"grant {_identifier(group)} to {name}" for group in groups),
    ]


def _with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path="/" + quote(name, safe="")))


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


DATABASE_GRANTS = """
select format('revoke all on database %I from public', $2::text) as statement
from pg_database where datname = $1 and datacl is not null
union all
select format('grant %s on database %I to %s', a.privilege_type, $2::text,
              case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end)
from pg_database d, aclexplode(d.datacl) a where d.datname = $1
"""
