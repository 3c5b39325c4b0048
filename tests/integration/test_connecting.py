"""The URLs and poolers that people use: one URL for every service, and every setting in the session that writes."""

import asyncio
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
import pytest

from devtools.pgbouncer import PgBouncer, pgbouncer
from devtools.postgres import Database, ForeignServer, Server, create_database, execute, fetch
from nexus_auth.store import leadership
from nexus_auth.store.address import read_address
from nexus_auth.store.certificate import TlsRefused
from nexus_auth.store.failure import explain, lock_holders
from nexus_auth.store.migrations import SQL_DIR, MigrationFailed, migrate, status
from nexus_auth.store.pool import NotWritable, UnsafeDatabase, open_pool, pooler_of, refuse_unsafe
from tests.commandline import CommandLine
from tests.conftest import prepare
from tests.events import Signed, event, user
from tests.service import WebhookService

FILES = sorted(file.name for file in SQL_DIR.glob("*.sql"))
SERVICES = ("webhook", "reconciler", "cli")
SETTINGS = (
    "select current_user::text as role, current_setting('synchronous_commit') as synchronous_commit,"
    " current_setting('transaction_isolation') as isolation, current_setting('timezone') as timezone,"
    " current_setting('statement_timeout') as statement_timeout"
)
WANTED = {
    "role": "clerk_webhook",
    "synchronous_commit": "on",
    "isolation": "read committed",
    "timezone": "UTC",
    "statement_timeout": "10s",
}


def logins(database: Database) -> list[str]:
    return [database.admin_url, *(database.url(service) for service in SERVICES)]


@pytest.fixture
def by_session(database: Database) -> Iterator[PgBouncer]:
    """PgBouncer with Debian's ini: session mode, no start-up parameter beyond its own."""
    with pgbouncer(*logins(database)) as pooler:
        yield pooler


@pytest.fixture
def by_transaction(database: Database) -> Iterator[PgBouncer]:
    """One that shares two server connections among all clients of a login."""
    with pgbouncer(*logins(database), mode="transaction", default_pool_size="2") as pooler:
        yield pooler


async def pool_of(url: str, service: str = "webhook", *, size: int = 3) -> Any:
    return await open_pool(url, role=f"clerk_{service}", application="test", size=size)


async def settings_of(url: str) -> dict[str, str]:
    async with await pool_of(url) as pool, pool.acquire() as connection:
        return dict(await connection.fetchrow(SETTINGS))


async def serve_an_event(database: Database, folder: Path, url: str) -> None:
    async with WebhookService(database, folder=folder, DATABASE_URL=url) as service:
        assert await service.post(Signed(event("user.created", user("user_ada")))) == (204, "")
    assert fetch(database.admin_url, "select id from clerk.users")[0][0] == "user_ada"


@pytest.mark.pgbouncer
async def test_every_service_works_through_a_pooler_with_its_default_ini(
    database: Database, by_session: PgBouncer, tmp_path: Path
) -> None:
    assert await pooler_of(read_address(by_session.url(database.url("webhook")))) == "session"
    await serve_an_event(database, tmp_path, by_session.url(database.url("webhook")))
    cli = CommandLine.of(database, tmp_path, CLI_DATABASE_URL=by_session.url(database.url("cli")))
    ran = await asyncio.to_thread(cli, "inbox", "list", "--output", "json")
    assert ran.code == 0, ran.err
    reconciler = await pool_of(by_session.url(database.url("reconciler")), "reconciler")
    async with reconciler as pool, pool.acquire() as connection, pool.acquire() as other:
        await refuse_unsafe(connection, role_prefix="clerk_", service="reconciler", allow_fsync_off=True)
        assert await leadership.take_lead(connection, "app") is True
        assert await leadership.take_lead(other, "app") is False
        assert await leadership.led_by(other, "app") == leadership.Leader(
            await connection.fetchval("select pg_backend_pid()"), "clerk_reconciler_login"
        )


