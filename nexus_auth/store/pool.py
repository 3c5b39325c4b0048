"""A pool of connections as one service's role, and the refusal to run with more rights than that.

Every service logs in as a login of its own and becomes its group. Role, synchronous_commit, isolation level, time zone
and time-outs are set in the session that works, and read back before it is used: poolers drop what stands in the
start-up packet, and databases and logins have defaults of their own.

A pooler that shares by transaction keeps no session. Behind one, every connection of the pool begins each transaction
with these settings, and a statement outside a transaction gets one of its own: callers need not know. The price is two
more round trips for a statement, and that no statement stays prepared. Who needs a session
(`store.leadership`) refuses.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from importlib.resources import files
from typing import Any

import asyncpg

from nexus_auth.store.address import Address, Pooler, read_address
from nexus_auth.store.certificate import refusal

STATEMENT_SECONDS = 10.0
"""Below Svix's patience of 15 s, so that it hears a 503 and not silence."""

PROBE_SECONDS = 2.0
PROBES = 3

LISTING = files("nexus_auth.store").joinpath("privileges.sql").read_text("utf-8")
ALLOWED = files("nexus_auth.store").joinpath("privileges.txt").read_text("utf-8")
DURABLE = ("on", "remote_apply")
"""Values of synchronous_commit with which a commit that was answered is on this server's disk, and on its standby's."""


class UnsafeDatabase(Exception):
    """The login has more rights than its service needs, or the server would lose what it commits; says which."""


class NotWritable(ConnectionError):
    """The server is a standby or read-only, and the URL asks for one that can be written to."""


class ServiceConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection with a service's settings, also where a pooler gives it a server for one transaction only."""

    begin_with: str | None = None
    """The statement that each transaction begins with; None where the session has these settings already."""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        """As asyncpg's; a transaction that begins here begins with the service's settings, in the same round trip."""
        if self.begin_with is None or self.is_in_transaction():
            return await super().execute(query, *args, timeout=timeout)
        if query.startswith("BEGIN"):
            begin = query if "ISOLATION" in query else query.replace("BEGIN", "BEGIN ISOLATION LEVEL READ COMMITTED", 1)
            try:
                return await super().execute(begin + self.begin_with, timeout=timeout)
            except asyncpg.PostgresError:
                self.terminate()  # the transaction has begun, and failed
                raise
        async with self.transaction():
            return await super().execute(query, *args, timeout=timeout)

    async def executemany(self, command: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> Any:
        """As asyncpg's; in a transaction of its own where there is none and no session."""
        if self.begin_with is None or self.is_in_transaction():
            return await super().executemany(command, args, timeout=timeout)
        async with self.transaction():
            return await super().executemany(command, args, timeout=timeout)

    async def fetch(self, query: str, *args: Any, **options: Any) -> list[Any]:
        """As asyncpg's; in a transaction of its own where there is none and no session."""
        if self.begin_with is None or self.is_in_transaction():
            return list(await super().fetch(query, *args, **options))
        async with self.transaction():
            return list(await super().fetch(query, *args, **options))

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        """As asyncpg's; in a transaction of its own where there is none and no session."""
        if self.begin_with is None or self.is_in_transaction():
            return await super().fetchval(query, *args, **options)
        async with self.transaction():
            return await super().fetchval(query, *args, **options)

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        """As asyncpg's; in a transaction of its own where there is none and no session."""
        if self.begin_with is None or self.is_in_transaction():
            return await super().fetchrow(query, *args, **options)
        async with self.transaction():
            return await super().fetchrow(query, *args, **options)


async def open_pool(
    database_url: str,
    *,
    role: str,
    application: str,
    size: int,
    statement_seconds: float = STATEMENT_SECONDS,
    before_use: Callable[[], None] | None = None,
) -> "asyncpg.Pool[asyncpg.Record]":
    """Opens `size` connections at most, all of them as `role`; a statement may take `statement_seconds`.

    `before_use` is called whenever a connection is taken, and says by raising that nothing may be done any more.
    Raises `AddressRefused` where the URL cannot be used, `TlsRefused` where the server's TLS is not what the URL asks
    for, and what asyncpg raises.
    """

    async def allowed(_connection: Any) -> None:
        if before_use is not None:
            before_use()

    address = read_address(database_url)
    return await asyncpg.create_pool(
        min_size=1,
        max_size=size,
        connect=_connect,
        connection_class=ServiceConnection,
        reset=_keep,
        setup=allowed,
        address=address,
        by_transaction=await pooler_of(address) == "transaction",
        settings=_settings(address, role=role, application=application, statement_seconds=statement_seconds),
    )


async def move_pool(
    pool: "asyncpg.Pool[asyncpg.Record]",
    database_url: str,
    *,
    role: str,
    application: str,
    statement_seconds: float = STATEMENT_SECONDS,
) -> None:
    """From now on `pool` connects to `database_url`: a rotated password, another host. What is in use ends its work on
    its old connection, which is closed when it is given back.

    The address must have been tried: the login's rights are not checked here. Raises as `open_pool` does.
    """
    address = read_address(database_url)
    pool.set_connect_args(
        None,
        address=address,
        by_transaction=await pooler_of(address) == "transaction",
        settings=_settings(address, role=role, application=application, statement_seconds=statement_seconds),
    )
    await pool.expire_connections()
    # An expired connection is replaced when it is taken: one that nobody takes would stay, with the old password.
    async with AsyncExitStack() as taken:
        with suppress(TimeoutError):
            for _ in range(pool.get_idle_size()):
                await taken.enter_async_context(pool.acquire(timeout=address.connect_timeout))


async def pooler_of(address: Address) -> Pooler:
    """How a pooler on the way shares its connections: "session" (or there is none) or "transaction".

    Asked of the server where the address does not say. A pooler is there where the process that answered
    the login is not the one that answers queries; it shares by transaction where a second connection is served by the
    process that served the first. Raises as `connect` does.
    """
    if address.pooler != "auto":
        return address.pooler
    first = await connect(address)
    try:
        if await _process(first) == first.get_server_pid():
            return "session"
        second = None
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                second = await connect(address)
                for _ in range(PROBES):
                    before = await _process(first)
                    async with second.transaction():
                        if await _process(second) == before or await _process(first) != before:
                            return "transaction"
        except TimeoutError:  # every server connection is held by some session
            pass
        finally:
            if second is not None:
                second.terminate()
        return "session"
    finally:
        first.terminate()


async def connect(address: Address, **options: Any) -> Any:
    """One connection to the first host of an address that can be had; nothing is set and nothing stays prepared.

    Each host has the whole connect_timeout, as with libpq. Raises `NotWritable`, `TlsRefused` and what asyncpg does:
    of the first host.
    """
    failures: list[Exception] = []
    for at in [address.at(place) for place in address.hosts] or [address]:
        try:
            return await _connect_to(at, **options)
        except (OSError, asyncpg.CannotConnectNowError) as error:
            failures.append(error)
    raise failures[0]


async def _connect_to(address: Address, **options: Any) -> Any:
    arguments = {"statement_cache_size": 0, **address.arguments(), **options}
    try:
        connection = await asyncpg.connect(**arguments)
    except asyncpg.TargetServerAttributeNotMatched:
        raise NotWritable("the server cannot be written to, and target_session_attrs asks for one that can") from None
    except TimeoutError:
        raise
    except OSError as error:
        refused = await refusal(error, address)
        if refused is not None:
            raise refused from None
        raise
    _keep_alive(connection, address.keepalive)
    return connection


async def _connect(
    _dsn: object,
    *,
    address: Address,
    by_transaction: bool,
    settings: Mapping[str, str],
    **made: Any,
) -> Any:
    """What the pool calls for each of its connections."""
    settings = dict(settings)
    server_settings = {**address.arguments()["server_settings"], "application_name": settings["application_name"]}
    seconds = int(settings["statement_timeout"]) / 1000
    made |= {"server_settings": server_settings, "command_timeout": seconds + 2}
    if not by_transaction:
        made["statement_cache_size"] = 100
    connection = await connect(address, **made)
    try:
        if by_transaction:
            del settings["default_transaction_isolation"]  # BEGIN says it
            connection.begin_with = _set(settings, local=True)
            async with connection.transaction():
                pass
        else:
            await connection.execute(_set(settings, local=False))
    except BaseException:
        connection.terminate()
        raise
    return connection


def _settings(address: Address, *, role: str, application: str, statement_seconds: float) -> dict[str, str]:
    return {
        **address.settings,
        "role": role,
        "application_name": address.application_name or application,
        "timezone": "UTC",
        "synchronous_commit": "on",
        "default_transaction_isolation": "read committed",
        "statement_timeout": str(int(statement_seconds * 1000)),
        "jit": "off",
    }


def _set(settings: Mapping[str, str], *, local: bool) -> str:
    """The role comes last: it may not be allowed to set what an `options` of the login asks for."""
    ordered = sorted(settings.items(), key=lambda item: item[0] == "role")
    calls = (f"pg_catalog.set_config({_literal(n)}, {_literal(v)}, {str(local).lower()})" for n, v in ordered)
    return f"select {', '.join(calls)};"


def _literal(text: str) -> str:
    """A string for SQL, whatever standard_conforming_strings is."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


async def _process(connection: Any) -> int:
    process: int = await connection.fetchval("select pg_catalog.pg_backend_pid()")
    return process


def _keep_alive(connection: Any, values: Mapping[str, int]) -> None:
    """Sets the TCP options that libpq's parameters name; a socket of this machine has none."""
    transport = connection._transport  # asyncpg has no public name for it
    plain = transport.get_extra_info("socket")
    if plain is None or plain.family not in (socket.AF_INET, socket.AF_INET6):
        return
    names = {
        "keepalives_idle": socket.TCP_KEEPIDLE,
        "keepalives_interval": socket.TCP_KEEPINTVL,
        "keepalives_count": socket.TCP_KEEPCNT,
        "tcp_user_timeout": socket.TCP_USER_TIMEOUT,
    }
    with suppress(OSError), socket.fromfd(plain.fileno(), plain.family, socket.SOCK_STREAM) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(values["keepalives"] != 0))
        for name, option in names.items():
            if values[name] and (values["keepalives"] or name == "tcp_user_timeout"):
                own.setsockopt(socket.IPPROTO_TCP, option, values[name])


