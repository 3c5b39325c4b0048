"""`nexus-auth migrate --logins-from`: the services' logins from mounted files, as often as it is called."""

import asyncio
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
import pytest

from devtools.postgres import Database, Server, create_database, execute, fetch
from nexus_auth.store.logins import LoginsRefused, read_logins
from nexus_auth.store.pool import open_pool, refuse_unsafe
from tests.commandline import CommandLine

ODD = "p@ss/wörd 'quoted' \\ back"


@pytest.fixture
def owned(own_server: Server) -> Database:
    """An empty database of an owner that may create roles and nothing more."""
    execute(own_server.admin_url(), "create role app_owner login createrole password 'deploys'")
    execute(own_server.admin_url(), "create database app owner app_owner")
    return Database(f"postgresql://app_owner:deploys@127.0.0.1:{own_server.port}/app?sslmode=disable")


def login_url(database: Database, login: str, password: str) -> str:
    parts = urlsplit(database.admin_url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{login}:{quote(password, safe='')}@{place}"))


def folder_of(place: Path, **files: str) -> Path:
    folder = place / "logins"
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


async def judged(url: str, service: str) -> None:
    pool = await open_pool(url, role=f"clerk_{service}", application="test", size=1)
    async with pool, pool.acquire() as connection:
        await refuse_unsafe(connection, role_prefix="clerk_", service=service)


def test_one_call_on_an_empty_database_makes_logins_that_services_accept(owned: Database, tmp_path: Path) -> None:
    webhook = login_url(owned, "hooks", ODD)
    folder_of(tmp_path, webhook=webhook + "\n", reconciler="just-a-password", cli=login_url(owned, "people", "x1"))
    migrate = CommandLine(tmp_path, DATABASE_URL=owned.admin_url)
    ran = migrate("migrate", "--logins-from", "logins")
    assert ran.code == 0, ran.err
    for line in ("login hooks made", "login clerk_reconciler_login made", "login people made"):
        assert line in ran.out
    asyncio.run(judged(webhook, "webhook"))
    asyncio.run(judged(login_url(owned, "clerk_reconciler_login", "just-a-password"), "reconciler"))
    asyncio.run(judged(login_url(owned, "people", "x1"), "cli"))
    assert fetch(owned.admin_url, "select rolinherit from pg_roles where rolname = 'hooks'")[0][0] is False

    again = migrate("migrate", "--logins-from", "logins")
    assert again.code == 0, again.err
    assert "login hooks updated" in again.out
    asyncio.run(judged(webhook, "webhook"))


def test_a_changed_file_rotates_the_password(owned: Database, tmp_path: Path) -> None:
    folder_of(tmp_path, webhook="first")
    migrate = CommandLine(tmp_path, DATABASE_URL=owned.admin_url)
    assert migrate("migrate", "--logins-from", "logins").code == 0
    folder_of(tmp_path, webhook="second")
    assert migrate("migrate", "--logins-from", "logins").code == 0
    asyncio.run(judged(login_url(owned, "clerk_webhook_login", "second"), "webhook"))
    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(judged(login_url(owned, "clerk_webhook_login", "first"), "webhook"))


def test_the_servers_log_holds_no_password(own_server: Server, tmp_path: Path) -> None:
    url = create_database(own_server.admin_url(), "logged")
    execute(own_server.admin_url(), "alter database logged set log_statement = 'all'")
    folder_of(tmp_path, webhook="very-secret-word")
    assert CommandLine(tmp_path, DATABASE_URL=url)("migrate", "--logins-from", "logins").code == 0
    log = own_server.log.read_text()
    assert "SCRAM-SHA-256$" in log
    assert "very-secret-word" not in log


@pytest.mark.parametrize("attribute", ["login superuser", "login createrole", "login bypassrls", "nologin"])
def test_a_role_that_no_service_may_be_is_refused_and_left_alone(
    own_server: Server, tmp_path: Path, attribute: str
) -> None:
    url = create_database(own_server.admin_url(), "refusing")
    execute(url, f"create role mighty {attribute} password 'kept'")
    folder_of(tmp_path, webhook="postgresql://mighty:secret-word@db/app")
    ran = CommandLine(tmp_path, DATABASE_URL=url)("migrate", "--logins-from", "logins")
    assert ran.code == 2
    assert "webhook: role mighty is" in ran.err
    assert "secret-word" not in ran.err
    kept = "select count(*) from pg_auth_members where member = 'mighty'::regrole"
    assert fetch(url, kept)[0][0] == 0


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no file there is named"),
        ({"dashboard": "x"}, "dashboard is no service"),
        ({"webhook": ""}, "must hold one line"),
        ({"webhook": "postgresql://me@db/app"}, "has no password"),
        ({"webhook": "postgresql://me:hush#word@db/app"}, "webhook: "),
        ({"webhook": "postgresql://me:a@db/app", "cli": "postgresql://me:b@db/app"}, "same login"),
    ],
)
def test_files_that_say_nothing_useful_are_named(tmp_path: Path, files: dict[str, str], said: str) -> None:
    folder = folder_of(tmp_path, **files)
    (folder / "..data").mkdir()
    with pytest.raises(LoginsRefused, match=said) as refused:
        read_logins(folder, role_prefix="clerk_")
    assert "hush" not in str(refused.value)