@pytest.mark.pgbouncer
async def test_webhook_and_command_line_work_where_connections_are_shared_by_transaction(
    database: Database, by_transaction: PgBouncer, tmp_path: Path
) -> None:
    url = by_transaction.url(database.url("webhook"))
    assert await pooler_of(read_address(url)) == "transaction"
    people = [f"user_{number}" for number in range(40)]
    async with WebhookService(database, folder=tmp_path, DATABASE_URL=url) as service:
        signed = [Signed(event("user.created", user(person))) for person in people]
        assert set(await asyncio.gather(*map(service.post, signed))) == {(204, "")}
    assert fetch(database.admin_url, "select count(*) from clerk.users")[0][0] == 40
    cli = CommandLine.of(database, tmp_path, CLI_DATABASE_URL=by_transaction.url(database.url("cli")))
    for arguments in (("inbox", "list", "--output", "json"), ("replay", "--all"), ("explain", "user_1")):
        ran = await asyncio.to_thread(cli, *arguments)
        assert ran.code == 0, ran.err


@pytest.mark.pgbouncer
@pytest.mark.parametrize("said", ["", "&pgbouncer=true"])
async def test_each_transaction_has_the_services_settings_and_leaves_none_behind(
    database: Database, by_transaction: PgBouncer, said: str
) -> None:
    url = by_transaction.url(database.url("webhook"))
    async with await pool_of(url + said, size=6) as pool:

        async def once(number: int) -> None:
            async with pool.acquire() as connection:
                assert dict(await connection.fetchrow(SETTINGS)) == WANTED
                async with connection.transaction():
                    assert dict(await connection.fetchrow(SETTINGS)) == WANTED
                    async with connection.transaction():
                        assert await connection.fetchval("select $1::int", number) == number
                with pytest.raises(asyncpg.DivisionByZeroError):
                    await connection.execute("select 1 / 0")
                assert await connection.fetchval("select $1::text", "x") == "x"

        await asyncio.gather(*map(once, range(30)))
    other = await asyncpg.connect(url, statement_cache_size=0)
    try:
        assert await other.fetchval("select current_user") == "clerk_webhook_login"
    finally:
        await other.close()


@pytest.mark.pgbouncer
async def test_what_needs_a_session_refuses_a_pooler_that_has_none(
    database: Database, by_transaction: PgBouncer
) -> None:
    reconciler = await pool_of(by_transaction.url(database.url("reconciler")), "reconciler")
    async with reconciler as pool, pool.acquire() as connection:
        with pytest.raises(UnsafeDatabase, match="needs a session"):
            await leadership.take_lead(connection, "app")
    with pytest.raises(MigrationFailed, match="give migrate a direct URL"):
        migrate(by_transaction.url(database.admin_url))


@pytest.mark.pgbouncer
async def test_a_pooler_that_is_taken_for_another_kind_is_noticed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings of a session are lost where the pooler resets its connections after each transaction."""
    monkeypatch.setenv("NEXUS_AUTH_POOLER", "session")
    reset = {"server_reset_query": "DISCARD ALL", "server_reset_query_always": "1"}
    with pgbouncer(*logins(database), mode="transaction", **reset) as pooler:
        async with await pool_of(pooler.url(database.url("webhook"))) as pool, pool.acquire() as connection:
            with pytest.raises((UnsafeDatabase, asyncpg.PostgresError)) as refused:
                await refuse_unsafe(connection, role_prefix="clerk_", service="webhook", allow_fsync_off=True)
    assert explain(refused.value).kind in ("unsafe", "pooler")


@pytest.mark.pgbouncer
def test_migrations_go_through_a_pooler_that_shares_by_session(postgres: Server | ForeignServer) -> None:
    url = create_database(postgres.admin_url(), "nexus_auth_pooled")
    try:
        with pgbouncer(url) as pooler:
            assert migrate(pooler.url(url)) == FILES
    finally:
        execute(postgres.admin_url(), 'drop database "nexus_auth_pooled" with (force)')


DROPPED = "role,synchronous_commit,statement_timeout,jit,default_transaction_isolation,options"


@pytest.mark.pgbouncer
@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_an_acknowledged_commit_is_durable_whatever_the_logins_default(database: Database, mode: str) -> None:
    """D10: the login's default is off, and the pooler drops what the start-up packet says."""
    execute(database.admin_url, "alter role clerk_webhook_login set synchronous_commit = off")
    try:
        with pgbouncer(*logins(database), mode=mode, ignore_startup_parameters=DROPPED) as pooler:
            assert await settings_of(pooler.url(database.url("webhook"))) == WANTED
        assert await settings_of(database.url("webhook")) == WANTED
    finally:
        execute(database.admin_url, "alter role clerk_webhook_login reset synchronous_commit")


