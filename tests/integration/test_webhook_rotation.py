"""Secrets in mounted files: a rotated password is taken up without a restart, and nothing is lost on the way."""

import asyncio
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from devtools.clerk_emulator import Emulator, Settings
from devtools.postgres import Database, execute, fetch
from tests.commandline import CommandLine
from tests.events import SECRET, Signed, event, user
from tests.service import WebhookService
from tests.wire import until


@dataclass
class Login:
    """A login of the test's own, and the file that a Secret's mount would be."""

    database: Database
    name: str
    file: Path

    def url(self, password: str) -> str:
        parts = urlsplit(self.database.admin_url)
        address = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{self.name}:{password}@{address}"))

    def mount(self, text: str) -> None:
        """As the kubelet does: the new content appears whole, under the old name."""
        fresh = self.file.with_name(".next")
        fresh.write_text(text + "\n")
        os.replace(fresh, self.file)

    def rotate(self, password: str) -> None:
        execute(self.database.admin_url, f"alter role {self.name} password '{password}'")

    def pids(self) -> set[int]:
        listing = "select pid from pg_stat_activity where usename = $1"
        return {pid for (pid,) in fetch(self.database.admin_url, listing, self.name)}

    def cut(self) -> None:
        execute(
            self.database.admin_url,
            f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{self.name}'",
        )


@pytest.fixture
def login(database: Database, tmp_path: Path) -> Iterator[Login]:
    name = f"nexus_auth_test_{secrets.token_hex(4)}"
    execute(
        database.admin_url,
        f"create role {name} login noinherit password 'first'",
        f"grant clerk_webhook to {name}",
        f'grant connect on database "{database.name}" to {name}',
    )
    file = tmp_path / "url"
    made = Login(database, name, file)
    made.mount(made.url("first"))
    yield made
    execute(database.admin_url, f"drop owned by {name}", f"drop role {name}")


def followed(login: Login, folder: Path, *, wait: bool = True, **settings: str | None) -> WebhookService:
    address = {"DATABASE_URL": None, "NEXUS_AUTH_DATABASE_URL_FILE": str(login.file)}
    return WebhookService(login.database, folder=folder, wait=wait, **address, **settings)


def signed(number: int) -> Signed:
    return Signed(event("user.created", user(f"user_{number}")))


async def test_a_rotated_password_is_taken_up_without_a_restart(login: Login, tmp_path: Path) -> None:
    async with followed(login, tmp_path) as service:
        assert await service.post(signed(1)) == (204, "")
        before = service.pid, login.pids()
        login.rotate("second")
        login.mount(login.url("second"))
        await service.logged("database address changed")
        login.cut()
        assert await service.post(signed(2)) == (204, "")
        assert service.pid == before[0]
        assert not login.pids() & before[1]


async def test_without_the_new_file_a_rotated_password_locks_the_service_out(login: Login, tmp_path: Path) -> None:
    """The control: what the test above would see if nobody followed the file."""
    async with followed(login, tmp_path) as service:
        login.rotate("second")
        login.cut()
        assert (await service.post(signed(1)))[0] == 503


async def test_old_connections_end_their_work_and_are_closed(login: Login, tmp_path: Path) -> None:
    points = tmp_path / "failpoints"
    points.mkdir()
    async with followed(login, tmp_path, NEXUS_AUTH_FAILPOINTS_DIR=str(points)) as service:
        (points / "ingest.gathered").touch()
        under_way = asyncio.create_task(service.post(signed(1)))
        reached = points / f"ingest.gathered.{service.pid}.reached"

        async def stands() -> bool:
            return reached.exists()

        await until(stands)
        old = login.pids()
        login.rotate("second")
        login.mount(login.url("second"))
        await service.logged("database address changed")
        (points / "ingest.gathered").unlink()
        assert await under_way == (204, "")

        async def replaced() -> bool:
            await service.post(signed(2))
            return not login.pids() & old

        await until(replaced, seconds=40)


async def test_an_address_that_cannot_be_used_leaves_the_former_in_place(login: Login, tmp_path: Path) -> None:
    async with followed(login, tmp_path) as service:
        login.mount(login.url("mistyped"))
        said = await service.logged("database address not taken over, the former stays")
        assert said["error"] == "InvalidPasswordError"
        assert "mistyped" not in service.log.read_text()
        assert await service.post(signed(1)) == (204, "")
        login.rotate("third")
        login.mount(login.url("third"))
        await service.logged("database address changed")


async def test_a_login_with_more_rights_is_not_taken_over(login: Login, tmp_path: Path) -> None:
    async with followed(login, tmp_path) as service:
        login.mount(login.database.admin_url)
        said = await service.logged("database address not taken over, the former stays")
        assert said["error"] == "UnsafeDatabase"
        assert await service.post(signed(1)) == (204, "")


async def test_an_address_mended_before_the_first_connection_is_read_again(login: Login, tmp_path: Path) -> None:
    login.mount(login.url("mistyped"))
    async with followed(login, tmp_path, wait=False) as service:

        async def refused() -> bool:
            return "the database refused the login or its password" in (await service.health("/readyz"))[1]

        await until(refused)
        login.mount(login.url("first"))
        await service.ready()
        assert await service.post(signed(1)) == (204, "")


async def test_the_api_key_is_read_from_a_file(login: Login, tmp_path: Path) -> None:
    key = tmp_path / "key"
    async with Emulator(Settings(users=1, organizations=0, memberships=0)) as clerk:
        key.write_text(clerk.settings.secret_key + "\n")
        async with followed(
            login, tmp_path, CLERK_INSTANCE_ID=None, CLERK_SECRET_KEY_FILE=str(key), CLERK_API_URL=clerk.url
        ) as service:
            ready = await service.logged("ready")
            assert ready["instance_id"] == clerk.settings.instance_id


async def test_a_file_that_is_not_there_is_named(login: Login, tmp_path: Path) -> None:
    login.file.unlink()
    service = followed(login, tmp_path)
    with pytest.raises(AssertionError):
        await service.start()
    assert await service.wait() == 78
    assert f"No such file or directory: '{login.file}'" in service.log.read_text()


def test_migrate_reads_the_url_from_a_file(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "owner"
    file.write_text(database.admin_url + "\n")
    ran = CommandLine(tmp_path, DATABASE_URL_FILE=str(file), CLERK_WEBHOOK_SIGNING_SECRET=SECRET)("migrate")
    assert ran.code == 0, ran.err
    assert "is up to date" in ran.err


def test_migrate_names_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    ran = CommandLine(tmp_path, DATABASE_URL_FILE=str(tmp_path / "nowhere"))("migrate")
    assert ran.code == 2
    assert "DATABASE_URL_FILE cannot be read (FileNotFoundError)" in ran.err