async def _keep(_connection: Any) -> None:
    """asyncpg's own reset is one more round trip for every use; nothing here changes session state."""


async def refuse_unsafe(connection: Any, *, role_prefix: str, service: str, allow_fsync_off: bool = False) -> None:
    """Raises `UnsafeDatabase` where the login can do more than the service's rights, or what it commits may be lost.

    `service` is the group's name without prefix (webhook, cli, …). Tables, columns and functions that the list does not
    know are not judged: a service accepts a schema that is newer than its own.
    """
    login = await connection.fetchrow(
        "select session_user::text as name, current_user::text as role, r.rolsuper, r.rolbypassrls, r.rolcreaterole,"
        " r.rolcreatedb, r.rolreplication from pg_catalog.pg_roles r where r.rolname = session_user"
    )
    name, role = login["name"], role_prefix + service
    for attribute, word in (
        ("rolsuper", "is a superuser"),
        ("rolbypassrls", "has BYPASSRLS"),
        ("rolcreaterole", "has CREATEROLE"),
        ("rolcreatedb", "has CREATEDB"),
        ("rolreplication", "has REPLICATION"),
    ):
        if login[attribute]:
            raise UnsafeDatabase(f"login {name} {word}; give the service a login that is a member of {role} only")
    if login["role"] != role:
        raise UnsafeDatabase(f"connected as {login['role']}, expected {role}")
    allowed = allowed_lines(service)
    members = {role} | {role_prefix + line.split()[-1] for line in allowed if line.startswith("member of ")}
    others = await connection.fetch(
        "select r.rolname from pg_catalog.pg_roles r where r.rolname <> session_user and r.rolname <> all ($1::name[])"
        " and pg_catalog.pg_has_role(session_user, r.oid, 'member') order by 1",
        sorted(members),
    )
    if others:
        names = ", ".join(row["rolname"] for row in others)
        raise UnsafeDatabase(f"login {name} may become {names}; it should be a member of {role} only")
    known = {_object(line.partition(": ")[2]) for line in ALLOWED.splitlines()}
    for who in (role, name):
        held = [row["line"] for row in await connection.fetch(LISTING, who)]
        extra = sorted(line for line in held if line not in allowed and _object(line) in known)
        if extra:
            raise UnsafeDatabase(f"role {who} has more rights than {service} needs: {'; '.join(extra[:5])}")
    said = await connection.fetchrow(
        "select current_setting('fsync') as fsync, current_setting('synchronous_commit') as synchronous_commit,"
        " current_setting('transaction_isolation') as isolation"
    )
    if not allow_fsync_off and said["fsync"] != "on":
        raise UnsafeDatabase("the server runs with fsync = off: an acknowledged event could be lost")
    if said["synchronous_commit"] not in DURABLE:
        raise UnsafeDatabase(
            f"synchronous_commit is {said['synchronous_commit']} in the session that writes, though it was set to on:"
            " an acknowledged event could be lost. A pooler on the way drops settings: let it share by session, or set"
            " NEXUS_AUTH_POOLER=transaction"
        )
    if said["isolation"] != "read committed":
        raise UnsafeDatabase(
            f"transactions are {said['isolation']} in the session that writes, though it was set to read committed:"
            " what other transactions commit would be missed. A pooler on the way drops settings: let it share by"
            " session, or set NEXUS_AUTH_POOLER=transaction"
        )


def allowed_lines(service: str) -> frozenset[str]:
    """The golden list's lines for one group (its name without prefix)."""
    lines: Sequence[str] = ALLOWED.splitlines()
    return frozenset(line.partition(": ")[2] for line in lines if line.startswith(f"{service}: "))


def _object(line: str) -> str:
    """A line without its last word, the privilege. The list has every column, also those that give nothing more."""
    return line.rpartition(" ")[0]
