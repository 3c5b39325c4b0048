"""`nexus-auth migrate` and `instance`, where settings come from, and what is said when the database is not there."""

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from devtools.clerk_emulator import Emulator, Settings
from devtools.postgres import Database, ForeignServer, Server, create_database, drop_database
from tests.commandline import CommandLine, change, rows, store
from tests.events import INSTANCE, SECRET, event, user


@pytest.fixture
def nexus_auth(database: Database, tmp_path: Path) -> CommandLine:
    return CommandLine.of(database, tmp_path)


@pytest.fixture
def empty(postgres: Server | ForeignServer) -> Iterator[Database]:
    """A database that nobody migrated."""
    name = f"nexus_auth_empty_{secrets.token_hex(4)}"
    yield Database(create_database(postgres.admin_url(), name))
    drop_database(postgres.admin_url(), name)


def with_password(url: str, password: str) -> str:
    parts = urlsplit(url)
    login = f"{parts.username}:{password}@{parts.hostname}:{parts.port}"
    return urlunsplit(parts._replace(netloc=login))


def run_file(folder: Path, database: Database, **variables: str) -> Path:
    file = folder / ".run" / "env"
    file.parent.mkdir()
    file.touch(mode=0o600)
    written = {"CLI_DATABASE_URL": database.url("cli"), "WEBHOOK_SECRETS": SECRET, **variables}
    file.write_text("# written by make run\n" + "".join(f"{name}='{value}'\n" for name, value in written.items()))
    return file


def test_migrate_applies_what_is_missing_and_says_so(empty: Database, tmp_path: Path) -> None:
    migrate = CommandLine(tmp_path, DATABASE_URL=empty.admin_url)
    ran = migrate("migrate")
    assert ran.code == 0, ran.err
    assert "applied 20261125000001_roles_and_schemas.sql" in ran.out
    assert rows(empty, "select count(*) from clerk.users") == [(0,)]
    again = migrate("migrate")
    assert (again.code, again.out) == (0, "")
    assert "is up to date" in again.err
    named = CommandLine(tmp_path, OWNER_URL=empty.admin_url)
    assert named("migrate", "--database-url-env", "OWNER_URL").code == 0


def test_migrate_says_what_it_lacks(empty: Database, tmp_path: Path) -> None:
    migrate = CommandLine(tmp_path)
    assert "DATABASE_URL is not set" in migrate("migrate").err
    assert migrate("migrate").code == 2
    assert migrate("migrate", DATABASE_URL="mysql://a:secret@b/c").code == 2
    assert migrate("migrate", DATABASE_URL="postgresql://a:123/secret@b/c").code == 2
    ran = migrate("migrate", DATABASE_URL=with_password(empty.admin_url, "wrong-password"))
    assert ran.code == 3
    assert "was not migrated" in ran.err
    assert "refused the login or its password" in ran.err
    ran = migrate("migrate", "--wait", "0", DATABASE_URL="postgresql://owner:secret-word@127.0.0.1:1/x")
    assert ran.code == 3
    assert "cannot be reached" in ran.err
    ran = migrate("migrate", DATABASE_URL=empty.admin_url, NEXUS_AUTH_ROLE_PREFIX="1; drop")
    assert ran.code == 2


def test_an_instance_is_claimed_shown_and_claimed_by_another(database: Database, nexus_auth: CommandLine) -> None:
    ran = nexus_auth("instance", "show")
    assert (ran.code, ran.err) == (1, "Error: this database belongs to no Clerk instance yet\n")
    assert nexus_auth("instance", "show", "--output", "json").json() == {"instance": None}
    assert nexus_auth("instance", "claim", "ins_one").out == "this database belongs to ins_one now\n"
    assert "ins_one already" in nexus_auth("instance", "claim", "ins_one").err
    shown = nexus_auth("instance", "show", "--output", "json").json()["instance"]
    assert (shown["id"], shown["claimed_by"]) == ("ins_one", "clerk_cli_login")
    assert "ins_one" in nexus_auth("instance", "show").out

    ran = nexus_auth("instance", "claim", "ins_two")
    assert ran.code == 2
    assert "belongs to ins_one" in ran.err
    assert "--yes" in ran.err
    assert rows(database, "select id from clerk_private.instance") == [("ins_one",)]
    ran = nexus_auth("instance", "claim", "ins_two", "--yes")
    assert ran.code == 0
    assert "rows and events of ins_one are still there" in ran.err
    assert rows(database, "select id from clerk_private.instance") == [("ins_two",)]