@pytest.mark.pgbouncer
async def test_acknowledged_events_outlive_a_server_that_stops_at_once(own_server: Server, tmp_path: Path) -> None:
    """D10, by what it costs: forty events through such a pooler, and the server killed after the last answer."""
    own = prepare(own_server, "nexus_auth")
    execute(own.admin_url, "alter role clerk_webhook_login set synchronous_commit = off")
    with pgbouncer(*logins(own), ignore_startup_parameters=DROPPED) as pooler:
        async with WebhookService(own, folder=tmp_path, DATABASE_URL=pooler.url(own.url("webhook"))) as service:
            for number in range(40):
                assert await service.post(Signed(event("user.created", user(f"user_{number}")))) == (204, "")
            own_server.kill()
    own_server.start()
    assert fetch(own.admin_url, "select count(*) from clerk.users")[0][0] == 40


@pytest.mark.pgbouncer
@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_transactions_are_read_committed_whatever_the_databases_default(
    database: Database, by_session: PgBouncer, by_transaction: PgBouncer, level: str
) -> None:
    """D9."""
    execute(database.admin_url, f"alter database \"{database.name}\" set default_transaction_isolation = '{level}'")
    for url in (database.url("webhook"), by_session.url(database.url("webhook"))):
        assert await settings_of(url) == WANTED
    assert await settings_of(by_transaction.url(database.url("webhook"))) == WANTED
    pool = await pool_of(database.url("webhook"))
    async with pool, pool.acquire() as connection, connection.transaction():
        assert await connection.fetchval("show transaction_isolation") == "read committed"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("synchronous_commit = off", "synchronous_commit is off"),
        ("default_transaction_isolation = 'serializable'", "are"),
    ],
)
async def test_a_session_that_lost_its_settings_is_refused_in_a_sentence(
    database: Database, setting: str, said: str
) -> None:
    async with await pool_of(database.url("webhook")) as pool, pool.acquire() as connection:
        await connection.execute(f"set {setting}")
        with pytest.raises(UnsafeDatabase, match=said):
            await refuse_unsafe(connection, role_prefix="clerk_", service="webhook", allow_fsync_off=True)


def query(url: str, more: str) -> str:
    return f"{url}{'&' if urlsplit(url).query else '?'}{more}"


LIBPQ = [
    "channel_binding=prefer&connect_timeout=10",
    "keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3&tcp_user_timeout=9000",
    "application_name=billing",
    "target_session_attrs=read-write",
    "options=-c%20search_path%3Dpublic",
    "gssencmode=disable&sslcompression=0&sslsni=1",
]


@pytest.mark.parametrize("more", LIBPQ)
async def test_libpqs_parameters_work_for_every_program(database: Database, tmp_path: Path, more: str) -> None:
    for service in ("webhook", "reconciler"):
        async with await pool_of(query(database.url(service), more), service) as pool, pool.acquire() as connection:
            assert await connection.fetchval("select 1") == 1
    cli = CommandLine.of(database, tmp_path, CLI_DATABASE_URL=query(database.url("cli"), more))
    ran = await asyncio.to_thread(cli, "inbox", "list", "--output", "json")
    assert ran.code == 0, ran.err
    assert migrate(query(database.admin_url, more)) == []


async def test_of_several_hosts_the_one_that_answers_is_taken_by_every_program(
    database: Database, tmp_path: Path
) -> None:
    def several(url: str) -> str:
        parts = urlsplit(url)
        login, _, place = parts.netloc.rpartition("@")
        hosts = parts._replace(netloc=f"{login}@127.0.0.1:1,{place}")
        return query(urlunsplit(hosts), "target_session_attrs=read-write")

    assert await settings_of(several(database.url("webhook"))) == WANTED
    cli = CommandLine.of(database, tmp_path, CLI_DATABASE_URL=several(database.url("cli")))
    assert (await asyncio.to_thread(cli, "inbox", "list", "--output", "json")).code == 0
    assert migrate(several(database.admin_url)) == []


async def test_a_host_that_never_answers_does_not_use_up_the_time_of_the_next(database: Database) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1)
        parts = urlsplit(database.url("webhook"))
        login, _, place = parts.netloc.rpartition("@")
        hosts = parts._replace(netloc=f"{login}@127.0.0.1:{deaf.getsockname()[1]},{place}")
        assert await settings_of(query(urlunsplit(hosts), "connect_timeout=1")) == WANTED