@pytest.mark.parametrize("name", ["one", "ins_", "ins_a b", "user_1"])
def test_what_is_no_instance_claims_nothing(database: Database, nexus_auth: CommandLine, name: str) -> None:
    assert nexus_auth("instance", "claim", name).code == 2
    assert rows(database, "select * from clerk_private.instance") == []


async def test_the_key_says_whose_it_is_before_a_claim(database: Database, nexus_auth: CommandLine) -> None:
    settings = Settings(users=0, organizations=0, memberships=0)
    async with Emulator(settings) as clerk:
        asks = {"CLERK_API_URL": clerk.api_url, "CLERK_SECRET_KEY": settings.secret_key}
        ran = await asyncio.to_thread(nexus_auth, "instance", "claim", "ins_other", **asks)
        assert ran.code == 1
        assert f"CLERK_SECRET_KEY belongs to {settings.instance_id}, not to ins_other" in ran.err
        wrong = {**asks, "CLERK_SECRET_KEY": "sk_test_wrong"}
        ran = await asyncio.to_thread(nexus_auth, "instance", "claim", settings.instance_id, **wrong)
        assert ran.code == 4
        assert "check CLERK_SECRET_KEY" in ran.err
        ran = await asyncio.to_thread(nexus_auth, "instance", "claim", settings.instance_id, **asks)
        assert ran.code == 0
    ran = await asyncio.to_thread(nexus_auth, "instance", "claim", "ins_other", "--yes", **asks)
    assert ran.code == 4
    assert "cannot be reached" in ran.err
    ran = await asyncio.to_thread(nexus_auth, "instance", "claim", "ins_other", "--yes", "--no-check", **asks)
    assert ran.code == 0


def test_settings_come_from_a_running_make_run_above(database: Database, tmp_path: Path) -> None:
    run_file(tmp_path, database)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (known,) = store(database, event("user.created", user("user_ada")))
    nexus_auth = CommandLine(below)
    assert nexus_auth("inbox", "verify", known).code == 0
    assert nexus_auth("replay", "--all").code == 0


def test_a_file_that_others_can_read_is_not_believed(database: Database, tmp_path: Path) -> None:
    file = run_file(tmp_path, database)
    file.chmod(0o640)
    ran = CommandLine(tmp_path)("inbox", "list")
    assert ran.code == 2
    assert "mode 0600" in ran.err
    file.chmod(0o600)
    file.write_text("CLI_DATABASE_URL='unfinished\n")
    assert "cannot be read" in CommandLine(tmp_path)("inbox", "list").err
    if os.geteuid() == 0:
        os.chown(file, 12345, 12345)
        assert "must belong to you" in CommandLine(tmp_path)("inbox", "list").err


def test_the_environment_is_another_world_than_the_file(database: Database, tmp_path: Path) -> None:
    """An address of the one with a key of the other would send the key astray."""
    run_file(tmp_path, database, CLERK_INSTANCE_ID=INSTANCE, CLERK_API_URL="http://127.0.0.1:1")
    store(database, event("user.created", user("user_ada")))
    ran = CommandLine(tmp_path)("replay", "--all", CLERK_INSTANCE_ID="ins_another")
    assert ran.code == 0
    ran = CommandLine.of(database, tmp_path)("replay", "--all", CLERK_INSTANCE_ID="ins_another")
    assert ran.code == 3
    both = {"CLI_DATABASE_URL": database.url("cli"), "DATABASE_URL": "postgresql://nobody:secret-word@127.0.0.1:1/x"}
    assert CommandLine(tmp_path, **both)("inbox", "list").code == 0