async def test_hosts_of_which_none_can_be_written_to_are_told(database: Database) -> None:
    execute(database.admin_url, f'alter database "{database.name}" set default_transaction_read_only = on')
    with pytest.raises(NotWritable) as refused:
        await pool_of(query(database.url("webhook"), "target_session_attrs=read-write"))
    assert explain(refused.value).kind == "read-only"


async def test_a_socket_is_reached_by_its_percent_encoded_folder(own_server: Server, tmp_path: Path) -> None:
    own = prepare(own_server, "nexus_auth")
    folder = fetch(own.admin_url, "show unix_socket_directories")[0][0].strip('"')

    def local(url: str) -> str:
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{login}@{quote(folder, safe='')}:{parts.port}", query=""))

    assert await settings_of(local(own.url("webhook"))) == WANTED
    assert migrate(local(own.admin_url)) == []


async def test_the_urls_keepalives_reach_the_socket(database: Database) -> None:
    url = query(database.url("webhook"), "keepalives_idle=77&keepalives_count=4&tcp_user_timeout=5000")
    async with await pool_of(url) as pool, pool.acquire() as connection:
        own = connection._transport.get_extra_info("socket")
        assert own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        values = (socket.TCP_KEEPIDLE, 77), (socket.TCP_KEEPCNT, 4), (socket.TCP_KEEPINTVL, 10)
        for option, value in (*values, (socket.TCP_USER_TIMEOUT, 5000)):
            assert own.getsockopt(socket.IPPROTO_TCP, option) == value


@pytest.fixture(scope="module")
def certified(postgres: Server | ForeignServer) -> Iterator[tuple[str, Path]]:
    """The administrator's URL of a server behind TLS, whose certificate is for `db.internal`, and its authority's.

    The embedded server was built without TLS; PgBouncer speaks it.
    """
    openssl = shutil.which("openssl")
    assert openssl is not None
    with tempfile.TemporaryDirectory(prefix="nexus-auth-tls-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for command in (
            "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=authority",
            "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=db.internal",
        ):
            subprocess.run([openssl, *command.split()], cwd=folder, check=True, capture_output=True)
        (folder / "names").write_text("subjectAltName=DNS:db.internal\n")
        sign = (
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt"
        )
        subprocess.run([openssl, *sign.split()], cwd=folder, check=True, capture_output=True)
        (folder / "server.key").chmod(0o644)
        files = {"client_tls_key_file": folder / "server.key", "client_tls_cert_file": folder / "server.crt"}
        told = {name: str(file) for name, file in files.items()}
        with pgbouncer(postgres.admin_url(), client_tls_sslmode="require", **told) as pooler:
            yield pooler.url(postgres.admin_url()), folder / "ca.crt"


def over_tls(url: str, **parameters: str) -> str:
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return urlunsplit(urlsplit(url)._replace(query=query))


@pytest.mark.pgbouncer
@pytest.mark.parametrize("parameters", [{"sslmode": "verify-full"}, {"channel_binding": "require"}])
async def test_a_wrong_host_name_is_told_with_the_name_that_the_certificate_has(
    certified: tuple[str, Path], tmp_path: Path, parameters: dict[str, str]
) -> None:
    server, authority = certified
    url = over_tls(server, sslrootcert=str(authority), **parameters)
    with pytest.raises(TlsRefused, match=r"the certificate of 127\.0\.0\.1 is for db\.internal"):
        await pool_of(url)
    with pytest.raises(MigrationFailed, match=r"is for db\.internal"):
        migrate(url)
    ran = await asyncio.to_thread(CommandLine(tmp_path, CLI_DATABASE_URL=url), "inbox", "list")
    assert ran.code == 3
    assert "is for db.internal" in ran.err
    assert "percent-encode" not in ran.err


@pytest.mark.pgbouncer
async def test_a_certificate_of_another_authority_is_told_with_the_file_that_was_asked(
    certified: tuple[str, Path],
) -> None:
    server, authority = certified
    url = over_tls(server, sslrootcert=str(authority), sslmode="verify-ca")
    assert await pooler_of(read_address(url)) == "session"
    assert status(url) != {}
    with pytest.raises(TlsRefused, match="was not signed by the system's certificates"):
        await pool_of(over_tls(server, sslrootcert="system"))