def test_without_any_database_it_says_where_to_name_one(tmp_path: Path) -> None:
    for arguments in (("inbox", "list"), ("inbox", "show", "msg_1"), ("replay", "--all"), ("instance", "show")):
        ran = CommandLine(tmp_path)(*arguments)
        assert ran.code == 2
        assert ran.err.startswith("Error: no database is named: set CLI_DATABASE_URL")


def test_a_database_that_cannot_be_used_is_one_sentence_and_exit_3(
    database: Database, empty: Database, tmp_path: Path
) -> None:
    url = database.url("cli")
    lacking = urlunsplit(urlsplit(url)._replace(path="/nowhere"))
    unmigrated = urlunsplit(urlsplit(url)._replace(path=urlsplit(empty.admin_url).path))
    for address, environment, said in (
        ("postgresql://clerk_cli_login:secret-word@127.0.0.1:1/x", {}, "cannot be reached"),
        ("postgresql://clerk_cli_login:secret-word@nowhere.invalid/x", {}, "cannot be reached"),
        ("postgresql://clerk_cli_login:secret-word@127.0.0.1:port/x", {}, "is no Postgres URL that can be used"),
        ("postgresql://clerk_cli_login:123/secret-word@127.0.0.1/x", {}, "is no Postgres URL"),
        ("mysql://clerk_cli_login:secret-word@127.0.0.1/x", {}, "is no Postgres URL"),
        (with_password(url, "wrong-password"), {}, "refused the login or its password"),
        (lacking, {}, "the database does not exist"),
        (unmigrated, {}, "run nexus-auth migrate"),
        (database.url("webhook"), {}, "must be a member of clerk_cli"),
        (database.admin_url, {}, "is a superuser"),
        (url, {"NEXUS_AUTH_ROLE_PREFIX": "other_"}, "no role other_cli"),
    ):
        ran = CommandLine(tmp_path, CLI_DATABASE_URL=address)("inbox", "list", **environment)
        assert said in ran.err, (address, ran.err)
        assert ran.code == 3
        assert ran.out == ""
        assert len(ran.err.splitlines()) == 1
    ran = CommandLine(tmp_path, CLI_DATABASE_URL=url)("inbox", "list", NEXUS_AUTH_ROLE_PREFIX="No!")
    assert ran.code == 2
    assert ran.err.startswith("Error: NEXUS_AUTH_ROLE_PREFIX: ")


def test_a_login_with_more_rights_than_listed_is_refused(database: Database, nexus_auth: CommandLine) -> None:
    change(database, "grant delete on clerk_private.inbox to clerk_cli")
    ran = nexus_auth("inbox", "list")
    assert ran.code == 3
    assert "more rights than cli needs" in ran.err


def test_help_needs_nothing(tmp_path: Path) -> None:
    for arguments in (
        (),
        ("inbox",),
        ("inbox", "list"),
        ("inbox", "verify"),
        ("replay",),
        ("instance", "claim"),
        ("migrate",),
    ):
        ran = CommandLine(tmp_path)(*arguments, "--help")
        assert ran.code == 0
        assert "Usage: nexus-auth" in ran.out


def test_it_runs_as_a_program_and_as_a_module(database: Database, tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "CLI_DATABASE_URL": database.url("cli"),
    }
    module = "from services.cli.__main__ import main; main()"
    for program in (["-m", "services.cli"], ["-c", module]):
        for arguments, code in ((["inbox", "list"], 0), (["instance", "show"], 1), (["replay"], 2)):
            command = [sys.executable, *program, *arguments]
            done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == code, done.stderr
            assert "Traceback" not in done.stderr