async def test_a_server_without_tls_is_told_by_the_parameter_that_asks_for_it(database: Database) -> None:
    plain = urlunsplit(urlsplit(database.url("webhook"))._replace(query=""))
    for parameters, said in (("sslmode=require", "sslmode=require"), ("channel_binding=require", "channel_binding")):
        with pytest.raises(TlsRefused, match="does not speak TLS") as refused:
            await pool_of(query(plain, parameters))
        assert said in str(refused.value)


async def test_an_unknown_parameter_is_named_by_every_program(database: Database, tmp_path: Path) -> None:
    ran = await asyncio.to_thread(
        CommandLine(tmp_path, CLI_DATABASE_URL=query(database.url("cli"), "connection_limit=1")), "inbox", "list"
    )
    assert ran.code == 3
    assert "connection_limit" in ran.err
    assert "migrate" not in ran.err
    with pytest.raises(MigrationFailed, match="connection_limit"):
        migrate(query(database.admin_url, "connection_limit=1"))
    with pytest.raises(ValueError, match="connection_limit"):
        await pool_of(query(database.url("webhook"), "connection_limit=1"))


WRAPPER = """
create extension file_fdw;
create server clerk_server foreign data wrapper file_fdw;
create schema clerk;
create foreign table clerk.users (id text) server clerk_server options (filename '/dev/null');
"""


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("create schema clerk; create table clerk.users (id int); create table clerk.t (id int)", "holds 2 tables"),
        (WRAPPER, "1 tables of the foreign data wrapper file_fdw"),
        ("create schema clerk_private", "schema clerk_private exists already"),
    ],
)
def test_a_schema_of_somebody_else_is_left_alone_and_named(own_server: Server, made: str, said: str) -> None:
    url = create_database(own_server.admin_url(), "taken")
    execute(url, made)
    with pytest.raises(MigrationFailed) as refused:
        migrate(url)
    assert said in str(refused.value)
    assert "belongs to postgres" in str(refused.value)
    assert "42P06" in str(refused.value)


async def test_what_a_database_refuses_is_told_apart(database: Database) -> None:
    """C2 and C6: no sentence sends people to run the migrations where something else is wrong."""

    async def refused(statement: str, url: str | None = None) -> str:
        try:
            async with await pool_of(url or database.url("webhook"), size=1) as pool, pool.acquire() as connection:
                await connection.execute(statement)
        except (asyncpg.PostgresError, OSError) as error:
            return explain(error, role="clerk_webhook").kind
        return ""

    assert await refused("delete from clerk_private.inbox_seen") == "rights"
    assert await refused("select * from clerk.nowhere") == "schema"
    assert await refused("execute gone") == "pooler"
    assert await refused("select 1", query(database.url("webhook"), "options=-c%20nonsense_setting%3D1")) == "address"
    execute(database.admin_url, f'alter database "{database.name}" set default_transaction_read_only = on')
    assert await refused("insert into clerk_private.inbox_seen (svix_id) values ('x')") == "read-only"


async def test_who_keeps_writers_waiting_is_named(database: Database) -> None:
    holder = await asyncpg.connect(database.admin_url)
    try:
        async with holder.transaction():
            await holder.execute("lock table clerk.users in access exclusive mode")
            async with await pool_of(database.url("webhook")) as pool, pool.acquire() as connection:
                (found,) = await lock_holders(connection)
            assert (found.role, found.relation) == ("postgres", "clerk.users")
            assert re.fullmatch(r"process \d+ of postgres \(AccessExclusiveLock on clerk\.users\)", str(found))
    finally:
        await holder.close()


async def test_who_holds_a_syncs_lock_is_named_whoever_it_is(database: Database) -> None:
    stranger = await asyncpg.connect(database.url("app"))
    try:
        key = "select pg_advisory_lock($1, hashtext($2))"
        await stranger.execute("set role anon")
        await stranger.fetchval(key, leadership.LEADER_LOCK, "app")
        async with await pool_of(database.url("reconciler"), "reconciler") as pool, pool.acquire() as connection:
            assert await leadership.take_lead(connection, "app") is False
            holder = await leadership.led_by(connection, "app")
            assert holder is not None
            assert holder.login == "app_login"
    finally:
        await stranger.close()
